"""One request and the one answer it gets: what a direct handler holds in its hands."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from gateway.auth.clients import Client
from gateway.http1.request import Request
from gateway.http1.transport import Buffer

log = logging.getLogger("pipeline.http")


class Answerer(Protocol):
    """What an exchange needs of its connection."""

    peer: Any

    def answer(
        self, exchange: Exchange, status: int, body: bytes, extra: bytes, rest: Sequence[Buffer]
    ) -> None: ...


class Exchange(Request):
    """A request that can be answered exactly once, now or later, from any task of trio's thread.

    Invariant: at most one of answered and gone comes to pass first; `on_gone` is called only in the latter
    case, once. `on_news` is the app bridge's: the body grew, the answer was taken, or the client left.
    """

    __slots__ = (
        "answered",
        "began",
        "client",
        "connection",
        "gone",
        "handler",
        "on_gone",
        "on_news",
        "started",
    )

    def __init__(self, method: str, target: bytes, headers: list[tuple[bytes, bytes]]) -> None:
        super().__init__(method, target, headers)
        self.connection: Answerer | None = None
        self.client: Client | None = None  # who asks, where tokens say so
        self.handler: Callable[[Exchange], None] | None = None
        self.on_gone: Callable[[], None] | None = None
        self.on_news: Callable[[], None] | None = None
        self.began = 0.0  # when its turn came
        self.started = False
        self.answered = False
        self.gone = False

    @property
    def address(self) -> str:
        """The client's."""
        return "" if self.connection is None else str(self.connection.peer[0])

    def respond(self, status: int, body: bytes, extra: bytes = b"", rest: Sequence[Buffer] = ()) -> None:
        """Send head and body; a no-op once the client is gone. The body goes on with the buffers of `rest`,
        which are not copied where they are large and have to stay as they are until they are sent.

        `extra`: header lines, lower-case names, each ending in CRLF. The first may be `content-type`; without
        one it is `application/json`. Raises RuntimeError when called a second time.
        """
        if self.answered:
            raise RuntimeError(f"{self.method} {self.path} was answered twice.")
        self.answered = True
        self.on_gone = None  # it knows of us, and would keep us alive until the garbage collector comes
        if not self.gone and self.connection is not None:
            self.connection.answer(self, status, body, extra, rest)

    def vanish(self) -> None:
        """The client has gone: say so, once, to whoever still works on the answer."""
        if self.gone:
            return
        self.gone = True
        called, self.on_gone = self.on_gone, None
        if called is not None and not self.answered:
            try:
                called()
            except Exception:
                log.exception("on_gone of %s %s failed", self.method, self.path)
        if self.on_news is not None:
            self.on_news()


class Observer(Protocol):
    """Who is told of each answer."""

    def answering(self, exchange: Exchange, status: int, size: int) -> bytes:
        """A direct handler's answer of so many bytes is about to go; header lines to add to it."""
        ...


Handler = Callable[[Exchange], None]
Guard = Callable[[Exchange, Handler], Handler]
"""Asked of a direct handler's request once its head is read: what handles it, or `Refused`, at once."""
