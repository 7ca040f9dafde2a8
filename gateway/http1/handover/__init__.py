"""WebSocket and HTTP/2 connections, given to Hypercorn with the bytes already read; the only package that
imports hypercorn."""

from __future__ import annotations

import logging
import socket
from collections import Counter
from typing import Any, cast

from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ASGIFramework

from gateway.http1.asgi import App, Message, Receive, Send
from gateway.http1.exchange import Exchange
from gateway.http1.handover.http2 import Http2Server
from gateway.http1.handover.stream import ReadAheadStream
from gateway.http1.handover.websocket import WebSocketServer
from gateway.http1.limits import HttpLimits
from gateway.http1.responses import ErrorBody

log = logging.getLogger("pipeline.http")


class Handover:
    """Serves the connections given to it with one Hypercorn configuration, until `shutdown` or `kill`."""

    def __init__(
        self, app: App, limits: HttpLimits, error_body: ErrorBody, refused: Counter[str] | None = None
    ) -> None:
        self._refused: Counter[str] = Counter() if refused is None else refused
        self._config = Config()
        self._config.errorlog = log
        self._config.include_server_header = False
        self._config.keep_alive_timeout = limits.idle_time
        self._config.h2_max_header_list_size = limits.max_head
        self._config.h11_max_incomplete_size = 2 * limits.max_head
        self._config.websocket_max_message_size = limits.max_body
        self._context = WorkerContext(None)
        self._app = ASGIWrapper(cast(ASGIFramework, _Bounded(app, limits, error_body, self._refused)))
        self._limits = limits
        self._error_body = error_body
        self._streams: set[ReadAheadStream] = set()

    @property
    def open(self) -> int:
        """How many connections it serves."""
        return len(self._streams)

    async def serve(self, sock: socket.socket, upgrade: Exchange | None, ahead: bytes) -> None:
        """Serve one connection to its end: a WebSocket where there was a request to become one, else HTTP/2.
        `ahead` was read behind the request."""
        stream = ReadAheadStream(sock, ahead, self._limits.write_time)
        self._streams.add(stream)
        server: Any
        if upgrade is None:
            server = Http2Server(self._app, self._config, self._context, {}, stream)  # type: ignore[arg-type]
        else:
            server = WebSocketServer(
                self._app, self._config, self._context, stream, upgrade, self._limits, self._error_body,
                self._refused,
            )  # fmt: skip
        try:
            await server.run()
        except Exception:
            log.exception("a connection given to hypercorn failed")
        finally:
            self._streams.discard(stream)
            stream.cut()

    async def shutdown(self) -> None:
        """Ask: idle connections close, busy ones finish."""
        await self._context.terminated.set()

    def kill(self) -> None:
        """Force: every connection is closed, also under a shielded write."""
        for stream in tuple(self._streams):
            stream.cut()


class _Bounded:
    """The app with the lane's body limit, which Hypercorn does not have."""

    def __init__(self, app: App, limits: HttpLimits, error_body: ErrorBody, refused: Counter[str]) -> None:
        self._refused = refused
        self._app = app
        self._limits = limits
        self._error_body = error_body

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            limit = self._limits.body_limit(scope["method"], scope["path"])
            refusal = self._error_body(413, f"The body is larger than {limit} bytes.", scope["path"])
            body = _BoundedBody(receive, send, limit, refusal, self._refused)
            receive, send = body.receive, body.send
        await self._app(scope, receive, send)


class _BoundedBody:
    """One request whose body, once it is over the limit, is answered 413; the app is told that its client
    has gone, and what it still says is dropped."""

    def __init__(
        self, receive: Receive, send: Send, limit: int, refusal: bytes, counts: Counter[str]
    ) -> None:
        self._counts = counts
        self._receive = receive
        self._send = send
        self._limit = self._left = limit
        self._refusal = refusal
        self._has_answered = False
        self._refused = False

    async def receive(self) -> Message:
        message = await self._receive()
        self._left -= len(message.get("body", b""))
        if self._left >= 0:
            return message
        if not self._refused:
            self._refused = True
            self._counts["body"] += 1
            log.warning("an HTTP/2 body larger than %d bytes was cut", self._limit)
            if not self._has_answered:
                headers = [(b"content-type", b"application/json")]
                await self._send({"type": "http.response.start", "status": 413, "headers": headers})
                await self._send({"type": "http.response.body", "body": self._refusal})
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        self._has_answered = True
        if not self._refused:
            await self._send(message)
