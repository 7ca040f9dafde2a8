"""Pure: any split of any bytes gives the same requests, and what is refused is refused with its status."""

from __future__ import annotations

import itertools
from typing import Any

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.http1.limits import HttpLimits
from gateway.http1.reader import PREFACE, RequestReader

HOST = b"Host: a\r\n"
TOKEN = st.text("abcXYZ09-_!~", min_size=1, max_size=8).map(str.encode)
VALUE = st.binary(max_size=12).map(lambda b: bytes(c for c in b if c in range(33, 127)))
TARGET = st.text("abc/?=&%41.~", max_size=12).map(lambda t: b"/" + t.encode())


@st.composite
def a_request(draw: Any) -> bytes:
    """One valid request, framed in one of the three ways."""
    method = draw(st.sampled_from([b"GET", b"POST", b"PUT", b"DELETE"]))
    lines = [b"%b %b HTTP/1.1\r\n" % (method, draw(TARGET)), HOST]
    lines += [b"x-%b: %b\r\n" % header for header in draw(st.lists(st.tuples(TOKEN, VALUE), max_size=4))]
    framing = draw(st.sampled_from(["none", "length", "chunked"]))
    pieces = draw(st.lists(st.binary(min_size=1, max_size=40), max_size=4))
    if framing == "length":
        lines += [b"Content-Length: %d\r\n\r\n" % sum(map(len, pieces)), *pieces]
    elif framing == "chunked":
        lines += [b"Transfer-Encoding: chunked\r\n\r\n"]
        lines += [b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces]
        lines += [b"0\r\n", draw(st.sampled_from([b"", b"x-sum: 1\r\n"])), b"\r\n"]
    else:
        lines += [b"\r\n"]
    return b"".join(lines)


def read(pieces: list[bytes], **limits: Any) -> RequestReader:
    reader = RequestReader(HttpLimits(**limits))
    for piece in pieces:
        reader.feed(piece)
    return reader


def seen(reader: RequestReader) -> list[tuple[Any, ...]]:
    return [
        (r.method, r.target, sorted(r.headers), bytes(r.body), r.complete, r.keep_alive)
        for r in reader.requests
    ]


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges) if a != b]


@given(
    st.lists(a_request(), min_size=1, max_size=4).map(b"".join), st.lists(st.integers(0, 2000), max_size=12)
)
def test_any_split_of_pipelined_requests_gives_the_same_requests(data: bytes, cuts: list[int]) -> None:
    whole = read([data])
    assert whole.refusal is None
    assert all(r.complete for r in whole.requests)
    assert seen(read(split(data, cuts))) == seen(whole)
    assert seen(read([bytes([byte]) for byte in data])) == seen(whole)


@given(st.lists(a_request(), min_size=1, max_size=4).map(b"".join), st.data())
def test_any_split_of_damaged_requests_gives_the_same_verdict(data: bytes, draw: st.DataObject) -> None:
    position = draw.draw(st.integers(0, len(data) - 1))
    data = data[:position] + draw.draw(st.binary(max_size=3)) + data[position + 1 :]
    whole, bytewise = read([data]), read([bytes([byte]) for byte in data])
    assert seen(bytewise) == seen(whole)
    assert (bytewise.refusal is None) == (whole.refusal is None)
    if whole.refusal is not None and bytewise.refusal is not None:
        assert bytewise.refusal.status == whole.refusal.status


def h11_reads(data: bytes) -> list[tuple[str, bytes, list[tuple[bytes, bytes]], bytes]] | None:
    """h11's reading of the same bytes; None where it refuses them."""
    found = []
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(data)
    try:
        while type(event := connection.next_event()) is h11.Request:
            body = b""
            while type(part := connection.next_event()) is h11.Data:
                body += part.data
            if type(part) is not h11.EndOfMessage:
                break
            headers = sorted((bytes(n), bytes(v)) for n, v in event.headers)
            found.append((event.method.decode(), bytes(event.target), headers, body))
            connection.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
            connection.send(h11.EndOfMessage())
            if connection.our_state is not h11.DONE or connection.their_state is not h11.DONE:
                break
            connection.start_next_cycle()
    except h11.RemoteProtocolError:
        return None
    return found


@given(st.lists(a_request(), min_size=1, max_size=4).map(b"".join))
def test_h11_reads_the_same_requests(data: bytes) -> None:
    ours = [(r.method, r.target, sorted(r.headers), bytes(r.body)) for r in read([data]).requests]
    assert h11_reads(data) == ours


