"""collaboration: clients who know HTTP/2 and mean harm, over raw frames in virtual time."""

from __future__ import annotations

import struct

import pytest
import trio
from hpack import Encoder

from common.grpc.blocks import HeaderBlocks
from common.grpc.call import Call, direct, stream
from common.grpc.cutter import PREFACE
from common.grpc.events import ProtocolError, Room
from common.grpc.frames import END_HEADERS, END_STREAM, Code, Frame, Setting
from common.grpc.frames import frame as make_frame
from common.grpc.http2 import Http2
from tests.common.grpc.client import framed
from tests.common.grpc.wires import HELLO, data, head, headers, number, open_wire

pytestmark = pytest.mark.usefixtures("virtual_time")


def echo(call: Call, message: bytes) -> None:
    call.respond(message)


async def waits(call: Call) -> None:
    while await call.receive() is not None:
        pass


METHODS = {"echo": direct(echo), "waits": stream(waits)}
WAITS = head("waits")


def settings(*each: tuple[int, int]) -> bytes:
    return make_frame(Frame.SETTINGS, 0, 0, b"".join([struct.pack(">HI", *pair) for pair in each]))


def resets(first: int, count: int) -> bytes:
    """Calls that are given up as soon as they have begun."""
    streams = range(first, first + 2 * count, 2)
    return b"".join([headers(n, WAITS) + number(Frame.RST_STREAM, n, 8) for n in streams])


def connect(**how: int) -> Http2:
    """The server's side, after a hello."""
    http = Http2(**{"max_streams": 4, "window": 1 << 16, "max_frame": 1 << 20, "now": 0.0, **how})  # type: ignore[arg-type]
    assert list(http.receive(HELLO, 0.0)) == []
    return http


def goodbye(http: Http2, *parts: bytes) -> Code:
    """Why these bytes end a connection."""
    with pytest.raises(ProtocolError) as caught:
        list(http.receive(b"".join(parts), 0.0))
    assert http.out.take().endswith(struct.pack(">I", caught.value.code))  # of the GOAWAY
    return caught.value.code


# --- streams


async def test_calls_given_up_as_soon_as_they_begin_end_the_connection():
    async with open_wire(METHODS, max_calls=10) as (wire, server):
        await wire.send(resets(1, 39))  # and a hello
        await trio.sleep(1)
        (connection,) = server.connections
        assert (connection.calls, len(connection._nursery.child_tasks)) == ({}, 1)
        await wire.send(resets(79, 1))
        assert await wire.goodbye() is Code.ENHANCE_YOUR_CALM


async def test_calls_given_up_now_and_then_are_nobodys_harm():
    async with open_wire(METHODS, max_calls=10) as (wire, _):
        for n in range(10):
            await wire.send(resets(1 + 80 * n, 39))
            await trio.sleep(10)
        await wire.send(headers(1001), data(1001, framed(b"hi"), end=True))
        await trio.sleep(1)
        assert wire.said(Frame.DATA, 1001) == [framed(b"hi")]


async def test_more_calls_at_once_than_were_allowed_are_refused_and_end_the_connection_in_the_end():
    async with open_wire(METHODS, max_calls=2) as (wire, server):
        await wire.send(*[headers(n, WAITS) for n in range(1, 19, 2)])
        await trio.sleep(1)
        (connection,) = server.connections
        assert list(connection.calls) == [1, 3]
        for n in range(5, 19, 2):
            assert wire.said(Frame.RST_STREAM, n) == [struct.pack(">I", Code.REFUSED_STREAM)]
        await wire.send(headers(19, WAITS))
        assert await wire.goodbye() is Code.ENHANCE_YOUR_CALM


async def test_a_stream_that_cannot_be_read_on_leaves_no_handler_behind():
    ended = 0

    async def counts(call: Call) -> None:
        nonlocal ended
        try:
            await waits(call)
        finally:
            ended += 1

    async with open_wire({"counts": stream(counts)}) as (wire, server):
        for n in range(1, 41, 2):
            await wire.send(headers(n, head("counts")))
            await trio.sleep(0.01)
            await wire.send(data(n, b"\2\0\0\0\0"))
        await trio.sleep(1)
        (connection,) = server.connections
        assert (ended, connection.calls, len(connection._nursery.child_tasks)) == (20, {}, 1)


# --- headers


