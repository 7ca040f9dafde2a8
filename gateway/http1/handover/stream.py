"""A connection as Hypercorn reads and writes it: with what was read before, and a limit on waiting."""

from __future__ import annotations

import socket
from collections import Counter

import trio


class ReadAheadStream(trio.abc.HalfCloseableStream):
    """A TCP stream that first yields `ahead`, bytes that were read before it was made.

    A write that the client does not take within `write_time` breaks the stream: Hypercorn shields its writes
    from cancellation and would wait for ever.
    """

    def __init__(self, sock: socket.socket, ahead: bytes, write_time: float, limited: Counter[str]) -> None:
        self._stream = trio.SocketStream(trio.socket.from_stdlib_socket(sock))
        self._ahead = ahead
        self._write_time = write_time
        self._limited = limited
        self.socket = self._stream.socket

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        if self._ahead:
            await trio.lowlevel.checkpoint()
            size = len(self._ahead) if max_bytes is None else max_bytes
            data, self._ahead = self._ahead[:size], self._ahead[size:]
            return data
        return bytes(await self._stream.receive_some(max_bytes))

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        with trio.move_on_after(self._write_time) as scope:
            await self._stream.send_all(data)
        if scope.cancelled_caught:
            self._limited["write_time"] += 1
            self.cut()
            raise trio.BrokenResourceError("The client took no byte of the answer in time.")

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        await self._stream.send_eof()

    async def aclose(self) -> None:
        await self._stream.aclose()

    def cut(self) -> None:
        """Close now; whoever waits on the stream is told so."""
        self.socket.close()
