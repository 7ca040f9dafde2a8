"""Pure: a reader that knows heads reads what one reads that knows none, and refuses what it refuses."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.http1.heads import MOST, KnownHeads, first_head
from gateway.http1.limits import HttpLimits
from gateway.http1.reader import RequestReader
from tests.gateway.http1.test_reader import HOST, a_request, seen, split
from tests.gateway.http1.test_smuggling import SMUGGLING, h11_reading

HEAD = b"POST /predict HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\n\r\n"
LIMITS = HttpLimits()


def read(pieces: list[bytes], known: KnownHeads | None = None) -> RequestReader:
    reader = RequestReader(LIMITS, known=known)
    for piece in pieces:
        reader.feed(piece)
    return reader


def learned(data: bytes) -> KnownHeads:
    """Every head of the requests that can be learned, each read on a connection of its own."""
    known = KnownHeads()
    while head := first_head(data):
        read([data], known)
        data = data[len(head) :]
    return known


@given(st.lists(a_request(), min_size=1, max_size=4), st.lists(st.integers(0, 2000), max_size=6))
def test_any_split_of_requests_with_known_heads_is_read_as_h11_reads_them(
    requests: list[bytes], cuts: list[int]
) -> None:
    known, data = KnownHeads(), b"".join(requests)
    for request in requests:
        read([request], known)
    for pieces in ([data], split(data, cuts), requests):
        reader = read(pieces, known)
        assert seen(reader) == seen(read([bytes([byte]) for byte in data]))
        assert [
            (r.method, r.target, sorted(r.headers), bytes(r.body)) for r in reader.requests
        ] == h11_reading(data).requests


@given(st.lists(a_request(), min_size=1, max_size=3).map(b"".join), st.data())
def test_damaged_requests_get_the_same_verdict_where_the_heads_are_known(
    data: bytes, draw: st.DataObject
) -> None:
    known = learned(data)
    position = draw.draw(st.integers(0, len(data) - 1))
    inserted = draw.draw(st.sampled_from([b"\r\n", b"\n", b"\r", b"\r\n\r\n", b" ", b"0", b"G", b""]))
    data = data[:position] + inserted + data[position + draw.draw(st.integers(0, 2)) :]
    for knows in (known, learned(data)):
        warm, cold = read([data], knows), read([bytes([byte]) for byte in data])
        assert seen(warm) == seen(cold)
        assert (warm.refusal and warm.refusal.status) == (cold.refusal and cold.refusal.status)


@pytest.mark.parametrize("case", SMUGGLING)
def test_what_is_refused_is_never_learned_and_is_refused_behind_a_known_head(case: str) -> None:
    data, status = SMUGGLING[case]
    known = KnownHeads()
    for _ in range(2):
        read([data], known)
        assert known.find(first_head(data)) is None
    read([HEAD + b"abc"], known)
    reader = read([HEAD + b"abc" + data], known)
    assert reader.refusal is not None
    assert reader.refusal.status in {status, 505 if case == "HTTP/0.9" else status}
    assert [r.body for r in reader.requests if r.complete] == [b"abc"]


def test_requests_of_one_head_have_bodies_and_ends_of_their_own() -> None:
    known = KnownHeads()
    reader = read([HEAD + b"abc", HEAD + b"def" + HEAD + b"ghi", HEAD + b"j", b"kl"], known)
    assert known.find(HEAD) is not None
    assert [r.body for r in reader.requests] == [b"abc", b"def", b"ghi", b"jkl"]
    assert all(r.complete and r.received == 3 and r.header(b"host") == b"a" for r in reader.requests)
    reader.requests[0].keep_alive = False
    assert read([HEAD + b"mno"], known).requests[0].keep_alive


@pytest.mark.parametrize(
    "line",
    [
        b"Connection: close\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Expect: 100-continue\r\nContent-Length: 1\r\n",
        b"Connection: Upgrade\r\nUpgrade: websocket\r\n",
        b"Connection: Upgrade\r\nUpgrade: h2c\r\n",
    ],
)
def test_heads_that_ask_for_more_than_an_answer_are_the_parsers(line: bytes) -> None:
    known = KnownHeads()
    head = b"GET / HTTP/1.1\r\n" + HOST + line + b"\r\n"
    assert read([head], known).refusal is None
    assert known.find(head) is None


def test_a_head_behind_an_empty_line_is_read_and_not_learned() -> None:
    known = KnownHeads()
    for before in (b"\r\n", b"\r\n\r\n", b"\n"):
        assert [r.body for r in read([before + HEAD + b"abc"], known).requests] == [b"abc"]
        assert known.find(first_head(before + HEAD)) is None


def test_a_head_that_is_not_kept_whole_is_read_in_its_pieces() -> None:
    known = learned(HEAD + b"abc")
    reader = read([HEAD[:20], HEAD[20:] + b"abc" + HEAD, b"def" + HEAD + b"ghi"], known)
    assert [r.body for r in reader.requests] == [b"abc", b"def", b"ghi"]


def test_a_client_of_ever_new_heads_takes_no_more_room() -> None:
    known = KnownHeads()
    heads = [b"GET /%d HTTP/1.1\r\n" % n + HOST + b"\r\n" for n in range(MOST + 5)]
    assert [r.path for r in read(heads, known).requests] == [f"/{n}" for n in range(MOST + 5)]
    assert sum(known.find(head) is not None for head in heads) == 5
