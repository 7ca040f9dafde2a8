"""Pure: common/addresses.py; text in, an address or a sentence out."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from common.addresses import (
    Address,
    is_loopback_host,
    link_address,
    link_endpoint,
    parse_address,
    parse_host_port,
    parse_link_base,
    service_url,
)

WORKER = "0123456789abcdef" * 2

ports = st.integers(0, 65535)
hosts = st.from_regex(r"[A-Za-z0-9._-]{1,30}", fullmatch=True)
v6_hosts = st.ip_addresses(v=6).map(lambda ip: f"[{ip}]")
netlocs = st.tuples(hosts | st.ip_addresses(v=4).map(str) | v6_hosts, ports).map(
    lambda pair: f"{pair[0]}:{pair[1]}"
)
paths = st.from_regex(r"(/[a-z0-9._-]{1,8}){0,4}", fullmatch=True)
addresses = st.one_of(
    st.tuples(st.sampled_from(["ws://", "wss://"]), netlocs, paths).map("".join),
    st.tuples(st.sampled_from(["tcp://", "tls+tcp://"]), netlocs).map("".join),
    st.from_regex(r"ipc://(/[a-z0-9._-]{1,8}){1,4}", fullmatch=True),
)


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:54321", "127.0.0.1", 54321),
        ("localhost:0", "localhost", 0),
        ("my-gateway_1.example.com:65535", "my-gateway_1.example.com", 65535),
        ("[::1]:80", "::1", 80),
        ("[fe80::1%eth0]:80", "fe80::1%eth0", 80),
        ("[::ffff:10.0.0.1]:80", "::ffff:10.0.0.1", 80),
    ],
)
def test_host_and_port_are_told_apart(text: str, host: str, port: int) -> None:
    assert parse_host_port(text) == (host, port)


@pytest.mark.parametrize(
    "text",
    ["", ":", "x", "host", "host:", ":80", "[::1]", "host:-1", "host:+1", "host: 1", "host:1 ", "host:80\n",
     "host:65536", "host:" + "9" * 5000, "host:8_0", "host:\u0663", "host:\uff18", "host:²", "host:0x50",
     "host:http"],
)  # fmt: skip
def test_what_has_no_host_or_no_port_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="127") as caught:
        parse_host_port(text)
    assert str(caught.value) == f"{text!r} is not host:port, as in 127.0.0.1:54321"


@pytest.mark.parametrize(
    "host",
    ["*", " ", "a b", " localhost", "localhost ", "höst", "\uff48ost", "user@host", "a/b", "a\n", "a\tb",
     "$HOST", "[]", "[x]", "[*]", "[127.0.0.1]", "[::1 ]", "[::g]", "[::1%]", "[::1%a b]",
     "[[::1]]", "[::1]x", "[::1"],
)  # fmt: skip
def test_what_is_no_host_is_refused_with_what_would_be(host: str) -> None:
    with pytest.raises(ValueError, match="is no host") as caught:
        parse_host_port(f"{host}:80")
    assert str(caught.value) == (
        f"{f'{host}:80'!r}: {host!r} is no host: write a name or address (0.0.0.0 or [::] for any)"
    )


@pytest.mark.parametrize("text", ["::1", "::1:80", "fe80::1:80", "a:b:80"])
def test_an_ipv6_host_without_its_brackets_is_refused_with_how_to_write_it(text: str) -> None:
    with pytest.raises(ValueError, match="brackets") as caught:
        parse_host_port(text)
    assert str(caught.value) == f"{text!r}: write an IPv6 host in brackets, as in [::1]:54321"


@given(st.text(max_size=20) | st.text("[]:.*%0123456789a ", max_size=20))
@example("[::1%\u0661]:1")
def test_what_is_taken_as_host_and_port_is_plain_ascii_and_anything_else_a_value_error(text: str) -> None:
    try:
        host, port = parse_host_port(text)
    except ValueError as error:
        said = str(error)
        assert repr(text) in said
    else:
        assert re.fullmatch(r"[A-Za-z0-9.:%_-]+", host)
        assert 0 <= port <= 65535


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("ws://gateway:54001", Address("ws", "gateway", 54001)),
        ("ws://gateway:54001/", Address("ws", "gateway", 54001)),
        ("wss://[::1]:443/fleet/a", Address("wss", "::1", 443, "/fleet/a")),
        ("tcp://10.0.0.1:1", Address("tcp", "10.0.0.1", 1)),
        ("tls+tcp://gateway:1/", Address("tls+tcp", "gateway", 1)),
        ("ipc:///run/pipeline/link", Address("ipc", path="/run/pipeline/link")),
        ("ipc:///run/a b:c", Address("ipc", path="/run/a b:c")),
    ],
)
def test_an_address_is_taken_apart(text: str, address: Address) -> None:
    assert parse_address(text) == address


@given(addresses)
def test_an_address_is_written_as_it_was_read(text: str) -> None:
    assert str(parse_address(text)) == text


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "'' is not an address of the fleet: write scheme://…, with one of ws, wss, tcp, tls+tcp, ipc"),
        ("127.0.0.1:1", "'127.0.0.1:1' is not an address of the fleet: write scheme://…, with one of "),
        ("http://h:1", "'http://h:1' is not an address of the fleet: write scheme://…, with one of "),
        ("WS://h:1", "'WS://h:1' is not an address of the fleet: write scheme://…, with one of "),
        ("ipc://run/x", "'ipc://run/x': ipc takes an absolute path, as in ipc:///run/pipeline/service"),
        ("ipc://", "'ipc://': ipc takes an absolute path, as in ipc:///run/pipeline/service"),
        ("tcp://h:1/x", "'tcp://h:1/x': tcp takes no path, only host:port"),
        ("ws://h", "'h' is not host:port, as in 127.0.0.1:54321"),
        ("ws:///x", "'' is not host:port, as in 127.0.0.1:54321"),
        ("tcp://*:80", "'*:80': '*' is no host: write a name or address (0.0.0.0 or [::] for any)"),
    ],
)
def test_what_is_wrong_with_an_address_is_said(text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=r" ") as caught:
        parse_address(text)
    assert str(caught.value).startswith(sentence)


@given(st.text(max_size=30) | addresses.flatmap(lambda a: st.integers(0, len(a)).map(lambda n: a[:n])))
def test_any_text_is_an_address_or_a_value_error(text: str) -> None:
    try:
        address = parse_address(text)
    except ValueError:
        return
    assert parse_address(str(address)) == address


def test_an_ipc_path_is_at_most_what_a_unix_socket_takes() -> None:
    path = "/" + "x" * 106
    assert parse_address(f"ipc://{path}").path == path
    with pytest.raises(ValueError, match="ipc") as caught:
        parse_address(f"ipc://{path}x")
    assert str(caught.value) == f"'ipc://{path}x': ipc takes a path of at most 107 bytes"


def test_an_ipc_path_is_counted_in_bytes() -> None:
    assert parse_address("ipc:///" + "é" * 53)
    with pytest.raises(ValueError, match="ipc takes a path of at most 107 bytes"):
        parse_address("ipc:///" + "é" * 53 + "x")


def test_an_ipc_path_that_links_are_made_of_leaves_room_for_theirs() -> None:
    longest = parse_link_base("ipc:///" + "x" * 73)
    link = link_address(longest, link_endpoint(longest, WORKER))
    assert len(link.path) == 107
    assert parse_address(str(link)) == link
    with pytest.raises(ValueError, match="ipc takes a path of at most 74 bytes"):
        parse_link_base("ipc:///" + "x" * 74)
    assert parse_link_base("ws://h:1/" + "x" * 200).path == "/" + "x" * 200


@pytest.mark.parametrize(
    ("host", "is_loopback"),
    [
        ("localhost", True),
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("localhost.example.com", False),
        ("", False),
    ],
)
def test_loopback_is_told_from_the_host(host: str, is_loopback: bool) -> None:
    assert is_loopback_host(host) is is_loopback
    assert Address("ws", host, 1).is_loopback is is_loopback


def test_a_unix_socket_is_loopback() -> None:
    assert Address("ipc", path="/run/x").is_loopback


def test_the_survey_has_a_path_of_its_own_on_ws_alone() -> None:
    assert service_url(parse_address("ws://h:1")) == "ws://h:1/service"
    assert service_url(parse_address("wss://[::1]:1/mine")) == "wss://[::1]:1/mine"
    assert service_url(parse_address("tcp://h:1")) == "tcp://h:1"
    assert service_url(parse_address("ipc:///run/x")) == "ipc:///run/x"


@pytest.mark.parametrize(
    ("base", "port", "endpoint", "link"),
    [
        ("ws://h:1", 0, f"/link/{WORKER}", f"ws://h:1/link/{WORKER}"),
        ("wss://h:1/a", 0, f"/link/{WORKER}", f"wss://h:1/a/link/{WORKER}"),
        ("tcp://h:1", 7001, "7001", "tcp://h:7001"),
        ("tls+tcp://[::1]:1", 7001, "7001", "tls+tcp://[::1]:7001"),
        ("ipc:///run/link", 0, f"/link/{WORKER}", f"ipc:///run/link.{WORKER}"),
    ],
)
def test_a_link_is_at_the_base_with_what_the_gateway_says(
    base: str, port: int, endpoint: str, link: str
) -> None:
    assert link_endpoint(parse_address(base), WORKER, port) == endpoint
    assert str(link_address(parse_address(base), endpoint)) == link


@pytest.mark.parametrize(
    "worker", ["", "bob", WORKER.upper(), WORKER + "0", WORKER + "\n", f"../{WORKER[3:]}"]
)
@pytest.mark.parametrize("base", ["ws://h:1", "tcp://h:1", "ipc:///run/link"])
def test_only_a_worker_id_becomes_part_of_an_address(base: str, worker: str) -> None:
    with pytest.raises(ValueError, match="a worker id is 32 lower-case hex digits, not"):
        link_endpoint(parse_address(base), worker, 1)
