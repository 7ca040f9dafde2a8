"""`GET /events`: what happens in the gateway, as Server-Sent Events for dashboards (WHATWG HTML §9.2)."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

import trio
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from common.errors import Overloaded
from gateway.auth.asking import client_of, until_refused
from gateway.auth.clients import Client
from gateway.auth.roles import Role
from gateway.bell import Bell
from gateway.doors.monitoring.live_api import EVENTS
from gateway.doors.shape import encode
from gateway.observing.events import Event, Events, Lost
from gateway.openapi.operation import Described

HEARTBEAT = 15.0  # proxies cut what is silent for a minute or less
MAX_WATCHERS = 256
RETRY = b"retry: 1000\n\n"

Next = Callable[[], Awaitable[bytes]]  # what a client is sent next, as soon as there is something
OpenFeed = Callable[[Bell], AbstractContextManager[Next]]  # the bell is rung, too, when all has to end

_HEADERS = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # nginx would keep events back until it has a page full
]


class EventsDoor:
    """Streams end when the client goes, when its token does, or with `drain`."""

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
        return stream(request, self._events, partial(self._feed, request), self._drain)

    @contextmanager
    def _feed(self, request: Request, bell: Bell) -> Iterator[Next]:
        with self._events.watched(bell.ring, request.headers.get("last-event-id")) as subscriber:
            began = False

            async def following() -> bytes:
                nonlocal began
                if not began:
                    began = True
                    return RETRY + b"".join(map(write, subscriber.take()))
                with trio.move_on_after(HEARTBEAT):
                    await bell.wait()
                return b"".join(map(write, subscriber.take())) or b":\n\n"

            yield following


def stream(request: Request, events: Events, open_feed: OpenFeed, drain: trio.Event) -> Response:
    """The answer to a client that watches: a feed, until it goes, its token is in force no
    more, or `drain` is set; `Overloaded`."""
    if events.subscribers >= MAX_WATCHERS:
        raise Overloaded(f"{MAX_WATCHERS} clients watch already, as many as may")
    if request.method == "HEAD":
        return Response(media_type="text/event-stream")
    return _Stream(open_feed, drain, client_of(request.scope))


class _Stream(Response):
    """The answer while it goes on. What is written is at most what waits: a client that reads nothing is
    told how much it lost, and cut by the lane in the end."""

    def __init__(self, open_feed: OpenFeed, drain: trio.Event, client: Client | None) -> None:
        super().__init__()
        self._client = client
        self._open_feed = open_feed
        self._drain = drain

    async def __call__(
        self,
        scope: Any,
        receive: Callable[[], Awaitable[Any]],
        send: Callable[[Any], Awaitable[None]],
    ) -> None:
        bell = Bell()
        with self._open_feed(bell) as following:
            await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_until_gone, receive, nursery.cancel_scope)
                nursery.start_soon(self._until_drained, bell)
                nursery.start_soon(self._until_refused, nursery.cancel_scope)
                with contextlib.suppress(OSError):  # the client has gone
                    await self._tell(following, send)
                nursery.cancel_scope.cancel()
            with contextlib.suppress(OSError):
                await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _tell(self, following: Next, send: Callable[[Any], Awaitable[None]]) -> None:
        while True:
            await send({"type": "http.response.body", "body": await following(), "more_body": True})
            if self._drain.is_set():
                return

    async def _until_drained(self, bell: Bell) -> None:
        await self._drain.wait()
        bell.ring()

    async def _until_refused(self, scope: trio.CancelScope) -> None:
        await until_refused(self._client, Role.READ)
        scope.cancel()


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
