"""The bridge from one exchange to one call of an ASGI 3 app; HTTP only, no lifespan and no WebSocket."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import trio

from gateway.http1.connection import Connection
from gateway.http1.exchange import Exchange
from gateway.http1.responses import CONTINUE, may_have_body

log = logging.getLogger("pipeline.http")

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Any, Any, Any], Awaitable[None]]

_DISCONNECT = "http.disconnect"


def make_scope(connection: Connection, exchange: Exchange) -> Message:
    """The ASGI connection scope of this request (ASGI 3.0, HTTP spec version 2.4)."""
    target = exchange.target if exchange.target.startswith(b"/") else exchange.path.encode()
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.0" if exchange.http10 else "1.1",
        "method": exchange.method,
        "scheme": "http",
        "path": exchange.path,
        "raw_path": target.partition(b"?")[0],
        "query_string": exchange.query,
        "root_path": "",
        "headers": exchange.headers.copy(),  # requests of one head share theirs
        "client": connection.peer[:2] if connection.peer else None,
        "server": connection.local_address(),
    }


class ClientGone(OSError):
    """Raised by `send` when the client has left (ASGI HTTP spec 2.4)."""


class AppCall:
    """One run of the app for one exchange.

    Invariant: the head is written together with the first body message, so that a body of one message
    gets a content-length; `exchange.answered` is true once a byte of the answer has left.
    """

    __slots__ = (
        "_chunked",
        "_connection",
        "_exchange",
        "_finished",
        "_left",
        "_news",
        "_scope",
        "_start",
        "_took_all",
    )

    def __init__(self, connection: Connection, exchange: Exchange) -> None:
        self._connection = connection
        self._exchange = exchange
        self._news = trio.lowlevel.ParkingLot()
        self._scope = make_scope(connection, exchange)
        self._start: Message | None = None
        self._chunked = False
        self._left: int | None = None
        self._took_all = False
        self._finished = False
        exchange.on_news = self._wake

    def _wake(self) -> None:
        self._news.unpark_all()

    async def run(self, app: App) -> None:
        """Call the app; an exception of it is logged and answered 500, or cuts the connection mid-answer."""
        exchange = self._exchange
        failed = False
        try:
            await app(self._scope, self.receive, self.send)
        except Exception as error:
            if exchange.gone:
                log.info("%s %s ended as the client had left: %r", exchange.method, exchange.path, error)
                return
            failed = True
            log.exception("the app failed on %s %s", exchange.method, exchange.path)
        if self._finished or exchange.gone:
            return
        if exchange.answered:
            if not failed:
                log.error("the app left the answer to %s %s unfinished", exchange.method, exchange.path)
            self._connection.kill()
            return
        if not failed:
            log.error("the app did not answer %s %s", exchange.method, exchange.path)
        message = "The server failed on this request."
        body = self._connection.lane.error_body(500, message, exchange.path)
        exchange.keep_alive = exchange.keep_alive and exchange.complete
        exchange.respond(500, body)

    async def receive(self) -> Message:
        """ASGI's receive: the body in pieces as they come, then `http.disconnect` when the client goes."""
        exchange, connection = self._exchange, self._connection
        if exchange.expects and not exchange.answered and not exchange.complete:
            exchange.expects = False
            connection.write(CONTINUE)
        while not (self._finished or exchange.gone):
            if not self._took_all and (exchange.body or exchange.complete):
                body, exchange.body = exchange.body, b""
                self._took_all = exchange.complete
                connection.rearm()
                return {"type": "http.request", "body": bytes(body), "more_body": not self._took_all}
            if self._took_all and connection.eof:
                break
            await self._news.park()
        return {"type": _DISCONNECT}

    async def send(self, message: Message) -> None:
        """ASGI's send; returns once the kernel or, up to one message, the connection has the bytes.

        Raises ClientGone, and RuntimeError on messages out of order or a body unlike its content-length.
        """
        kind = message["type"]
        if self._exchange.gone:
            raise ClientGone("The client has left.")
        if kind == "http.response.start" and self._start is None:
            self._start = message
        elif kind == "http.response.body" and self._start is not None and not self._finished:
            more = bool(message.get("more_body", False))
            self._send_body(bytes(message.get("body", b"")), more)
            if more:
                await trio.lowlevel.checkpoint()
            while self._connection.out and more and not self._exchange.gone:
                await self._news.park()
        else:
            raise RuntimeError(f"The app sent {kind!r} out of order.")

    def _send_body(self, body: bytes, more: bool) -> None:
        exchange, connection = self._exchange, self._connection
        start = self._start
        assert start is not None
        head = b""
        if not exchange.answered:
            head = self._head(start, len(body), more)
            exchange.answered = True
        bodiless = exchange.method == "HEAD" or not may_have_body(start["status"])
        if bodiless:
            body = b""
        elif self._left is not None:
            self._left -= len(body)
            if self._left < 0 or (self._left > 0 and not more):
                raise RuntimeError("The app's body is not as long as its content-length.")
        if self._chunked and not bodiless:
            body = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            body += b"" if more else b"0\r\n\r\n"
        if head or body:
            connection.write(head + body)
        if not more:
            self._finished = True
            connection.finish(exchange.keep_alive)

    def _head(self, start: Message, size: int, more: bool) -> bytes:
        """Decide framing and keep-alive (the latter is left in `exchange.keep_alive`)."""
        exchange, lane = self._exchange, self._connection.lane
        headers = []
        for name, value in start.get("headers", ()):
            name = bytes(name).lower()
            if name == b"content-length":
                self._left = int(value)
            elif name == b"connection":
                exchange.keep_alive = exchange.keep_alive and bytes(value).lower() != b"close"
                continue
            elif name == b"transfer-encoding":
                continue
            headers.append((name, bytes(value)))
        unread = 0 if exchange.complete else exchange.length - exchange.received
        if (
            lane.draining
            or unread > lane.limits.max_discarded
            or (exchange.expects and not exchange.complete)
        ):
            exchange.keep_alive = False
        framing = b""
        status: int = start["status"]
        if self._left is None and may_have_body(status):
            if not more and not (exchange.method == "HEAD" and not size):
                self._left, framing = size, b"content-length: %d\r\n" % size
            elif exchange.http10:
                exchange.keep_alive = False
            elif more:
                self._chunked, framing = True, b"transfer-encoding: chunked\r\n"
        return lane.heads.app(status, headers, framing, keep=exchange.keep_alive, http10=exchange.http10)
