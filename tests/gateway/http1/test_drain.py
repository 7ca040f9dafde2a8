"""Collaboration: how the lane stops; nothing in progress is lost within the grace, nothing outlives it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from common.sockets import bind
from gateway.http1 import Exchange
from gateway.http1.lane import Lane

ServeLane = Callable[..., Any]
POST = b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx"


async def test_a_request_in_progress_is_finished_and_its_connection_closed(serve_lane: ServeLane) -> None:
    held: list[Exchange] = []
    async with serve_lane({("POST", "/echo"): held.append}) as served:
        busy, idle = await served.connect(), await served.connect()
        await busy.send(POST)
        while not held or len(served.lane.connections) < 2:
            await trio.lowlevel.checkpoint()
        served.lane.drain(60)
        assert await idle.rest() == b""
        with pytest.raises(OSError, match="all attempts to connect"):
            await trio.open_tcp_stream("127.0.0.1", served.port)
        held[0].respond(200, b"done")
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 4\r\n"
        assert await busy.rest() == head + b"connection: close\r\n\r\ndone"


async def test_run_returns_when_everything_is_finished(serve_lane: ServeLane) -> None:
    async def slow(scope: Any, receive: Any, send: Any) -> None:
        working.set()
        await go.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"done"})
        finished.append(True)

    working, go = trio.Event(), trio.Event()
    finished: list[bool] = []
    lane = Lane(slow)
    sockets = bind("127.0.0.1", 0)
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            await nursery.start(lane.run, sockets)
            stream = await trio.open_tcp_stream(*sockets[0].getsockname())
            await stream.send_all(POST)
            await working.wait()
            lane.drain(60)
            go.set()
            answer = b"".join([piece async for piece in stream])
            await stream.aclose()
    assert answer.endswith(b"connection: close\r\n\r\ndone")
    assert finished == [True]


async def test_an_answer_begun_before_the_drain_and_finished_in_it_ends_its_connection(
    serve_lane: ServeLane,
) -> None:
    async def stream(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        await go.wait()
        await send({"type": "http.response.body", "body": b"b"})

    go = trio.Event()
    async with serve_lane(app=stream) as served:
        client = await served.connect()
        await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await client.until(b"1\r\na\r\n")
        served.lane.drain(60)
        go.set()
        with trio.fail_after(20):
            assert await client.rest() == b"1\r\nb\r\n0\r\n\r\n"


async def test_what_outlives_the_grace_is_cut(serve_lane: ServeLane, autojump_clock: MockClock) -> None:
    gone: list[str] = []

    def never(exchange: Exchange) -> None:
        exchange.on_gone = lambda: gone.append("direct")

    async def stubborn(scope: Any, receive: Any, send: Any) -> None:
        try:
            await trio.sleep_forever()
        finally:
            gone.append("app")

    async with serve_lane({("POST", "/echo"): never}, app=stubborn) as served:
        direct, app = await served.connect(), await served.connect()
        await direct.send(POST)
        await app.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await trio.sleep(5)
        began = trio.current_time()
        served.lane.drain(10)
        assert await direct.rest() == b""
        assert await app.rest() == b""
        assert 10 <= trio.current_time() - began < 11
        assert sorted(gone) == ["app", "direct"]


async def test_cancelling_the_lane_closes_every_socket(serve_lane: ServeLane) -> None:
    gone: list[bool] = []
    asked = trio.Event()

    def never(exchange: Exchange) -> None:
        exchange.on_gone = lambda: gone.append(True)
        asked.set()

    async with serve_lane({("POST", "/echo"): never}) as served:
        client = await served.connect()
        await client.send(POST)
        await asked.wait()
        served.nursery.cancel_scope.cancel()
    assert gone == [True]
    with pytest.raises(OSError, match="all attempts to connect"):
        await trio.open_tcp_stream("127.0.0.1", served.port)


async def test_an_app_that_works_on_for_a_client_that_left_is_cut_too(
    serve_lane: ServeLane, autojump_clock: MockClock
) -> None:
    working, cut = trio.Event(), trio.Event()

    async def stubborn(scope: Any, receive: Any, send: Any) -> None:
        working.set()
        try:
            await trio.sleep_forever()
        finally:
            cut.set()

    async with serve_lane(app=stubborn) as served:
        client = await served.connect()
        await client.send(b"GET" + POST[4:-1])
        await working.wait()
        await client.aclose()
        await served.emptied()
        began = trio.current_time()
        served.lane.drain(10)
        await cut.wait()
        assert trio.current_time() - began == 10