@pytest.mark.parametrize(
    ("parts", "code"),
    [
        ([b"\x82"] * 65, Code.ENHANCE_YOUR_CALM),  # too many frames
        ([b""] * 65, Code.ENHANCE_YOUR_CALM),
        ([bytes(16 << 10)] * 3, Code.ENHANCE_YOUR_CALM),  # too many bytes
        ([bytes(33 << 10)], Code.ENHANCE_YOUR_CALM),  # in one frame
    ],
    ids=["frames", "empty", "bytes", "one"],
)
def test_headers_without_end_end_the_connection(parts, code):
    rest = [make_frame(Frame.CONTINUATION, 0, 1, part) for part in parts[1:]]
    flags = 0 if rest else END_HEADERS
    assert goodbye(connect(), make_frame(Frame.HEADERS, flags, 1, parts[0]), *rest) is code


def test_headers_in_a_few_frames_are_read():
    block = head()
    parts = [make_frame(Frame.CONTINUATION, 0, 1, block[n : n + 9]) for n in range(9, len(block), 9)]
    last = make_frame(Frame.CONTINUATION, END_HEADERS, 1, b"")
    events = list(
        connect().receive(b"".join([make_frame(Frame.HEADERS, END_STREAM, 1, block[:9]), *parts, last]), 0)
    )
    assert events[0].headers[b":path"] == b"/test.Service/echo"


def test_a_table_entry_that_is_named_again_and_again_is_no_bomb():
    blocks = HeaderBlocks(32 << 10)
    assert blocks.begin(END_HEADERS, 1, Encoder().encode([("a", "b" * 4000)]), 0)
    with pytest.raises(ProtocolError) as caught:
        blocks.begin(END_HEADERS, 3, b"\xbe" * 1000, 0)  # 4 MB of one KB
    assert caught.value.code is Code.COMPRESSION_ERROR


def test_a_number_without_end_is_no_header():
    assert goodbye(connect(), headers(1, b"\xff" * 20_000)) is Code.COMPRESSION_ERROR


# --- frames that cost nothing


def test_empty_data_without_end_ends_the_connection():
    http = connect()
    assert len(list(http.receive(headers(1) + data(1, b"") * 15, 0))) == 1  # settings were the first
    assert goodbye(http, data(1, b"")) is Code.ENHANCE_YOUR_CALM


def test_settings_without_end_end_the_connection():
    window = (Setting.INITIAL_WINDOW_SIZE, 1)
    assert goodbye(connect(), settings(*[window] * 16)) is Code.ENHANCE_YOUR_CALM
    assert goodbye(connect(), settings(window) * 8) is Code.ENHANCE_YOUR_CALM


def test_pings_whose_answers_are_not_taken_end_the_connection():
    ping = make_frame(Frame.PING, 0, 0, b"pingping")
    http = connect()
    for _ in range(10):
        list(http.receive(ping * 3000, 0))
        assert len(http.out.take()) >= 3000 * 17
    assert goodbye(http, ping * 4000) is Code.ENHANCE_YOUR_CALM


@pytest.mark.parametrize(
    "part",
    [
        make_frame(Frame.PRIORITY, 0, 1, b"1234"),
        make_frame(Frame.RST_STREAM, 0, 1, b"12345"),
        make_frame(Frame.WINDOW_UPDATE, 0, 1, b"123"),
        make_frame(Frame.PING, 0, 0, b"123456789"),
        make_frame(Frame.SETTINGS, 0, 0, b"1234567"),
        make_frame(Frame.SETTINGS, 1, 0, b"123456"),
        (1 << 20 | 1).to_bytes(3, "big") + bytes(6),
    ],
    ids=range(7),
)
def test_frames_of_a_wrong_size_end_the_connection(part):
    assert goodbye(connect(), headers(1), part) is Code.FRAME_SIZE_ERROR


# --- windows


def test_windows_that_overflow_end_the_connection():
    most = 2**31 - 1
    for stream_id in (0, 1):
        http = connect()
        assert goodbye(http, headers(1), number(Frame.WINDOW_UPDATE, stream_id, most)) is (
            Code.FLOW_CONTROL_ERROR
        )
    grown = headers(1) + number(Frame.WINDOW_UPDATE, 1, most - 65_535)
    assert goodbye(connect(), grown, settings((Setting.INITIAL_WINDOW_SIZE, 65_536))) is (
        Code.FLOW_CONTROL_ERROR
    )
    assert goodbye(connect(), settings((Setting.INITIAL_WINDOW_SIZE, 2**31))) is Code.FLOW_CONTROL_ERROR


def test_more_data_than_a_window_ends_the_connection():
    assert goodbye(connect(), headers(1), data(1, bytes(65_537))) is Code.FLOW_CONTROL_ERROR


