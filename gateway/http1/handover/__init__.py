"""WebSocket and HTTP/2 connections, given to Hypercorn with the bytes already read; the only package that
imports hypercorn."""

from __future__ import annotations

import logging
import socket
from collections import Counter
from typing import Any, cast

import trio
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

_PIECE = 64 << 10


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
        stream = ReadAheadStream(sock, ahead, self._limits.write_time, self._refused)
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
    """The app with the lane's limits on bodies, which Hypercorn does not have."""

    def __init__(self, app: App, limits: HttpLimits, error_body: ErrorBody, refused: Counter[str]) -> None:
        self._refused = refused
        self._app = app
        self._limits = limits
        self._error_body = error_body

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            body = _BoundedBody(scope, receive, send, self._limits, self._error_body, self._refused)
            receive, send = body.receive, body.send
        await self._app(scope, receive, send)


class _BoundedBody:
    """One request whose body, once it is over the limit, is answered 413, and 408 if it pauses for too
    long or trickles in; the app is told that its client has gone, and what it still says is dropped. So is
    that of a client which makes no room for it. Only time in which the app waits for the client counts."""

    def __init__(
        self,
        scope: Message,
        receive: Receive,
        send: Send,
        limits: HttpLimits,
        error_body: ErrorBody,
        counts: Counter[str],
    ) -> None:
        self._path = scope["path"]
        self._receive = receive
        self._send = send
        self._limits = limits
        self._error_body = error_body
        self._counts = counts
        self._most = self._left = limits.body_limit(scope["method"], scope["path"])
        self._waited, self._came = 0.0, 0  # since its rate was looked at
        self._has_answered = False
        self._is_whole = False
        self._refused = False

    async def receive(self) -> Message:
        if self._refused:
            return {"type": "http.disconnect"}
        if self._is_whole:
            return await self._receive()
        began = trio.current_time()
        with trio.move_on_after(self._limits.body_time) as patience:
            message = await self._receive()
        if patience.cancelled_caught:
            return await self._refuse(408, "The body did not arrive in time.", "body_time")
        size = len(message.get("body", b""))
        self._left -= size
        if self._left < 0:
            return await self._refuse(413, f"The body is larger than {self._most} bytes.", "body")
        self._is_whole = not message.get("more_body", False)
        if not self._is_whole and self._is_slow(trio.current_time() - began, size):
            return await self._refuse(408, "The body did not arrive in time.", "body_time")
        return message

    def _is_slow(self, waited: float, size: int) -> bool:
        limits = self._limits
        self._waited += waited
        self._came += size
        if self._waited < limits.body_time:
            return False
        is_slow = self._came < limits.min_body_rate * self._waited
        self._waited, self._came = 0.0, 0
        return is_slow

    async def _refuse(self, status: int, message: str, limit: str) -> Message:
        self._refused = True
        self._counts[limit] += 1
        log.warning("an HTTP/2 request was cut: %s", message)
        if not self._has_answered:
            headers = [(b"content-type", b"application/json")]
            await self._send({"type": "http.response.start", "status": status, "headers": headers})
            body = self._error_body(status, message, self._path)
            await self._send({"type": "http.response.body", "body": body})
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        self._has_answered = True
        # In pieces, so that a client which takes them slowly has the time again for each.
        while len(message.get("body", b"")) > _PIECE:
            body = memoryview(message["body"])
            await self._send_one({**message, "body": bytes(body[:_PIECE]), "more_body": True})
            message = {**message, "body": body[_PIECE:]}
        await self._send_one(
            message if "body" not in message else {**message, "body": bytes(message["body"])}
        )

    async def _send_one(self, message: Message) -> None:
        if self._refused:
            return
        with trio.move_on_after(self._limits.write_time) as patience:
            await self._send(message)
        if patience.cancelled_caught:
            self._refused = True
            self._counts["write_time"] += 1
