"""`GET /events`: what happens in the gateway, as Server-Sent Events for dashboards (WHATWG HTML §9.2)."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import trio
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from common.errors import Overloaded
from gateway.bell import Bell
from gateway.doors.live_api import EVENTS
from gateway.doors.shape import encode
from gateway.events import Event, Events, Lost, Subscriber
from gateway.openapi.operation import Described

HEARTBEAT = 15.0  # proxies cut what is silent for a minute or less
MAX_WATCHERS = 256

_HEADERS = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # nginx would keep events back until it has a page full
]


class EventsDoor:
    """Streams end when the client goes, or with `drain`."""

    def __init__(self, events: Events) -> None:
        self._events = events
        self._drain = trio.Event()

    def routes(self) -> list[BaseRoute]:
        """For the app."""
        return [Described("/events", self.watch, get=EVENTS)]

    def drain(self) -> None:
        """End every stream."""
        self._drain.set()

    async def watch(self, request: Request) -> Response:
        """Everything from now on; also what was since the event that a `Last-Event-ID` names."""
        if self._events.subscribers >= MAX_WATCHERS:
            raise Overloaded(f"{MAX_WATCHERS} clients watch already, as many as may")
        if request.method == "HEAD":
            return Response(media_type="text/event-stream")
        return _Stream(self._events, request.headers.get("last-event-id"), self._drain)


class _Stream(Response):
    """The answer while it goes on. What is written is at most what waits: a client that reads nothing is
    told how much it lost, and cut by the lane in the end."""

    def __init__(self, events: Events, after: str | None, drain: trio.Event) -> None:
        super().__init__()
        self._events = events
        self._after = after
        self._drain = drain

    async def __call__(
        self,
        scope: Any,
        receive: Callable[[], Awaitable[Any]],
        send: Callable[[Any], Awaitable[None]],
    ) -> None:
        bell = Bell()
        subscriber = self._events.subscribe(bell.ring, self._after)
        try:
            await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_until_gone, receive, nursery.cancel_scope)
                nursery.start_soon(self._until_drained, bell)
                with contextlib.suppress(OSError):  # the client has gone
                    await self._tell(subscriber, bell, send)
                nursery.cancel_scope.cancel()
            with contextlib.suppress(OSError):
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            self._events.unsubscribe(subscriber)

    async def _tell(self, subscriber: Subscriber, bell: Bell, send: Callable[[Any], Awaitable[None]]) -> None:
        chunk = b"retry: 1000\n\n" + b"".join(map(write, subscriber.take()))
        while True:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
            if self._drain.is_set():
                return
            with trio.move_on_after(HEARTBEAT):
                await bell.wait()
            chunk = b"".join(map(write, subscriber.take())) or b":\n\n"

    async def _until_drained(self, bell: Bell) -> None:
        await self._drain.wait()
        bell.ring()


async def _until_gone(receive: Callable[[], Awaitable[Any]], scope: trio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


def write(event: Event | Lost) -> bytes:
    """One event as it is written; one that says how much was lost has no id, so that a client that comes
    back is told of the rest."""
    if isinstance(event, Lost):
        return b"event: lost\ndata: %b\n\n" % encode({"topic": "lost", "events": event.events})
    return b"id: %b\nevent: %b\ndata: %b\n\n" % (event.id.encode(), event.topic.encode(), encode(event.data))