def test_a_window_below_nothing_has_to_grow_above_it():
    http = connect()
    list(http.receive(headers(1), 0))
    http.send_data(1, bytes(100))
    assert list(http.receive(settings((Setting.INITIAL_WINDOW_SIZE, 0)), 0)) == []
    assert http.room(1) == -100
    assert list(http.receive(number(Frame.WINDOW_UPDATE, 1, 100), 0)) == []
    assert list(http.receive(number(Frame.WINDOW_UPDATE, 1, 1), 0)) == [Room(1)]
    assert http.room(1) == 1


def test_a_window_that_has_room_and_grows_is_nobodys_news():
    http = connect()
    assert len(list(http.receive(headers(1), 0))) == 1
    assert list(http.receive(number(Frame.WINDOW_UPDATE, 0, 1) * 1000, 0)) == []
    http.send_data(1, bytes(65_535))
    assert list(http.receive(number(Frame.WINDOW_UPDATE, 1, 1) * 2, 0)) == [Room(1)]
    http.send_data(1, bytes(2))
    assert list(http.receive(number(Frame.WINDOW_UPDATE, 1, 1) * 2, 0)) == [Room(1)]


async def test_calls_that_the_connections_window_holds_up_go_on_when_it_grows():
    async with open_wire(METHODS) as (wire, server):
        await wire.send(settings((Setting.INITIAL_WINDOW_SIZE, 1 << 20)))
        message = framed(bytes(50_000))
        for n in (1, 3, 5):
            await wire.send(headers(n))
            for at in range(0, len(message), 16_384):
                await wire.send(data(n, message[at : at + 16_384], end=at + 16_384 > len(message)))
        await trio.sleep(1)
        came = [sum(map(len, wire.said(Frame.DATA, n))) for n in (1, 3, 5)]
        assert came == [50_005, 65_535 - 50_005, 0]
        await wire.send(number(Frame.WINDOW_UPDATE, 0, 1))
        await wire.send(number(Frame.WINDOW_UPDATE, 0, 1 << 20))
        await trio.sleep(1)
        assert [b"".join(wire.said(Frame.DATA, n)) for n in (1, 3, 5)] == [message] * 3
        (connection,) = server.connections
        assert (connection.calls, connection._blocked) == ({}, {})


# --- time


@pytest.mark.parametrize("begun", [b"", PREFACE[:5], PREFACE, HELLO[:-1]])
async def test_a_connection_that_does_not_begin_is_cut(begun):
    async with open_wire(METHODS) as (_, server):
        ours, theirs = trio.testing.memory_stream_pair()
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.serve, theirs)
            await ours.send_all(begun) if begun else None
        assert 10 <= trio.current_time() - began < 11
        assert server.limited == {"handshake_time": 1}


async def test_headers_that_do_not_end_are_cut_however_much_else_is_slow():
    async with open_wire(METHODS) as (wire, server):
        await trio.sleep(50)  # a connection without a call may wait
        assert len(server.connections) == 1
        began = trio.current_time()
        await wire.send(make_frame(Frame.HEADERS, 0, 1, b""))
        with trio.move_on_after(12):
            while not wire.closed.is_set():
                await wire.send(make_frame(Frame.CONTINUATION, 0, 1, b"\x82"))
                await trio.sleep(1)
        assert 10 <= trio.current_time() - began < 12


async def test_an_answer_for_which_there_is_never_room_is_given_up():
    async with open_wire(METHODS) as (wire, server):
        await wire.send(settings((Setting.INITIAL_WINDOW_SIZE, 0)))
        await wire.send(headers(1), data(1, framed(b"hi"), end=True))
        for _ in range(11):  # it is there, and answers pings
            await trio.sleep(10)
            await wire.send(make_frame(Frame.PING, 0, 0, b"pingping"))
        (connection,) = server.connections
        assert list(connection.calls) == [1]
        await trio.sleep(11)
        assert connection.calls == {}
        assert server.limited["stall_time"] == 1
        assert wire.said(Frame.RST_STREAM, 1) == [struct.pack(">I", Code.CANCEL)]
        await wire.send(settings((Setting.INITIAL_WINDOW_SIZE, 9)))
        await wire.send(headers(3), data(3, framed(b"hi"), end=True))
        await trio.sleep(1)
        assert wire.said(Frame.DATA, 3) == [framed(b"hi")]


async def test_a_client_that_takes_nothing_is_read_no_further_and_then_cut():
    async with open_wire({}, reads=False, max_unsent=10_000) as (wire, server):
        (connection,) = server.connections
        sent = 0
        with trio.move_on_after(20):
            while sent < 10_000:
                await wire.send(
                    headers(2 * sent + 1, end=True)
                )  # each is answered, that there is no such method
                sent += 1
        assert sent < 200
        assert connection._http.out.unsent < 11_000
        await trio.sleep(20)
        assert not server.connections
        assert server.limited["send_time"] == 1