@given(st.lists(a_request(), min_size=1, max_size=2).map(b"".join), st.data())
def test_what_h11_refuses_we_never_read_otherwise(data: bytes, draw: st.DataObject) -> None:
    """Each change is one that request smuggling uses; stricter than h11 is fine."""
    old, new = draw.draw(
        st.sampled_from(
            [
                (b"\r\n", b"\n"),
                (b"\r\n", b"\r"),
                (b"Host:", b"Host :"),
                (HOST, HOST + HOST),
                (HOST, HOST + b" folded\r\n"),
                (HOST, HOST + b"Content-Length: 3\r\n"),
                (HOST, HOST + b"Transfer-Encoding: chunked\r\n"),
                (HOST, HOST + b"Transfer-Encoding: x\r\n"),
                (HOST, HOST + b"Content-Length: +3\r\n"),
                (b"HTTP/1.1", b"HTTP/1.0"),
                (HOST, b""),
            ]
        )
    )
    data = data.replace(old, new, 1)
    reader = read([data])
    theirs = h11_reads(data)
    ours = [(r.method, r.target, sorted(r.headers), bytes(r.body)) for r in reader.requests if r.complete]
    if theirs is None:
        assert reader.refusal is not None or not all(r.complete for r in reader.requests) or not ours
    elif reader.refusal is None:
        assert theirs == ours


