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


def cross_origin(app: Any, origins: Sequence[str]) -> Any:
    """The app, which answers preflight requests of these origins, and lets their pages read what it says."""
    if not origins:
        return app
    return CORSMiddleware(
        app,
        allow_origins=origins,
        allow_methods=METHODS,
        allow_headers=SENT,
        expose_headers=READ,
        max_age=KEPT,
    )


class CrossOriginObserver:
    """Adds to what the lane answers directly what the middleware adds to the app's answers."""

    def __init__(self, observer: Observer, origins: Sequence[str]) -> None:
        self._observer = observer
        exposed = ", ".join(READ).encode()
        self._lines = {
            origin.encode(): b"vary: Origin\r\naccess-control-allow-origin: %b\r\n"
            b"access-control-expose-headers: %b\r\n" % (origin.encode(), exposed)
            for origin in origins
        }

    def answering(self, exchange: Exchange, status: int, size: int) -> bytes:
        """The lane answers a request directly; the header lines to add."""
        lines = self._observer.answering(exchange, status, size)
        origin = exchange.header(b"origin")
        return lines if origin is None else lines + self._lines.get(origin, b"")
