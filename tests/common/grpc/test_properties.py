"""property: whatever comes over a connection, it ends in good order and nothing of it is left."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, memory_stream_pair

from common.grpc.call import Call, Method, direct, stream, unary
from common.grpc.connection import Connection
from common.grpc.cutter import Cutter
from common.grpc.events import Data, Ended, Headers, ProtocolError, Reset
from common.grpc.frames import Frame
from common.grpc.frames import frame as make_frame
from common.grpc.http2 import Http2
from common.grpc.limits import GrpcLimits
from common.grpc.server import SWEEP_TIME
from tests.common.grpc.client import framed
from tests.common.grpc.wires import HELLO, data, head, headers

MOST = 4
BLOCKS = [head(name) for name in ("echo", "later", "repeat", "none")] + [
    head("repeat", ("grpc-timeout", "1S"))
]

streams = st.sampled_from([1, 3, 5, 7, 9, 11, 13, 15, 0, 2])
numbers = st.sampled_from([0, 1, 5, 8, 65_535, 2**31 - 1, 2**32 - 1]).map(lambda n: n.to_bytes(4, "big"))
messages = st.sampled_from([b"", framed(b""), framed(b"hello"), framed(b"a") * 3, b"\0\0\0", b"\2\0\0\0\1x"])
frames = st.one_of(
    st.builds(headers, streams, st.sampled_from(BLOCKS), end=st.booleans()),
    st.builds(data, streams, messages, end=st.booleans()),
    st.builds(lambda n, code: make_frame(Frame.RST_STREAM, 0, n, code), streams, numbers),
    st.builds(lambda n, more: make_frame(Frame.WINDOW_UPDATE, 0, n, more), streams, numbers),
    st.builds(
        lambda kind, value: make_frame(Frame.SETTINGS, 0, 0, b"\0" + bytes((kind,)) + value),
        st.integers(1, 6), numbers,
    ),
    st.builds(make_frame, st.sampled_from(Frame), st.integers(0, 255), streams, st.binary(max_size=20)),
)  # fmt: skip


@st.composite
def conversations(draw: st.DrawFn) -> bytes:
    """What a client may send: nonsense, or frames of which few or many mean something, a byte of it wrong."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=100))
    said = bytearray(HELLO + b"".join(draw(st.lists(frames, max_size=30))))
    for _ in range(draw(st.integers(0, 2))):
        said[draw(st.integers(0, len(said) - 1))] = draw(st.integers(0, 255))
    return bytes(said)


def pieces(said: bytes, size: int) -> Iterator[bytes]:
    for at in range(0, len(said), size):
        yield said[at : at + size]


@settings(deadline=None)
@given(conversations(), st.integers(1, 200))
def test_only_its_own_error_comes_of_any_bytes_and_events_make_sense(said, size):
    http = Http2(max_streams=MOST, window=100, max_frame=1000, now=0.0)
    open_streams: set[int] = set()
    ended: set[int] = set()
    with suppress(ProtocolError):
        for piece in pieces(said, size):
            for event in http.receive(piece, 0.0):
                if isinstance(event, Headers):
                    assert event.stream not in open_streams
                    open_streams.add(event.stream)
                elif isinstance(event, Data | Ended):
                    assert event.stream in open_streams - ended
                    ended |= {event.stream} if isinstance(event, Ended) else set()
                elif isinstance(event, Reset):
                    open_streams.remove(event.stream)
            assert http._streams.keys() == open_streams
            assert len(open_streams) <= MOST
    sent = http.out.take()
    assert [kind for kind, *_ in frames_of(sent)][:2] == [Frame.SETTINGS, Frame.WINDOW_UPDATE]


def frames_of(sent: bytes) -> list[tuple[int, int, int, bytes]]:
    cutter = Cutter(1 << 24)
    cutter._awaits_preface = False
    return list(cutter.feed(sent))


@settings(deadline=None)
@given(st.lists(frames, max_size=10), st.integers(1, 50))
def test_frames_are_the_same_however_their_bytes_come(each, size):
    said = HELLO + b"".join(each)
    cutter = Cutter(1 << 20)
    cut = [frame for piece in pieces(said, size) for frame in cutter.feed(piece)]
    assert cut == list(Cutter(1 << 20).feed(said))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(conversations(), st.integers(1, 400))
def test_no_call_and_no_task_outlives_its_connection_whatever_came(said, size):
    trio.run(converse, said, size, clock=MockClock(autojump_threshold=0))


def noting(began: list[Call], over: list[Call]) -> dict[bytes, Method]:
    """A method of each kind, which notes its calls as they begin and end."""

    def echo(call: Call, message: bytes) -> None:
        began.append(call)
        over.append(call)
        call.respond(message)

    async def later(call: Call, message: bytes) -> bytes:
        began.append(call)
        try:
            await trio.sleep(3)
        finally:
            over.append(call)
        return message

    async def repeat(call: Call) -> None:
        began.append(call)
        try:
            while (message := await call.receive()) is not None:
                call.send(message)
                await call.sent(10)
        finally:
            over.append(call)

    methods = {"echo": direct(echo), "later": unary(later), "repeat": stream(repeat)}
    return {f"/test.Service/{name}".encode(): each for name, each in methods.items()}


async def converse(said: bytes, size: int) -> None:
    began: list[Call] = []
    over: list[Call] = []
    limits = GrpcLimits(max_calls=MOST, max_message=1000, window=100)
    ours, theirs = memory_stream_pair()
    connection = Connection(theirs, noting(began, over), limits)
    with trio.fail_after(1000):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sweep, connection)
            async with trio.open_nursery() as served:
                served.start_soon(connection.run)
                await trio.testing.wait_all_tasks_blocked()
                for piece in pieces(said, size):
                    with suppress(trio.BrokenResourceError):
                        await ours.send_all(piece)
                    await trio.sleep(0.1)
                await trio.sleep(5)
                # The connection has a reader, and one task for each call that is not over.
                unfinished = [call for call in began if call not in over]
                assert all(not call.over for call in unfinished)
                assert len(connection._nursery.child_tasks) <= 1 + len(unfinished)
                await ours.aclose()
            nursery.cancel_scope.cancel()
    assert (connection.calls, connection._blocked) == ({}, {})
    assert sorted(map(id, began)) == sorted(map(id, over))


async def sweep(connection: Connection) -> None:
    while True:
        await trio.sleep(SWEEP_TIME)
        connection.sweep(trio.current_time())
