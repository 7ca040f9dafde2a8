"""One HTTP/2 connection: Hypercorn's, but for two things that it (0.18) gets wrong.

An answer may come before the request's whole body (413, say), and its stream is over then; the rest of the
body is on its way. Hypercorn looks for the stream, does not find it, and the whole connection ends.

And whoever writes an answer waits while the client has not taken enough of it: but Hypercorn lets him go on
whenever it looks whether there is something to send, so it keeps all of an answer that a client takes slowly.
"""

from __future__ import annotations

from typing import Any

from hypercorn.protocol.h2 import (
    BUFFER_HIGH_WATER,
    BUFFER_LOW_WATER,
    BufferCompleteError,
    H2Protocol,
    StreamBuffer,
)
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.typing import Event


class Http2Server(TCPServer):
    """Serves one connection that begins with HTTP/2's preface; `run` returns when it is over."""

    async def _read_data(self) -> None:
        wrapper = self.protocol
        wrapper.protocol = _Protocol(
            wrapper.app,
            wrapper.config,
            wrapper.context,
            wrapper.task_group,
            wrapper.state,
            wrapper.ssl,
            wrapper.client,
            wrapper.server,
            wrapper.send,
        )
        await wrapper.protocol.initiate()
        await super()._read_data()


class _Protocol(H2Protocol):
    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.streams = _Streams()
        self.stream_buffers = _Buffers(self.context.event_class)


class _Streams(dict[int, Any]):
    def __missing__(self, stream_id: int) -> _Over:
        return _OVER


class _Over:
    """A stream that is over: what still comes is read and dropped, so that it counts as received."""

    async def handle(self, event: object) -> None:
        """Drop it."""


_OVER = _Over()


class _Buffers(dict[int, StreamBuffer]):
    def __init__(self, event_class: type[Event]) -> None:
        self._event_class = event_class

    def __setitem__(self, stream_id: int, buffer: StreamBuffer) -> None:
        super().__setitem__(stream_id, _Buffer(self._event_class))


class _Buffer(StreamBuffer):
    """What of an answer has not left: at most `BUFFER_HIGH_WATER` bytes and what was pushed last."""

    async def push(self, data: bytes) -> None:
        """Add to it, and wait until little enough is left."""
        if self._complete:
            raise BufferCompleteError
        self.buffer.extend(data)
        await self._is_empty.clear()
        if len(self.buffer) >= BUFFER_HIGH_WATER:
            await self._paused.clear()
            await self._paused.wait()

    async def pop(self, max_length: int) -> bytes:
        """Take what may leave now."""
        data = bytes(memoryview(self.buffer)[:max_length])
        del self.buffer[: len(data)]
        if len(self.buffer) < BUFFER_LOW_WATER:
            await self._paused.set()
        if not self.buffer:
            await self._is_empty.set()
        return data
