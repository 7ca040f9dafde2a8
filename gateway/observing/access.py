"""What is noted of each request as it is answered, whichever door it came through: an id that its client can
name, and now and then a line in the log. Never what it carries: no body, no query, no header but its id.
"""

from __future__ import annotations

import itertools
import logging
import re
from collections.abc import Callable, Mapping
from typing import Any

import trio

from common.log import event
from gateway.http1.asgi import App, Message, Receive, Send
from gateway.http1.exchange import Exchange

log = logging.getLogger("pipeline.access")

HEADER = b"x-request-id"
FORM = "[A-Za-z0-9._:/+=@-]{1,128}"
_VALID = re.compile(FORM.encode()).fullmatch
_CLIENT_GONE = 499


class Access:
    """`run` names this process in the ids it makes; of all requests the share `rate` is logged, evenly."""

    def __init__(self, run: str, rate: float = 0.0) -> None:
        self._prefix = f"{run}-".encode()
        self._numbers = itertools.count(1)
        self._rate = rate
        self._share = 0.0

    def name(self, given: bytes | None) -> bytes:
        """A request's id: its client's own where that is one, else a new one."""
        if given is not None and _VALID(given):
            return given
        return b"%b%d" % (self._prefix, next(self._numbers))

    def answering(self, exchange: Exchange, status: int, size: int) -> bytes:
        """The lane answers a request directly; the header lines to add."""
        given = exchange.header(HEADER)
        name = b"%b%d" % (self._prefix, next(self._numbers)) if given is None else self.name(given)
        if self._rate and self._is_due():
            self._noted_http(exchange.method, exchange.path, status, size, exchange.began, name)
        return b"x-request-id: %b\r\n" % name

    def around(self, app: App) -> App:
        """The app, whose requests are noted, whatever brought them."""

        async def noted(scope: Any, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                await app(scope, receive, send)
                return
            began = trio.current_time()
            name = self.name(next((value for key, value in scope["headers"] if key == HEADER), None))
            status, size = _CLIENT_GONE, 0

            async def sending(message: Message) -> None:
                nonlocal status, size
                if message["type"] == "http.response.start":
                    status = message["status"]
                    message = {**message, "headers": [*message.get("headers", ()), (HEADER, name)]}
                else:
                    size += len(message.get("body", b""))
                await send(message)

            try:
                await app(scope, receive, sending)
            finally:
                if self._is_due():
                    self._noted_http(scope["method"], scope["path"], status, size, began, name)

        return noted

    def called(self, headers: Mapping[bytes, bytes], began: float, status: str) -> bytes:
        """A gRPC call ends; the id that its client is told."""
        name = self.name(headers.get(HEADER))
        if self._is_due():
            path = headers.get(b":path", b"").decode("latin-1")
            _note(began, name.decode(), door="grpc", path=path, code=status)
        return name

    def told(self, began: float, answer: str | bytes, code: str, name: Callable[[], str]) -> None:
        """A message of a WebSocket is answered."""
        if self._is_due():
            size = len(answer.encode() if isinstance(answer, str) else answer)
            _note(began, name(), door="ws", path="/ws", code=code, bytes=size)

    def _is_due(self) -> bool:
        self._share += self._rate
        if self._share < 1:
            return False
        self._share -= 1
        return True

    def _noted_http(self, method: str, path: str, status: int, size: int, began: float, name: bytes) -> None:
        told = {"method": method, "path": path, "status": status, "bytes": size}
        _note(began, name.decode(), door="http", **told)


def _note(began: float, name: str, **told: object) -> None:
    seconds = trio.current_time() - began
    event(log, logging.INFO, "request", **told, seconds=seconds, request_id=name)