SMUGGLING = {
    "bare LF ends the request line": (b"GET / HTTP/1.1\nHost: a\n\n", 400),
    "bare LF ends a header": (b"GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n", 400),
    "bare CR in a value": (b"GET / HTTP/1.1\r\n" + HOST + b"X: a\rb\r\n\r\n", 400),
    "NUL in a value": (b"GET / HTTP/1.1\r\n" + HOST + b"X: a\0b\r\n\r\n", 400),
    "a control in a value": (b"GET / HTTP/1.1\r\n" + HOST + b"X: a\x01b\r\n\r\n", 400),
    "a folded header": (b"GET / HTTP/1.1\r\n" + HOST + b"X: a\r\n b\r\n\r\n", 400),
    "a fold as first header": (b"GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400),
    "space before the colon": (b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
    "a name with a space": (b"GET / HTTP/1.1\r\n" + HOST + b"X Y: 1\r\n\r\n", 400),
    "no colon": (b"GET / HTTP/1.1\r\nHost\r\n\r\n", 400),
    "equal lengths": (
        b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\nx",
        400,
    ),
    "other lengths": (
        b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
        400,
    ),
    "listed lengths": (b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 1, 1\r\n\r\nx", 400),
    "signed length": (b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: +1\r\n\r\nx", 400),
    "empty length": (b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length:\r\n\r\nx", 400),
    "huge length": (b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 99999999999999999999999\r\n\r\n", 400),
    "length and coding": (
        b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    "chunked twice": (b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n" * 2 + b"\r\n", 400),
    "chunked not last": (b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked, gzip\r\n\r\n", 400),
    "gzip and chunked": (b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: gzip, chunked\r\n\r\n", 501),
    "xchunked": (b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 501),
    "identity": (b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: identity\r\n\r\n", 501),
    "chunked in 1.0": (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "chunk ended by LF": (
        b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n1\nx\n0\n\n",
        400,
    ),
    "chunk too long": (
        b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n1\r\nxyz0\r\n",
        400,
    ),
    "chunk size 0x1": (
        b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n0x1\r\nx\r\n",
        400,
    ),
    "length in a trailer": (
        b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 5\r\n\r\n",
        400,
    ),
    "no Host": (b"GET / HTTP/1.1\r\n\r\n", 400),
    "two Hosts": (b"GET / HTTP/1.1\r\n" + HOST + HOST + b"\r\n", 400),
    "a Host of two": (b"GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", 400),
    "a fragment": (b"GET /a#b HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "a star for GET": (b"GET * HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "unknown method": (b"FOO / HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "CONNECT": (b"CONNECT a:1 HTTP/1.1\r\n" + HOST + b"\r\n", 501),
    "HTTP/0.9": (b"GET /\r\n\r\n", 400),
    "HTTP/2.0": (b"GET / HTTP/2.0\r\n" + HOST + b"\r\n", 505),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    "WebSocket with a body": (
        b"GET / HTTP/1.1\r\n"
        + HOST
        + b"Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 3\r\n\r\n",
        400,
    ),
    "another expectation": (b"POST / HTTP/1.1\r\n" + HOST + b"Expect: tea\r\nContent-Length: 1\r\n\r\n", 417),
}


@pytest.mark.parametrize("case", SMUGGLING)
def test_refused_with_its_status_however_it_is_split(case: str) -> None:
    data, status = SMUGGLING[case]
    for step in (len(data), 1, 7):
        reader = read([data[i : i + step] for i in range(0, len(data), step)])
        assert reader.refusal is not None
        assert reader.refusal.status in {status, 505 if case == "HTTP/0.9" else status}
        assert not any(r.complete for r in reader.requests)


def test_nothing_is_read_after_a_refusal_or_a_close() -> None:
    good = b"GET / HTTP/1.1\r\n" + HOST + b"\r\n"
    assert len(read([b"GET / HTTP/1.1\r\n\r\n", good]).requests) == 0
    closing = b"GET / HTTP/1.1\r\nConnection: close\r\n" + HOST + b"\r\n"
    for reader in (read([closing + good]), read([closing, good])):
        assert len(reader.requests) == 1
        assert reader.refusal is None


@pytest.mark.parametrize("body", [b"", b"abc"])
def test_an_upgrade_that_is_not_websocket_is_an_ordinary_request(body: bytes) -> None:
    first = b"POST /1 HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n" + HOST
    data = first + b"Content-Length: %d\r\n\r\n" % len(body) + body + b"GET /2 HTTP/1.1\r\n" + HOST + b"\r\n"
    for pieces in ([data], [bytes([byte]) for byte in data]):
        assert [(r.path, r.body) for r in read(pieces).requests] == [("/1", body), ("/2", b"")]


def test_a_websocket_request_keeps_what_follows_unread() -> None:
    head = b"GET /ws HTTP/1.1\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n" + HOST + b"\r\n"
    reader = read([head + b"\x81", b"\x80GET"])
    assert reader.requests[0].websocket
    assert reader.rest == b"\x81\x80GET"


@given(st.lists(st.integers(0, 60), max_size=5))
def test_the_http2_preface_is_known_in_any_split(cuts: list[int]) -> None:
    reader = read(split(PREFACE + b"\0\0\0\4\0\0\0\0\0", cuts))
    assert reader.preface
    assert reader.rest == PREFACE + b"\0\0\0\4\0\0\0\0\0"


def test_a_target_in_absolute_form_overrides_host() -> None:
    request = read([b"GET http://b:8/x%20y?q=1 HTTP/1.1\r\n" + HOST + b"\r\n"]).requests[0]
    assert (request.path, request.query, request.header(b"host")) == ("/x y", b"q=1", b"b:8")


def test_limits_have_their_statuses() -> None:
    big = b"x: " + b"y" * 300 + b"\r\n"
    assert read([b"GET / HTTP/1.1\r\n" + HOST + big], max_head=200).refusal.status == 431  # type: ignore[union-attr]
    endless = [b"GET / HTTP/1.1\r\nx: "] + [b"y" * 64] * 8
    assert read(endless, max_head=200).refusal.status == 431  # type: ignore[union-attr]
    assert read([b"\r\n" * 200], max_head=200).refusal.status == 431  # type: ignore[union-attr]
    target = b"GET /" + b"a" * 100 + b" HTTP/1.1\r\n"
    assert read([target], max_target=50).refusal.status == 414  # type: ignore[union-attr]
    post = b"POST /p HTTP/1.1\r\n" + HOST
    declared = read([post + b"Content-Length: 11\r\n\r\n"], max_body=10)
    assert declared.refusal is not None
    assert (declared.refusal.status, declared.refusal.path) == (413, "/p")
    assert not declared.requests
    chunked = post + b"Transfer-Encoding: chunked\r\n\r\n"
    assert read([chunked + b"6\r\nabcdef\r\n6\r\nabcdef\r\n"], max_body=10).refusal.status == 413  # type: ignore[union-attr]
    chunks = [chunked] + [b"1;" + b"e" * 200 + b"\r\nx\r\n"] * 100
    assert read(chunks, max_head=500).refusal.status == 431  # type: ignore[union-attr]


def test_a_path_may_have_its_own_body_limit() -> None:
    limits = HttpLimits(max_body=4, max_body_of=lambda method, path: 20 if path == "/weights" else None)
    reader = RequestReader(limits)
    reader.feed(b"PUT /weights HTTP/1.1\r\n" + HOST + b"Content-Length: 8\r\n\r\n12345678")
    assert reader.requests[0].body == b"12345678"
    reader.feed(b"PUT /other HTTP/1.1\r\n" + HOST + b"Content-Length: 8\r\n\r\n")
    assert reader.refusal is not None
    assert reader.refusal.message == "The body is larger than 4 bytes."


@given(st.binary(max_size=400))
def test_random_bytes_never_raise(data: bytes) -> None:
    reader = read([data[:200], data[200:]])
    assert reader.refusal is None or 400 <= reader.refusal.status < 600


def test_a_limit_that_is_not_above_zero_is_refused_with_a_sentence() -> None:
    with pytest.raises(ValueError, match=r"^max_body must be above zero, not 0\.$"):
        HttpLimits(max_body=0)
