"""One HTTP/2 connection: Hypercorn's, but for what a client sends on a stream that has its answer already.

An answer may come before the request's whole body (413, say), and its stream is over then; the rest of the
body is on its way. Hypercorn (0.18) looks for the stream, does not find it, and the whole connection ends.
"""

from __future__ import annotations

from typing import Any

from hypercorn.protocol.h2 import H2Protocol
from hypercorn.trio.tcp_server import TCPServer


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


class _Streams(dict[int, Any]):
    def __missing__(self, stream_id: int) -> _Over:
        return _OVER


class _Over:
    """A stream that is over: what still comes is read and dropped, so that it counts as received."""

    async def handle(self, event: object) -> None:
        """Drop it."""


_OVER = _Over()
