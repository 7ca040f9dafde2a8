"""A client that speaks frames and knows no rules, over a stream in memory. Nothing here is a test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import trio
from hpack import Encoder
from trio.testing import lockstep_stream_pair, memory_stream_pair

from common.grpc.cutter import PREFACE, Cut, Cutter
from common.grpc.frames import END_HEADERS, END_STREAM, Code, Frame
from common.grpc.frames import frame as make_frame
from common.grpc.limits import GrpcLimits
from common.grpc.server import GrpcServer

HELLO = PREFACE + make_frame(Frame.SETTINGS, 0, 0, b"")


def head(method: str = "echo", *more: tuple[str, str]) -> bytes:
    """A header block that leaves nothing in the table."""
    fields = [
        (":method", "POST"), (":scheme", "http"), (":path", f"/test.Service/{method}"),
        ("content-type", "application/grpc"), *more,
    ]  # fmt: skip
    block: bytes = Encoder().encode([(name, value, True) for name, value in fields], huffman=False)
    return block


def headers(stream: int, block: bytes | None = None, *, end: bool = False) -> bytes:
    flags = END_HEADERS | (END_STREAM if end else 0)
    return make_frame(Frame.HEADERS, flags, stream, head() if block is None else block)


def data(stream: int, payload: bytes, *, end: bool = False) -> bytes:
    return make_frame(Frame.DATA, END_STREAM if end else 0, stream, payload)


def number(kind: Frame, stream: int, value: int) -> bytes:
    """A frame that holds one number: a window's growth, or why a stream is reset."""
    return make_frame(kind, 0, stream, value.to_bytes(4, "big"))


class Wire:
    """A connection; `frames` are what came back."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self.frames: list[Cut] = []
        self.closed = trio.Event()
        self._cutter = Cutter(1 << 24)
        list(self._cutter.feed(PREFACE))

    async def send(self, *parts: bytes) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await self.stream.send_all(b"".join(parts))

    async def read(self) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while came := await self.stream.receive_some(65_536):
                self.frames += self._cutter.feed(bytes(came))
        self.closed.set()

    def said(self, kind: Frame, stream: int = 0) -> list[bytes]:
        """What the frames of a kind hold."""
        return [held for each, _, of, held in self.frames if (each, of) == (kind, stream)]

    async def goodbye(self) -> Code:
        """Why the connection was ended, once it was."""
        with trio.fail_after(1000):
            await self.closed.wait()
        return Code(int.from_bytes(self.said(Frame.GOAWAY)[-1][4:8], "big"))


@asynccontextmanager
async def open_wire(
    methods: dict[str, Any], *, reads: bool = True, **limits: Any
) -> AsyncIterator[tuple[Wire, GrpcServer]]:
    """A connection that has said hello. One that does not read blocks who writes to it."""
    served = {f"/test.Service/{name}".encode(): each for name, each in methods.items()}
    server = GrpcServer(served, GrpcLimits(**limits))
    ours, theirs = memory_stream_pair() if reads else lockstep_stream_pair()
    wire = Wire(ours)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server._sweep)
        nursery.start_soon(server.serve, theirs)
        if reads:
            nursery.start_soon(wire.read)
        await wire.send(HELLO)
        yield wire, server
        nursery.cancel_scope.cancel()
    assert not server.connections
