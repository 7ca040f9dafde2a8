"""Collaboration: direct handlers behind real loopback sockets; order, partial writes, disconnects."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import pytest
import trio

from gateway.http1 import Exchange

ServeLane = Callable[..., Any]

POST = b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b"


def post(body: bytes) -> bytes:
    return POST % (len(body), body)


async def test_an_answer_is_exactly_these_bytes_and_the_connection_is_kept(serve_lane: ServeLane) -> None:
    async with serve_lane() as served:
        client = await served.connect()
        for body in (b"[1]", b"[22]"):
            await client.send(post(body))
            head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
            assert await client.answer() == (200, head % len(body), body)


async def test_extra_lines_replace_the_content_type(serve_lane: ServeLane) -> None:
    def plain(exchange: Exchange) -> None:
        exchange.respond(503, b"later", b"content-type: text/plain\r\nretry-after: 1\r\n")

    async with serve_lane({("GET", "/"): plain}) as served:
        client = await served.connect()
        await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        head = b"content-length: 5\r\ncontent-type: text/plain\r\nretry-after: 1\r\n\r\n"
        assert (await client.answer())[1] == b"HTTP/1.1 503 Service Unavailable\r\n" + head


@pytest.mark.parametrize("size", [3, 200_000])
async def test_a_body_of_several_buffers_arrives_as_one(serve_lane: ServeLane, size: int) -> None:
    pieces = [memoryview(bytes([n]) * size) for n in range(3)]

    def answer(exchange: Exchange) -> None:
        exchange.respond(200, b"head", b"content-type: a/b\r\n", pieces)

    async with serve_lane({("GET", "/"): answer, ("HEAD", "/"): answer}) as served:
        client = await served.connect()
        for _ in range(2):
            await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            status, head, body = await client.answer()
            assert (status, body) == (200, b"head" + b"".join(pieces))
            assert b"content-length: %d\r\n" % (4 + 3 * size) in head
        asked = b"HEAD / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        said = await served.ask(asked)
        assert said.endswith(b"\r\n\r\n")
        assert b"content-length: %d\r\n" % (4 + 3 * size) in said


async def test_the_exchange_says_what_was_asked(serve_lane: ServeLane) -> None:
    seen: list[Exchange] = []

    def look(exchange: Exchange) -> None:
        seen.append(exchange)
        exchange.respond(204, b"")

    async with serve_lane({("PUT", "/a b"): look}) as served:
        client = await served.connect()
        await client.send(b"PUT /a%20b?x=1&y HTTP/1.1\r\nHost: a\r\nX-One: 1 \r\nContent-Length: 2\r\n\r\nhi")
        assert await client.until(b"\r\n\r\n")
    (it,) = seen
    assert (it.method, it.target, it.path, it.query, it.body) == (
        "PUT",
        b"/a%20b?x=1&y",
        "/a b",
        b"x=1&y",
        b"hi",
    )
    assert it.headers == [(b"host", b"a"), (b"x-one", b"1"), (b"content-length", b"2")]
    assert (it.header(b"x-one"), it.header(b"x-two")) == (b"1", None)


@pytest.mark.parametrize(
    ("request_head", "connection"),
    [
        (b"POST /echo HTTP/1.1\r\nHost: a\r\nConnection: close\r\n", b"connection: close\r\n"),
        (b"POST /echo HTTP/1.0\r\n", b"connection: close\r\n"),
    ],
)
async def test_a_connection_that_is_not_kept_is_closed(
    serve_lane: ServeLane, request_head: bytes, connection: bytes
) -> None:
    async with serve_lane() as served:
        answer = await served.ask(request_head + b"Content-Length: 2\r\n\r\nhi")
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n"
        assert answer == head + connection + b"\r\nhi"


async def test_http10_keeps_the_connection_when_asked_to(serve_lane: ServeLane) -> None:
    async with serve_lane() as served:
        client = await served.connect()
        for _ in range(2):
            await client.send(b"POST /echo HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\n1")
            _, head, body = await client.answer()
            assert (body, b"connection: keep-alive\r\n" in head) == (b"1", True)


async def test_head_has_the_length_and_no_body(serve_lane: ServeLane) -> None:
    async with serve_lane({("HEAD", "/"): lambda exchange: exchange.respond(200, b"12345")}) as served:
        answer = await served.ask(b"HEAD / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert answer.endswith(b"content-length: 5\r\nconnection: close\r\n\r\n")


async def test_pipelined_requests_are_answered_in_order_though_the_first_is_answered_late(
    serve_lane: ServeLane,
) -> None:
    held: list[Exchange] = []

    async with serve_lane({("POST", "/echo"): held.append}) as served:
        client = await served.connect()
        await client.send(b"".join(post(b"%d" % number) for number in range(40)))
        for number in range(40):
            while not held:
                await trio.lowlevel.checkpoint()
            exchange = held.pop()
            assert not held, "the next request starts only after the answer"
            exchange.respond(200, bytes(exchange.body))
            assert (await client.answer())[2] == b"%d" % number


async def test_a_client_that_pipelines_endlessly_lets_others_in(serve_lane: ServeLane) -> None:
    async with serve_lane() as served:
        greedy, modest = await served.connect(), await served.connect()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(greedy.send, post(b"x") * 2000)
            await modest.send(post(b"y"))
            assert (await modest.answer())[2] == b"y"
            for _ in range(2000):
                assert (await greedy.answer())[2] == b"x"


async def test_bytes_read_ahead_are_bounded_while_an_answer_is_awaited(serve_lane: ServeLane) -> None:
    held: list[Exchange] = []
    async with serve_lane({("POST", "/echo"): held.append}, max_pipelined=1000) as served:
        client = await served.connect()
        await client.send(post(b"x"))
        while not held:
            await trio.lowlevel.checkpoint()
        (connection,) = served.lane.connections.values()
        sent = 0
        flood = post(b"y" * 60_000)
        with trio.move_on_after(20):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(client.send, flood * 200)
                while connection.mask & 1:
                    await trio.lowlevel.checkpoint()
                sent = len(connection.backlog)
                nursery.cancel_scope.cancel()
        assert 1000 <= sent <= 1000 + 64 * 1024


async def test_a_second_answer_is_an_error(serve_lane: ServeLane) -> None:
    held: list[Exchange] = []
    async with serve_lane({("POST", "/echo"): held.append}) as served:
        client = await served.connect()
        await client.send(post(b"x"))
        while not held:
            await trio.lowlevel.checkpoint()
        held[0].respond(200, b"1")
        with pytest.raises(RuntimeError, match=r"^POST /echo was answered twice\.$"):
            held[0].respond(200, b"2")
        assert (await client.answer())[2] == b"1"


@pytest.mark.parametrize("reset", [True, False])
async def test_a_disconnect_calls_on_gone_once_and_the_answer_goes_nowhere(
    serve_lane: ServeLane, reset: bool
) -> None:
    gone = trio.Event()
    calls: list[Exchange] = []

    def wait(exchange: Exchange) -> None:
        def on_gone() -> None:
            calls.append(exchange)
            gone.set()

        exchange.on_gone = on_gone
        started.set()

    started = trio.Event()
    async with serve_lane({("POST", "/echo"): wait}) as served:
        client = await served.connect()
        await client.send(post(b"x"))
        await started.wait()
        if reset:
            client.stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        await client.aclose()
        await gone.wait()
        await served.emptied()
        (exchange,) = calls
        assert exchange.gone
        exchange.respond(200, b"too late")
        assert calls == [exchange]


async def test_a_disconnect_is_seen_while_reading_is_paused(serve_lane: ServeLane) -> None:
    gone, started = trio.Event(), trio.Event()

    def wait(exchange: Exchange) -> None:
        exchange.on_gone = gone.set
        started.set()

    async with serve_lane({("POST", "/echo"): wait}, max_pipelined=10) as served:
        client = await served.connect()
        await client.send(post(b"x"))
        await started.wait()
        (connection,) = served.lane.connections.values()
        await client.send(post(b"y" * 100))
        while connection.mask & 1:
            await trio.lowlevel.checkpoint()
        await client.aclose()
        with trio.fail_after(20):
            await gone.wait()


async def test_three_hundred_disconnects_at_once_leave_nothing_behind(serve_lane: ServeLane) -> None:
    waiting: set[Exchange] = set()

    def wait(exchange: Exchange) -> None:
        waiting.add(exchange)
        exchange.on_gone = lambda: waiting.discard(exchange)

    async with serve_lane({("POST", "/echo"): wait}) as served:
        clients = [await served.connect() for _ in range(300)]
        for client in clients:
            await client.send(post(b"x"))
        while len(waiting) < 300:
            await trio.lowlevel.checkpoint()
        for client in clients:
            await client.aclose()
        await served.emptied()
        assert waiting == set()


async def test_a_client_that_half_closes_is_answered_when_its_handler_does_not_care(
    serve_lane: ServeLane,
) -> None:
    held: list[Exchange] = []
    async with serve_lane({("POST", "/echo"): held.append}) as served:
        client = await served.connect()
        await client.send(post(b"1") + post(b"2"))
        await client.stream.send_eof()
        for number in (b"1", b"2"):
            while not held:
                await trio.lowlevel.checkpoint()
            held.pop().respond(200, number)
            assert (await client.answer())[2] == number
        assert await client.rest() == b""


async def test_twenty_megabytes_reach_a_slow_reader(serve_lane: ServeLane) -> None:
    body = bytes(range(256)) * (20 * 4096)
    async with serve_lane({("GET", "/"): lambda exchange: exchange.respond(200, body)}) as served:
        client = await served.connect()
        await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 2)
        for _ in range(2):
            head = await client.until(b"\r\n\r\n")
            assert b"content-length: 20971520\r\n" in head
            received = bytearray()
            while len(received) < len(body):
                received += await client.exactly(min(100_000, len(body) - len(received)))
                await trio.lowlevel.checkpoint()
            assert received == body


async def test_a_handler_that_raises_is_a_500_and_the_connection_goes_on(
    serve_lane: ServeLane, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(exchange: Exchange) -> None:
        raise KeyError("oops")

    async with serve_lane({("GET", "/"): fail}) as served:
        client = await served.connect()
        for _ in range(2):
            await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            status, _, body = await client.answer()
            assert (status, body) == (500, b'{"status":false,"message":"The server failed on this request."}')
    assert [record.getMessage() for record in caplog.records] == ["the handler of GET / failed"] * 2


async def test_expect_continue_is_answered_before_the_body_is_read(serve_lane: ServeLane) -> None:
    async with serve_lane() as served:
        client = await served.connect()
        await client.send(
            b"POST /echo HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
        )
        assert await client.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await client.send(b"hi")
        assert (await client.answer())[2] == b"hi"


async def test_a_chunked_body_comes_whole(serve_lane: ServeLane) -> None:
    async with serve_lane() as served:
        client = await served.connect()
        await client.send(b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        for byte in b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nx-sum: 1\r\n\r\n":
            await client.send(bytes([byte]))
        assert (await client.answer())[2] == b"abcde"
