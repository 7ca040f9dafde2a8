"""What the lane's tests share: a running lane on a free port, and a client that speaks raw bytes."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from common.sockets import bind
from gateway.http1 import Exchange, Handler, HttpLimits
from gateway.http1.lane import Lane

PATIENCE = 90.0  # longer than any connection is kept that says nothing


class Client:
    """A TCP connection to the lane; reads count on exact bytes, never on time."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._buffer = b""

    async def send(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def until(self, end: bytes) -> bytes:
        """Everything up to and including `end`."""
        while end not in self._buffer:
            more = await self.stream.receive_some()
            assert more, f"closed before {end!r}, after {self._buffer!r}"
            self._buffer += more
        head, self._buffer = self._buffer.split(end, 1)
        return head + end

    async def exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            more = await self.stream.receive_some()
            assert more, f"closed after {len(self._buffer)} bytes of {size}"
            self._buffer += more
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return data

    async def answer(self) -> tuple[int, bytes, bytes]:
        """Status, head without its date, and the body of one answer with a content-length."""
        head = undated(await self.until(b"\r\n\r\n"))
        length = re.search(rb"content-length: (\d+)", head)
        return int(head[9:12]), head, await self.exactly(int(length[1]) if length else 0)

    async def rest(self) -> bytes:
        """Everything until the server closes, without the date."""
        with trio.fail_after(PATIENCE):
            while more := await self.stream.receive_some():
                self._buffer += more
        data, self._buffer = self._buffer, b""
        return undated(data)

    async def aclose(self) -> None:
        await self.stream.aclose()


def undated(data: bytes) -> bytes:
    return re.sub(rb"date: [A-Z][a-z]{2}, [^\r]* GMT\r\n", b"", data)


class Served:
    """A lane at work, and ways to reach it."""

    def __init__(self, lane: Lane, port: int) -> None:
        self.lane = lane
        self.port = port
        self.nursery: trio.Nursery
        self.clients: list[Client] = []

    async def connect(self) -> Client:
        """A client, closed with the lane at the latest."""
        client = Client(await trio.open_tcp_stream("127.0.0.1", self.port))
        self.clients.append(client)
        return client

    async def ask(self, data: bytes) -> bytes:
        """All that the lane says to these bytes on a connection of their own."""
        client = await self.connect()
        await client.send(data)
        return await client.rest()

    async def emptied(self) -> None:
        """Returns when the lane holds no connection."""
        with trio.fail_after(20):
            while self.lane.connections:
                await trio.lowlevel.checkpoint()


async def no_app(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 404, "headers": []})
    await send({"type": "http.response.body", "body": b"nothing here"})


def echo(exchange: Exchange) -> None:
    exchange.respond(200, bytes(exchange.body) or b"{}")


ServeLane = Callable[..., Any]


@pytest.fixture
def serve_lane() -> ServeLane:
    """`async with serve_lane({(method, path): handler}, app=..., **limits) as served:`"""

    @asynccontextmanager
    async def serve(
        routes: dict[tuple[str, str], Handler] | None = None,
        app: Callable[[Any, Any, Any], Awaitable[None]] = no_app,
        **limits: Any,
    ) -> AsyncIterator[Served]:
        table = {("POST", "/echo"): echo} if routes is None else routes
        lane = Lane(app, find_direct=lambda m, p: table.get((m, p)), limits=HttpLimits(**limits))
        sockets = bind("127.0.0.1", 0)
        served = Served(lane, sockets[0].getsockname()[1])
        try:
            async with trio.open_nursery() as served.nursery:
                await served.nursery.start(lane.run, sockets)
                yield served
                served.nursery.cancel_scope.cancel()
        finally:
            for client in served.clients:
                client.stream.socket.close()
        assert lane.connections == {}

    return serve
