"""Pages of other origins: none may ask unless its origin is named (Fetch standard, CORS). Cookies are never
taken, so a page that may ask needs a token as any other client does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from starlette.middleware.cors import CORSMiddleware

from gateway.http1.exchange import Exchange, Observer

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
# What a page may send beside the headers that it always may, and read of an answer.
SENT = (
    "Authorization", "Content-Type", "Content-Encoding", "Idempotency-Key", "If-None-Match",
    "Inference-Header-Content-Length", "Last-Event-ID", "Traceparent", "X-Request-Id", "X-Timeout-Ms",
)  # fmt: skip
READ = (
    "ETag", "Inference-Header-Content-Length", "Location", "Retry-After", "Server-Timing",
    "WWW-Authenticate", "X-Cache", "X-Model-Version", "X-Request-Id", "X-Worker",
)  # fmt: skip
KEPT = 600  # seconds that a browser remembers what it may


class CrossOrigin:
    """What these origins may; nothing, where there are none."""

    def __init__(self, origins: Sequence[str]) -> None:
        self._origins = origins
        exposed = ", ".join(READ).encode()
        self._lines = {
            origin.encode(): b"vary: Origin\r\naccess-control-allow-origin: %b\r\n"
            b"access-control-expose-headers: %b\r\n" % (origin.encode(), exposed)
            for origin in origins
        }

    def app(self, app: Any) -> Any:
        """The app, which answers their preflight requests, and lets their pages read what it says."""
        if not self._origins:
            return app
        return CORSMiddleware(
            app,
            allow_origins=self._origins,
            allow_methods=METHODS,
            allow_headers=SENT,
            expose_headers=READ,
            max_age=KEPT,
        )

    def lines(self, exchange: Exchange) -> bytes:
        """The same for what the lane answers by itself: header lines to add."""
        if not self._lines:
            return b""
        origin = exchange.header(b"origin")
        return b"" if origin is None else self._lines.get(origin, b"")

    def around(self, observer: Observer) -> Observer:
        """The observer of the lane's answers, which adds these lines."""
        return _Observer(observer, self) if self._lines else observer


class _Observer:
    def __init__(self, observer: Observer, pages: CrossOrigin) -> None:
        self._observer = observer
        self._pages = pages

    def answering(self, exchange: Exchange, status: int, size: int) -> bytes:
        return self._observer.answering(exchange, status, size) + self._pages.lines(exchange)
