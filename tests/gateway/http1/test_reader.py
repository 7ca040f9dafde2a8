"""Pure: any split of any bytes gives the same requests, and what is refused is refused with its status."""

from __future__ import annotations

import itertools
from typing import Any

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
