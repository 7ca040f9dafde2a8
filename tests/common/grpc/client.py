"""A gRPC client over a stream in memory; h2 is its HTTP/2, so that two who know the protocol meet. Nothing
here is a test."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import trio
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, ResponseReceived, StreamReset, TrailersReceived
from hyperframe.frame import GoAwayFrame
from trio.testing import memory_stream_pair

from common.grpc.connection import Observer
from common.grpc.limits import GrpcLimits
from common.grpc.server import GrpcServer

METHOD = "/test.Service/"


def framed(message: bytes, *, compressed: bool = False) -> bytes:
    return struct.pack(">BI", compressed, len(message)) + message


class Answered:
    """What came back on one stream."""

    def __init__(self) -> None:
        self.headers: dict[str, str] = {}
        self.data = b""
        self.ended = self.reset = False

    @property
    def status(self) -> tuple[int, str]:
        """(grpc-status, grpc-message as it travelled)."""
        return int(self.headers["grpc-status"]), self.headers.get("grpc-message", "")

    @property
    def messages(self) -> list[bytes]:
        found, at = [], 0
        while at < len(self.data):
            length = struct.unpack_from(">I", self.data, at + 1)[0]
            found.append(self.data[at + 5 : at + 5 + length])
            at += 5 + length
        return found


class Client:
    def __init__(self, stream: trio.StapledStream, **settings: int) -> None:
        self.h2 = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        self.h2._frame_dispatch_table[GoAwayFrame] = self._on_goodbye  # h2 itself would hear no more
        self.h2.initiate_connection()
        self.stream = stream
        self.calls: dict[int, Answered] = {}
        self.goodbyes: list[int] = []  # the last stream that each GOAWAY names
        self.closed = False
        self.takes = True  # whether data that came is acknowledged
        self._news = trio.Event()
        self._turn = trio.Lock()

    async def flush(self) -> None:
        async with self._turn:
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                await self.stream.send_all(self.h2.data_to_send())

    async def begin(self, method: str, **headers: str) -> int:
        """Start a call; its stream. Headers of gRPC's own are named with an underscore."""
        number = self.h2.get_next_available_stream_id()
        named = [
            (name.replace("_", "-") if name.startswith("grpc_") else name, value)
            for name, value in headers.items()
        ]
        head = [
            (":method", "POST"), (":scheme", "http"), (":path", METHOD + method), (":authority", "a"),
            ("te", "trailers"), ("content-type", "application/grpc"), *named,
        ]  # fmt: skip
        self.h2.send_headers(number, head)
        self.calls[number] = Answered()
        await self.flush()
        return number

    async def send(self, number: int, data: bytes, *, end: bool = False) -> None:
        """Bytes of a call, as the server's windows have room for them."""
        while data and not self.calls[number].ended:
            room = min(self.h2.local_flow_control_window(number), self.h2.max_outbound_frame_size)
            if not room:
                await self.wait()
                continue
            self.h2.send_data(number, data[:room])
            data = data[room:]
            await self.flush()
        if end and not self.calls[number].ended:
            self.h2.end_stream(number)
            await self.flush()

    async def call(self, method: str, message: bytes = b"", **headers: str) -> Answered:
        """A whole unary call."""
        number = await self.begin(method, **headers)
        await self.send(number, framed(message), end=True)
        return await self.answer(number)

    async def answer(self, number: int) -> Answered:
        """What a call was answered, once it has ended."""
        while not self.calls[number].ended:
            await self.wait()
        return self.calls[number]

    async def wait(self) -> None:
        self._news = trio.Event()
        with trio.fail_after(1000):
            await self._news.wait()

    async def read(self) -> None:
        while data := await self.stream.receive_some(65_536):
            for event in self.h2.receive_data(data):
                self._on(event)
            await self.flush()
            self._news.set()
        self.closed = True
        self._news.set()

    def _on_goodbye(self, frame: GoAwayFrame) -> tuple[list[Any], list[Any]]:
        self.goodbyes.append(frame.last_stream_id)
        return [], []

    def _on(self, event: Any) -> None:
        call = self.calls.get(getattr(event, "stream_id", None) or 0)
        if call is None:
            return
        elif isinstance(event, ResponseReceived | TrailersReceived):
            call.headers |= dict(event.headers or [])
            call.ended |= "grpc-status" in call.headers or call.headers[":status"] != "200"
        elif isinstance(event, DataReceived):
            call.data += event.data or b""
            if self.takes:
                self.h2.acknowledge_received_data(event.flow_controlled_length or 0, event.stream_id)
        elif isinstance(event, StreamReset):
            call.reset = True


@asynccontextmanager
async def open_client(
    methods: dict[str, Any], observer: Observer | None = None, **limits: Any
) -> AsyncIterator[tuple[Client, GrpcServer]]:
    """A client of these methods, by their names."""
    server = GrpcServer(
        {(METHOD + name).encode(): each for name, each in methods.items()},
        GrpcLimits(**limits),
        observer=observer,
    )
    ours, theirs = memory_stream_pair()
    client = Client(ours)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server._sweep)
        nursery.start_soon(server.serve, theirs)
        nursery.start_soon(client.read)
        await client.flush()
        yield client, server
        nursery.cancel_scope.cancel()
    assert not server.connections
