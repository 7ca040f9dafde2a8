"""pure: a front's reader stops at the first request that is not its own, and loses no byte of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.fronts.reader import FrontReader, OurHeads
from gateway.http1 import HttpLimits
from gateway.http1.request import Request

OURS = b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b"
CHUNKED = b"POST /predict HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n"
FOREIGN = [
    b"GET /status HTTP/1.1\r\nHost: a\r\n\r\n",
    b"PUT /set_weights HTTP/1.1\r\nHost: a\r\nContent-Length: 20000000\r\n\r\nhalf of it",
    b"POST /jobs HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab",
    b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n\x81\x00",
    b"POST /predict HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: h2c\r\nContent-Length: 1\r\n\r\nx",
]


def make_reader() -> FrontReader:
    limits = HttpLimits(max_body=100, max_body_of=lambda method, path: None if path == "/predict" else 10**9)
    known = OurHeads(lambda method, path: (method, path) == ("POST", "/predict"))
    return FrontReader(limits, Request, known)


def ours(body: bytes, *, chunked: bool) -> bytes:
    return (CHUNKED if chunked and body else OURS) % (len(body), body)


def feed(reader: FrontReader, data: bytes, cuts: list[int]) -> None:
    ends = sorted({min(cut, len(data)) for cut in cuts} | {len(data)})
    for start, end in zip([0, *ends], ends, strict=False):
        reader.feed(memoryview(bytearray(data[start:end])))


# What looks like another request inside a body is where a search for one would go wrong.
BODIES = st.one_of(
    st.binary(max_size=40),
    st.sampled_from([*(each[:100] for each in FOREIGN), b"\r\n\r\n", OURS % (1, b"x")]),
)


@given(
    before=st.lists(st.tuples(BODIES, st.booleans()), max_size=4),
    foreign=st.sampled_from(FOREIGN),
    after=st.binary(max_size=30),
    cuts=st.lists(st.integers(0, 900), max_size=12),
)
def test_what_is_ours_is_read_and_the_rest_is_kept_byte_by_byte(before, foreign, after, cuts):
    reader = make_reader()
    data = b"".join(ours(body, chunked=chunked) for body, chunked in before)
    feed(reader, data + foreign + after, cuts)
    assert reader.refusal is None
    assert [bytes(request.body) for request in reader.requests] == [body for body, _ in before]
    assert (reader.preface, reader.rest) == (True, foreign + after)


@given(
    bodies=st.lists(st.tuples(BODIES, st.booleans()), max_size=6),
    cuts=st.lists(st.integers(0, 900), max_size=12),
)
def test_a_reader_that_meets_nothing_foreign_keeps_nothing(bodies, cuts):
    reader = make_reader()
    feed(reader, b"".join(ours(body, chunked=chunked) for body, chunked in bodies), cuts)
    assert [bytes(request.body) for request in reader.requests] == [body for body, _ in bodies]
    assert (reader.preface, reader.rest, reader._kept) == (False, b"", b"")


def test_heads_that_are_known_count_no_less_than_those_that_are_parsed():
    reader = make_reader()
    for _ in range(2):  # the second time the parser sees none of ours
        reader.feed(ours(b"[1]", chunked=False))
    reader.feed(ours(b"[2]", chunked=False) + ours(b"[3]", chunked=False) + FOREIGN[0])
    assert [request.body for request in reader.requests] == [b"[1]", b"[1]", b"[2]", b"[3]"]
    assert reader.rest == FOREIGN[0]


def test_a_foreign_head_is_foreign_each_time_it_comes():
    known = OurHeads(lambda method, path: path == "/predict")
    for _ in range(3):
        reader = FrontReader(HttpLimits(), Request, known)
        reader.feed(ours(b"[1]", chunked=False) + FOREIGN[0])
        assert (len(reader.requests), reader.rest) == (1, FOREIGN[0])


def test_a_foreign_head_may_come_byte_by_byte():
    reader = make_reader()
    for byte in b"\r\n" + FOREIGN[0]:
        reader.feed(bytes([byte]))
    assert reader.rest == FOREIGN[0]
    reader.feed(b"GET /more")
    assert reader.rest.endswith(b"\r\n\r\nGET /more")


def test_the_preface_of_http2_is_handed_on_as_it_was():
    reader = make_reader()
    reader.feed(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nframes")
    assert (reader.preface, reader.rest) == (True, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nframes")


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET /status HTTP/1.1\r\n\r\n", 400),
        (OURS % (101, b"x" * 101), 413),
        (b"BREW / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"POST /predict HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
    ],
)
def test_what_breaks_a_rule_is_refused_whoever_it_is_for(sent, status):
    reader = make_reader()
    reader.feed(sent)
    assert reader.refusal is not None
    assert reader.refusal.status == status
    assert not reader.preface
