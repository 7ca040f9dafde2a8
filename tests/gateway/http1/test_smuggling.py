"""Pure: no bytes are one request to us and another to h11, nor any where h11 sees none, however they come.

The families are those of request smuggling: lengths beside codings (CL.TE, TE.CL), codings that one end
overlooks (TE.TE), lengths that two ends read differently, lines ended by half of CRLF, folded lines, chunk
sizes, their extensions, trailers, and a second request inside the body of the first.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.fronts.reader import FrontReader, OurHeads
from gateway.http1.heads import KnownHeads
from gateway.http1.limits import HttpLimits
from gateway.http1.reader import RequestReader
from gateway.http1.request import Request
from tests.gateway.http1.test_reader import HOST, a_request, read, split

CHUNKED = b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"

Seen = list[tuple[str, bytes, list[tuple[bytes, bytes]], bytes]]  # method, target, headers, body


class Reading(NamedTuple):
    """Whole requests in their order, and whether what came after them was refused."""

    requests: Seen
    is_refused: bool


def h11_reading(data: bytes) -> Reading:
    """h11's reading of the same bytes, but for empty lines before a request, which we skip as RFC 9112 §2.2
    has it and h11 refuses."""
    found: Seen = []
    try:
        while data := data.lstrip(b"\r\n"):
            connection = h11.Connection(h11.SERVER)
            connection.receive_data(data)
            request = connection.next_event()
            if type(request) is not h11.Request:
                break
            body = b""
            while type(part := connection.next_event()) is h11.Data:
                body += part.data
            if type(part) is not h11.EndOfMessage:
                break
            headers = sorted((bytes(n), bytes(v)) for n, v in request.headers)
            found.append((request.method.decode(), bytes(request.target), headers, body))
            connection.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
            connection.send(h11.EndOfMessage())
            if connection.their_state is not h11.DONE:  # one of them closes
                break
            data, _ = connection.trailing_data
    except h11.RemoteProtocolError:
        return Reading(found, is_refused=True)
    return Reading(found, is_refused=False)


def reading_of(*readers: RequestReader) -> Reading:
    """Ours: of one reader, or of a front's and the gateway's behind it."""
    requests = [request for reader in readers for request in reader.requests if request.complete]
    seen = [(r.method, r.target, sorted(map(_as_h11, r.headers)), bytes(r.body)) for r in requests]
    return Reading(seen, any(reader.refusal is not None for reader in readers))


def _as_h11(header: tuple[bytes, bytes]) -> tuple[bytes, bytes]:
    """It writes the names of codings small."""
    name, value = header
    return name, value.lower() if name == b"transfer-encoding" else value


def read_anew(data: bytes, cuts: list[int]) -> Reading:
    return reading_of(read(split(data, cuts)))


def read_by_known_heads(data: bytes, cuts: list[int]) -> Reading:
    """By who knows what it can know of such bytes."""
    known = KnownHeads()
    for _ in range(2):
        reader = RequestReader(HttpLimits(), known=known)
        for piece in split(data, cuts):
            reader.feed(piece)
    return reading_of(reader)


def read_behind_a_front(data: bytes, cuts: list[int]) -> Reading:
    """By a front that serves half of all paths, and the gateway that it hands the rest to."""
    known = OurHeads(lambda method, path: len(path) % 2 == 0)
    for _ in range(2):
        front = FrontReader(HttpLimits(), Request, known)
        behind = RequestReader(HttpLimits())
        was_handed = 0
        for piece in split(data, cuts):
            front.feed(piece)
            if front.preface:
                behind.feed(front.rest[was_handed:])
                was_handed = len(front.rest)
    return reading_of(front, behind)


READERS = {"anew": read_anew, "by known heads": read_by_known_heads, "behind a front": read_behind_a_front}

# What the lines of a head, the sizes of chunks and what follows the last of them are replaced by;
# %b is what it was, or 3.
LENGTHS = [
    b"%b", b"+%b", b"-%b", b"0%b", b"%b ", b"%b,%b", b"%b, 4", b"0x%b", b"%b;", b"", b"%b.0", b"%b_0",
    b"\xd9\xa3", b"0", b"1e1", b"18446744073709551616", b"429496729%b", b"%b\x00", b"\t%b",
]  # fmt: skip
CODINGS = [
    b"chunked", b"Chunked", b"chunked ", b"\tchunked", b"\x0bchunked", b"\x0cchunked", b"chunked\x00",
    b"chunked, chunked", b"identity", b"chunked, identity", b"identity, chunked", b",chunked", b"chunked,",
    b"chunked;q=1", b'"chunked"', b"xchunked", b"chunke", b"", b"gzip", b"gzip, chunked", b"chun\r\n ked",
]  # fmt: skip
NAMES = [
    b"%b:", b"%b:", b"%b:", b"%b:", b"%b :", b" %b:", b"%b\t:", b"X: y\n%b:", b"X: y\r%b:", b"\x00%b:",
    b"%b\x00:", b"X: y\r\n %b:", b"%b\r\n:", b"%b",
]  # fmt: skip
SIZES = [
    b"+%b", b"-%b", b"0x%b", b" %b", b"%b ", b"0000%b", b"1000000000000000%b", b"%b;a=b", b"%b;a\n",
    b"%b\t;a", b'%b;a="\r\n"', b"%b;\x00", b"%b_0", b"", b"%bg", b"%b\r", b"%b;a\rb", b"%b;",
    b"fffffffffffffff%b", b"%b\n",
]  # fmt: skip
ENDS = [
    b"0\r\nX: y\r\n\r\n", b"0\r\nContent-Length: 3\r\n\r\n", b"0\r\nX: y\n\r\n", b"00\r\n\r\n",
    b"0;x\r\n\r\n", b"0\r\n \r\n\r\n", b"0\n\n", b"0\r\n\n", b"0\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"0\r\n\rX\n", b"0\r\n", b"0\r\nX : y\r\n\r\n", b"0\r\nX: y\r\n z\r\n\r\n", b"-0\r\n\r\n",
    b"0\r\nGET / HTTP/1.1\r\n\r\n",
]  # fmt: skip
SWAPS = [
    (b"\r\n", b"\n"), (b"\r\n", b"\r"), (b"\r\n", b"\r\r\n"), (b"\r\n", b"\n\r"), (b"Host:", b"Host :"),
    (HOST, HOST + HOST), (HOST, HOST + b" folded\r\n"), (b"HTTP/1.1", b"HTTP/1.0"),
    (b"HTTP/1.1", b"HTTP/1.2"), (HOST, b""), (b"POST", b"GET"), (HOST, HOST + b"Connection: close\r\n"),
    (HOST, HOST + b"Connection: Upgrade\r\nUpgrade: h2c\r\n"), (b"\r\n\r\n", b"\r\n"),
]  # fmt: skip
INSIDE = b"GET /inside HTTP/1.1\r\nHost: a\r\n\r\n"
NEXT = b"GET /next HTTP/1.1\r\n" + HOST + b"\r\n"
OF_LENGTH = b"POST /one HTTP/1.1\r\n%bContent-Length: %d\r\n\r\n%b" % (HOST, len(INSIDE), INSIDE)
IN_CHUNKS = b"POST /two HTTP/1.1\r\n%bTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n3\r\nabc\r\n0\r\n\r\n" % (
    HOST, len(INSIDE), INSIDE,
)  # fmt: skip
TEMPLATES = [
    OF_LENGTH + NEXT,
    IN_CHUNKS + NEXT,
    NEXT + OF_LENGTH.replace(HOST, HOST + b"Connection: Upgrade\r\nUpgrade: h2c\r\n", 1) + NEXT,
    IN_CHUNKS.replace(HOST, HOST + b"Connection: Upgrade\r\nUpgrade: h2c\r\n", 1) + OF_LENGTH,
]
SIZE = re.compile(rb"(?<=\r\n)[0-9a-f]+(?=\r\n)")
FRAMING = re.compile(rb"(Content-Length|Transfer-Encoding): ([^\r\n]*)\r\n")


def changes(data: bytes) -> Iterator[bytes]:
    """The same requests with one thing as smugglers have it, each in each place."""
    lines = [b"Content-Length: " + value for value in LENGTHS]
    lines += [b"Transfer-Encoding: " + value for value in CODINGS]
    for name, value in ((b"Content-Length", b"%n"), (b"Transfer-Encoding", b"chunked")):
        lines += [line.replace(b"%b", name) + b" " + value for line in NAMES]
    for host in re.finditer(HOST, data):  # beside what is there
        for line in lines:
            given = line.replace(b"%b", b"3").replace(b"%n", b"3") + b"\r\n"
            yield data[: host.end()] + given + data[host.end() :]
            yield data[: host.start()] + given + data[host.start() :]
    for found in FRAMING.finditer(data):  # and in its place
        for line in lines:
            given = line.replace(b"%b", found[2]).replace(b"%n", found[2])
            yield data[: found.start()] + given + b"\r\n" + data[found.end() :]
    for size in SIZE.finditer(data):
        for new in SIZES:
            yield data[: size.start()] + new.replace(b"%b", size[0]) + data[size.end() :]
    for old, new in [(b"0\r\n\r\n", end) for end in ENDS] + SWAPS:
        for place in re.finditer(re.escape(old), data):
            yield data[: place.start()] + new + data[place.end() :]


@st.composite
def smuggled(draw: st.DrawFn) -> bytes:
    """Requests in which two or three things are as smugglers have them."""
    data = draw(st.sampled_from(TEMPLATES))
    for _ in range(draw(st.integers(2, 3))):
        data = draw(st.sampled_from(list(changes(data)) or [data]))
    return data


def check(reader: str, data: bytes, cuts: list[int]) -> None:
    """We read what h11 reads, up to where one of us refuses; and where we stop before it, we refuse."""
    ours, theirs = READERS[reader](data, cuts), h11_reading(data)
    assert ours.requests == theirs.requests[: len(ours.requests)], (data, cuts)
    assert ours.is_refused or len(ours.requests) == len(theirs.requests), (data, cuts)


@pytest.mark.parametrize("reader", READERS)
def test_no_request_with_one_thing_wrong_is_seen_by_one_and_not_the_other(reader: str) -> None:
    for template in TEMPLATES:
        assert not h11_reading(template).is_refused
        check(reader, template, [])
        for data in changes(template):
            check(reader, data, [])


@pytest.mark.parametrize("reader", READERS)
@settings(max_examples=150)
@given(smuggled(), st.lists(st.integers(0, 900), max_size=6))
def test_no_request_is_seen_by_one_and_not_the_other(reader: str, data: bytes, cuts: list[int]) -> None:
    check(reader, data, cuts)


@pytest.mark.apart
@pytest.mark.parametrize("reader", READERS)
@settings(max_examples=20_000)
@given(smuggled(), st.lists(st.integers(0, 900), max_size=6))
def test_in_many_tries_no_request_is_seen_by_one_and_not_the_other(
    reader: str, data: bytes, cuts: list[int]
) -> None:
    check(reader, data, cuts)


@given(
    st.lists(a_request(), min_size=1, max_size=4).map(b"".join), st.lists(st.integers(0, 2000), max_size=6)
)
def test_what_nobody_changed_is_read_as_h11_reads_it(data: bytes, cuts: list[int]) -> None:
    expected = h11_reading(data)
    assert not expected.is_refused
    for each in READERS.values():
        assert each(data, cuts) == expected


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
    # Families of smuggling that the above has not: two ends that disagree on where a request ends.
    "coding and length": (
        b"POST / HTTP/1.1\r\n"
        + HOST
        + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n5\r\nhello\r\n",
        400,
    ),
    "a signed length of less": (b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: -1\r\n\r\nx", 400),
    "a length in base 16": (b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 0x1\r\n\r\nx", 400),
    "a length with a point": (b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 1.0\r\n\r\nx", 400),
    "a length of two words": (b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 1 1\r\n\r\nx", 400),
    "a length of another script": (
        b"POST / HTTP/1.1\r\n" + HOST + "Content-Length: ١\r\n\r\nx".encode(),
        400,
    ),
    "a length that overflows": (
        b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 18446744073709551617\r\n\r\nx",
        400,
    ),
    "a length on the next line": (b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length:\r\n 1\r\n\r\nx", 400),
    "a length behind a bare LF": (b"POST / HTTP/1.1\r\n" + HOST + b"X: y\nContent-Length: 1\r\n\r\nx", 400),
    "a length behind a bare CR": (b"POST / HTTP/1.1\r\n" + HOST + b"X: y\rContent-Length: 1\r\n\r\nx", 400),
    "a length's name with a space": (b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length : 1\r\n\r\nx", 400),
    "a length's name with a NUL": (b"POST / HTTP/1.1\r\n" + HOST + b"Content\0-Length: 1\r\n\r\nx", 400),
    "a coding behind a vertical tab": (
        b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    "a coding on the next line": (
        b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    "a coding's name with a space": (
        b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    "a coding in quotes": (
        b"POST / HTTP/1.1\r\n" + HOST + b'Transfer-Encoding: "chunked"\r\n\r\n0\r\n\r\n',
        501,
    ),
    "a coding with a parameter": (
        b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n",
        501,
    ),
    "identity and chunked": (
        b"POST / HTTP/1.1\r\n"
        + HOST
        + b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        501,
    ),
    "chunked and identity": (
        b"POST / HTTP/1.1\r\n"
        + HOST
        + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
        400,
    ),
    "an empty coding": (b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding:\r\n\r\n0\r\n\r\n", 400),
    "a chunk size that overflows": (CHUNKED + b"10000000000000001\r\nx\r\n0\r\n\r\n", 400),
    "a chunk size with a sign": (CHUNKED + b"+1\r\nx\r\n0\r\n\r\n", 400),
    "a chunk size of less": (CHUNKED + b"-1\r\nx\r\n0\r\n\r\n", 400),
    "a chunk size with a space before it": (CHUNKED + b" 1\r\nx\r\n0\r\n\r\n", 400),
    "a chunk size with an underscore": (CHUNKED + b"0_1\r\nx\r\n0\r\n\r\n", 400),
    "an empty chunk size": (CHUNKED + b"\r\nx\r\n0\r\n\r\n", 400),
    "a chunk extension that ends by LF": (CHUNKED + b"1;a=b\nx\r\n0\r\n\r\n", 400),
    "a chunk extension with a CR in it": (CHUNKED + b"1;a\rb\r\nx\r\n0\r\n\r\n", 400),
    "a chunk's data ended by LF": (CHUNKED + b"1\r\nx\n0\r\n\r\n", 400),
    "a trailer ended by LF": (CHUNKED + b"1\r\nx\r\n0\r\nX: y\n\r\n", 400),
    "the last chunk ended by LF": (CHUNKED + b"1\r\nx\r\n0\n\r\n", 400),
    "a trailer that is folded": (CHUNKED + b"1\r\nx\r\n0\r\nX: y\r\n z\r\n\r\n", 400),
    "a coding in a trailer": (CHUNKED + b"1\r\nx\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
}


@pytest.mark.parametrize("case", SMUGGLING)
def test_refused_with_its_status_however_it_is_split(case: str) -> None:
    data, status = SMUGGLING[case]
    for step in (len(data), 1, 7):
        reader = read([data[i : i + step] for i in range(0, len(data), step)])
        assert reader.refusal is not None
        assert reader.refusal.status in {status, 505 if case == "HTTP/0.9" else status}
        assert not any(r.complete for r in reader.requests)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("case", SMUGGLING)
def test_what_is_smuggled_is_seen_by_nobody(case: str, reader: str) -> None:
    data, _ = SMUGGLING[case]
    for before in (b"", b"GET /first HTTP/1.1\r\n" + HOST + b"\r\n"):
        ours = READERS[reader](before + data + INSIDE, [])
        assert ours.is_refused
        assert [target for _, target, *_ in ours.requests] == [b"/first"] * bool(before)
