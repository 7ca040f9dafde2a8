"""collaboration: calls over one connection, against a client whose HTTP/2 is h2's, in virtual time."""

from __future__ import annotations

import zlib

import pytest
import trio

from common.errors import NotFound, QueueFull
from common.grpc.call import Call, direct, stream, unary
from tests.common.grpc.client import Client, framed, open_client

pytestmark = pytest.mark.usefixtures("virtual_time")


def echo(call: Call, message: bytes) -> None:
    call.respond(message)


async def shout(_call: Call, message: bytes) -> bytes:
    await trio.sleep(1)
    return message.upper()


async def repeat(call: Call) -> None:
    while (message := await call.receive()) is not None:
        call.send(message * 2)
        await call.sent(1 << 16)


METHODS = {"echo": direct(echo), "shout": unary(shout), "repeat": stream(repeat)}


class Held:
    """A direct method that keeps its calls."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.gone = 0

    def __call__(self, call: Call, message: bytes) -> None:
        self.calls.append(call)
        call.on_gone = self._leave

    def _leave(self) -> None:
        self.gone += 1


async def test_direct_unary_and_stream_methods_answer():
    async with open_client(METHODS) as (client, _):
        for method, message, answer in (("echo", b"one", [b"one"]), ("shout", b"two", [b"TWO"])):
            answered = await client.call(method, message)
            assert (answered.messages, answered.status) == (answer, (0, ""))
        number = await client.begin("repeat")
        await client.send(number, framed(b"a") + framed(b"b")[:3])
        await client.send(number, framed(b"b")[3:], end=True)
        answered = await client.answer(number)
        assert (answered.messages, answered.status) == ([b"aa", b"bb"], (0, ""))


async def test_short_messages_of_a_unary_method_may_be_answered_without_a_task():
    methods = {"both": unary(shout, short=echo, short_size=3)}
    async with open_client(methods) as (client, _):
        assert (await client.call("both", b"abc")).messages == [b"abc"]
        assert (await client.call("both", b"abcd")).messages == [b"ABCD"]


async def test_answers_larger_than_every_window_arrive_whole():
    async with open_client(METHODS) as (client, _):
        message = bytes(range(256)) * 4000
        assert (await client.call("echo", message)).messages == [message]


async def test_a_message_of_one_byte_at_a_time_arrives_whole():
    async with open_client(METHODS) as (client, _):
        number = await client.begin("echo")
        for byte in framed(b"slow"):
            await client.send(number, bytes((byte,)))
        await client.send(number, b"", end=True)
        assert (await client.answer(number)).messages == [b"slow"]


@pytest.mark.parametrize(("name", "bits"), [("gzip", 31), ("deflate", 15)])
async def test_compressed_messages_are_taken(name, bits):
    packer = zlib.compressobj(wbits=bits)
    packed = packer.compress(b"x" * 1000) + packer.flush()
    async with open_client(METHODS, max_message=1000) as (client, _):
        number = await client.begin("echo", grpc_encoding=name)
        await client.send(number, framed(packed, compressed=True), end=True)
        assert (await client.answer(number)).messages == [b"x" * 1000]
    async with open_client(METHODS, max_message=999) as (client, _):
        number = await client.begin("echo", grpc_encoding=name)
        await client.send(number, framed(packed, compressed=True), end=True)
        assert (await client.answer(number)).status[0] == 8


async def test_a_method_may_take_less_than_the_server_compressed_or_not():
    methods = {"small": direct(echo)._replace(max_message=99), "echo": direct(echo)}
    packed = zlib.compress(bytes(100))
    async with open_client(methods, max_message=1000) as (client, _):
        assert (await client.call("echo", bytes(100))).status[0] == 0
        assert (await client.call("small", bytes(99))).status[0] == 0
        assert (await client.call("small", bytes(100))).status == (
            8,
            "a message of 100 bytes is more than the 99 bytes that are allowed",
        )
        number = await client.begin("small", grpc_encoding="deflate")
        await client.send(number, framed(packed, compressed=True), end=True)
        assert (await client.answer(number)).status == (
            8,
            "a compressed message is more than 99 bytes when it is decompressed",
        )


async def test_errors_are_statuses_and_say_what_is_wrong():
    def fails(call: Call, message: bytes) -> None:
        raise {b"full": QueueFull("100 % full – sorry"), b"bug": ZeroDivisionError()}[message]

    async def missing(_call: Call, _message: bytes) -> bytes:
        raise NotFound("it is not there")

    async with open_client({"fails": direct(fails), "missing": unary(missing)}) as (client, _):
        assert (await client.call("fails", b"full")).status == (8, "100 %25 full %E2%80%93 sorry")
        assert (await client.call("fails", b"bug")).status == (13, "The server failed on this request.")
        assert (await client.call("missing")).status == (5, "it is not there")
        assert (await client.call("none")).status == (12, "there is no method /test.Service/none")


async def test_calls_that_are_none_are_refused():
    async with open_client(METHODS, max_message=10) as (client, _):
        assert (await client.call("echo", b"x" * 11)).status[0] == 8
        assert (await client.call("echo", grpc_encoding="br")).status[0] == 12
        assert (await client.call("echo", grpc_timeout="soon")).status[0] == 3
        for data, status in ((b"", 12), (framed(b"a") * 2, 12), (b"\0\0\0\0\1", 13), (b"\2\0\0\0\0", 13)):
            number = await client.begin("echo")
            await client.send(number, data, end=True)
            assert (await client.answer(number)).status[0] == status
        assert (await client.call("echo", b"fine")).messages == [b"fine"]


async def test_a_deadline_ends_a_call_whatever_its_method_does():
    async def sleeps(_call: Call, _message: bytes) -> bytes:
        await trio.sleep(100)
        return b""

    async with open_client({**METHODS, "sleeps": unary(sleeps)}) as (client, _):
        began = trio.current_time()
        assert (await client.call("sleeps", grpc_timeout="5S")).status == (4, "Deadline exceeded")
        number = await client.begin("repeat", grpc_timeout="5S")  # and no message ever comes
        assert (await client.answer(number)).status == (4, "Deadline exceeded")
        number = await client.begin("echo", grpc_timeout="5000m")
        assert (await client.answer(number)).status == (4, "Deadline exceeded")
        assert 15 <= trio.current_time() - began < 17


async def test_a_message_that_does_not_come_in_time_ends_its_call_and_is_counted():
    async with open_client(METHODS, receive_time=7.0) as (client, server):
        began = trio.current_time()
        number = await client.begin("echo")
        assert (await client.answer(number)).status == (4, "Deadline exceeded")
        assert 7 <= trio.current_time() - began < 8
        assert server.limited == {"receive_time": 1}


async def test_time_left_is_what_the_client_gave():
    held = Held()
    async with open_client({"held": direct(held), **METHODS}) as (client, _):
        for timeout in ({"grpc_timeout": "2000000u"}, {}):
            number = await client.begin("held", **timeout)
            await client.send(number, framed(b""), end=True)
        await client.call("shout")
        assert [call.time_left() for call in held.calls] == [pytest.approx(1), None]


async def test_hundreds_of_cancels_at_once_are_all_heard_and_nothing_is_left():
    held = Held()
    async with open_client({"held": direct(held), **METHODS}) as (client, server):
        numbers = [await client.begin("held") for _ in range(50)]
        streams = [await client.begin("repeat") for _ in range(50)]
        for _ in range(10):
            for number in numbers:
                await client.send(number, framed(b""), end=True)
            await client.call("echo")
            for number in (*numbers, *streams):
                client.h2.reset_stream(number, 8)
            await client.flush()
            await client.call("echo")
            numbers = [await client.begin("held") for _ in range(50)]
            streams = [await client.begin("repeat") for _ in range(50)]
        assert (len(held.calls), held.gone) == (500, 500)
        held.calls[0].respond(b"too late")
        (connection,) = server.connections
        for number in (*numbers, *streams):
            client.h2.reset_stream(number, 8)
        await client.flush()
        await client.call("echo")
        assert (connection.calls, connection._http._streams) == ({}, {})


async def test_a_client_that_vanishes_cancels_all_it_asked():
    held = Held()
    ended = trio.Event()

    async def waits(call: Call) -> None:
        try:
            await call.receive()
        finally:
            ended.set()

    async with open_client({"held": direct(held), "waits": stream(waits)}) as (client, server):
        await client.begin("waits")
        number = await client.begin("held")
        await client.send(number, framed(b""), end=True)
        while not held.calls:  # noqa: ASYNC110 - what is waited for has no event
            await trio.sleep(0.01)
        await client.stream.send_stream.aclose()
        await ended.wait()
        while server.connections:  # noqa: ASYNC110
            await trio.sleep(0.01)
        assert held.gone == 1


async def test_a_stream_whose_answers_nobody_takes_is_held_back():
    sent = 0

    async def floods(call: Call) -> None:
        nonlocal sent
        while True:
            call.send(bytes(10_000))
            sent += 1
            await call.sent(20_000)

    async with open_client({"floods": stream(floods)}) as (client, server):
        client.takes = False
        number = await client.begin("floods")
        await trio.sleep(10)
        assert sent == 9  # a window of 65,535 bytes, and what may wait
        client.h2.reset_stream(number)
        await client.flush()
        await trio.sleep(10)
        assert sent == 9
        (connection,) = server.connections
        assert connection.calls == {}


async def test_a_stream_that_is_not_read_stops_its_client_and_nobody_else():
    async def deaf(_call: Call) -> None:
        await trio.sleep_forever()

    async with open_client({"deaf": stream(deaf), **METHODS}, max_queued=4) as (client, _):
        number = await client.begin("deaf")
        with trio.move_on_after(5) as scope:
            await client.send(number, framed(bytes(1000)) * 1000)
        assert scope.cancelled_caught
        assert client.h2.local_flow_control_window(number) == 0
        assert (await client.call("echo", b"still there")).messages == [b"still there"]


async def test_a_drain_answers_what_is_there_refuses_what_is_new_and_says_goodbye():
    held = Held()
    async with open_client({"held": direct(held), **METHODS}) as (client, server):
        number = await client.begin("held")
        await client.send(number, framed(b""), end=True)
        waiting = await client.begin("repeat")
        await client.call("echo")
        server.drain(10)
        assert (await client.answer(waiting)).status == (14, "Server is shutting down")
        held.calls[0].respond(b"done")
        while not client.closed:
            await client.wait()
        assert client.calls[number].messages == [b"done"]
        assert client.goodbyes == [2**31 - 1, 5]


async def test_a_silent_client_is_pinged_and_one_that_does_not_answer_is_cut():
    async with open_client(METHODS) as (client, server):
        await client.call("echo")
        await trio.sleep(300)  # h2 answers pings
        assert len(server.connections) == 1
        client.h2.receive_data = lambda data: []  # type: ignore[method-assign]
        await trio.sleep(90)
        assert not server.connections


async def raw(client: Client, data: bytes) -> None:
    client.h2._data_to_send += data
    await client.flush()


@pytest.mark.parametrize(
    "data",
    [
        b"\0\0\5\0\0\0\0\0\x21hello",  # data on a stream that has not begun
        b"\0\0\4\x08\0\0\0\0\0\0\0\0\0",  # a window that grows by nothing
        b"\0\0\4\x08\0\0\0\0\0\x7f\xff\xff\xff",  # and one that grows beyond 2**31
        b"\xff\xff\xff\0\0\0\0\0\1",  # too large a frame
        b"\0\0\1\1\4\0\0\0\2\x82",  # headers on a server's stream
        b"\0\0\1\1\4\0\0\0\1\xff",  # headers that cannot be decoded
        b"\0\0\1\1\0\0\0\0\1\x82" + b"\0\0\1\x09\0\0\0\0\3\x82",  # a continuation of another stream
        b"\0\0\7\6\0\0\0\0\0pingpin",  # a ping of seven bytes
        b"\0\0\6\4\0\0\0\0\0\0\5\0\0\0\1",  # frames of one byte
        b"\0\0\0\5\0\0\0\0\1",  # a promise
        b"\0\0\1\1\x0c\0\0\0\1\5",  # more padding than frame
        b"\0\0\x08\6\0\0\0\0\0pingping" * 10_000,  # pings without end
    ],
    ids=range(12),
)
async def test_what_breaks_the_protocol_ends_the_connection_with_a_reason(data):
    async with open_client(METHODS) as (client, _):
        await client.call("echo")
        client.h2.highest_outbound_stream_id = 0
        with trio.move_on_after(5):
            await raw(client, data)
        while not client.closed:
            await client.wait()
        assert client.goodbyes or len(data) > 1000


async def test_a_stranger_who_speaks_http_1_is_turned_away():
    async with open_client(METHODS) as (_, server):
        ours, theirs = trio.testing.memory_stream_pair()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.serve, theirs)
            await ours.send_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
            while await ours.receive_some(1000):
                pass
