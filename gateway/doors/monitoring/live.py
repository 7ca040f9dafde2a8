"""What a dashboard shows: the last hour, what happened lately, and a stream of both and of `/status`.

Who cannot have the stream polls `/status`, `/history` and `/recent`, which say the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import trio
from starlette.requests import Request
from starlette.responses import Response

from gateway.bell import Bell
from gateway.doors.answers import json_response
from gateway.doors.monitoring.events import RETRY, Next, stream
from gateway.doors.monitoring.live_api import (
    DASHBOARD_LIVE,
    HISTORY,
    RECENT,
    FailureShown,
    HistoryShown,
    RecentShown,
)
from gateway.doors.monitoring.status import StatusDoor
from gateway.doors.shape import encode
from gateway.observing.events import Event, Events, Lost, Subscriber
from gateway.observing.failures import Failure
from gateway.observing.history import STEP, Sample
from gateway.observing.sampling import Sampling
from gateway.openapi.operation import Described

PERIOD = 1.0  # between two looks at the fleet, and for each so many workers a second more
WORKERS_PER_PERIOD = 50
GATHER = 0.1  # what happens within so long is told together
LATEST = 200  # events


class LiveDoor:
    """Streams end when the client goes, when its token does, or with `drain`."""

    def __init__(self, status: StatusDoor, events: Events, sampling: Sampling) -> None:
        self._status = status
        self._events = events
        self._sampling = sampling
        self._failures = sampling.failures
        self._drain = trio.Event()
        self._turn = trio.Lock()
        self._said = b""
        self._said_at = -PERIOD
        self._period = PERIOD

    def routes(self) -> list[Described]:
        """For the app."""
        return [
            Described("/dashboard/live", self.watch, get=DASHBOARD_LIVE),
            Described("/history", self.history, get=HISTORY),
            Described("/recent", self.recent, get=RECENT),
        ]

    def drain(self) -> None:
        """End every stream."""
        self._drain.set()

    async def watch(self, request: Request) -> Response:
        """All there is, and then whatever changes."""
        return stream(request, self._events, self._feed, self._drain)

    async def history(self, _request: Request) -> Response:
        """The last hour."""
        return json_response(history_shown(self._sampling.history.newest()))

    async def recent(self, _request: Request) -> Response:
        """What failed, and what happened."""
        return json_response(self._recent())

    # --- inside

    @contextmanager
    def _feed(self, bell: Bell) -> Iterator[Next]:
        with self._events.watched(bell.ring) as subscriber:
            self._sampling.watchers.add(bell)
            try:
                yield _Watcher(self, subscriber, bell).following
            finally:
                self._sampling.watchers.discard(bell)

    async def status(self) -> bytes:
        """What `/status` says, as a message: the same for all who ask within a period."""
        async with self._turn:
            if trio.current_time() - self._said_at >= self._period / 2:
                shown = await self._status.patiently()
                self._period = PERIOD * (1 + shown["workers_count"] / WORKERS_PER_PERIOD)
                self._said = message("status", shown)
                self._said_at = trio.current_time()
            return self._said

    def _recent(self) -> RecentShown:
        return {
            "status": True,
            "message": "OK",
            "failures": [failure_shown(each) for each in self._failures.latest()],
            "events": [event_shown(each) for each in self._events.latest(LATEST)],
        }


class _Watcher:
    """What one client was told, and so what is new to it."""

    def __init__(self, door: LiveDoor, subscriber: Subscriber, bell: Bell) -> None:
        self._door = door
        self._subscriber = subscriber
        self._bell = bell
        self._due: float | None = None  # when the fleet is looked at again; None before the first time
        self._samples = self._failures = 0

    async def following(self) -> bytes:
        """The next messages."""
        door = self._door
        if self._due is None:
            parts = [RETRY, message("recent", door._recent())]
        else:
            with trio.move_on_at(self._due):
                await self._bell.wait()
                await trio.sleep(GATHER)
            parts = [_written(each) for each in self._subscriber.take()]
        parts += self._sampled()
        if self._due is None or trio.current_time() >= self._due:
            parts += [await door.status(), *self._failed()]
            self._due = trio.current_time() + door._period
        return b"".join(parts) or b":\n\n"

    def _sampled(self) -> list[bytes]:
        history = self._door._sampling.history
        new, self._samples = history.count - self._samples, history.count
        return [message("history", history_shown(history.newest(new)))] if new or self._due is None else []

    def _failed(self) -> list[bytes]:
        failures = self._door._failures
        if failures.count == self._failures:
            return []
        self._failures = failures.count
        return [message("failures", [failure_shown(each) for each in failures.latest()])]


def message(name: str, value: object) -> bytes:
    """One message of the stream; none has an id, as everything is told anew to who comes back."""
    return b"event: %b\ndata: %b\n\n" % (name.encode(), encode(value))


def _written(event: Event | Lost) -> bytes:
    shown = {"topic": "lost", "events": event.events} if isinstance(event, Lost) else event_shown(event)
    return message("event", shown)


def event_shown(event: Event) -> dict[str, Any]:
    """An event with its time."""
    return {"at": round(event.at, 3), **event.data}


def failure_shown(failure: Failure) -> FailureShown:
    """A kind of failure as JSON has it."""
    return {
        "model": failure.key.model,
        "version": failure.key.version,
        "code": failure.code,
        "message": failure.message,
        "count": failure.times,
        "first": round(failure.first, 3),
        "last": round(failure.last, 3),
    }


def history_shown(samples: Iterable[Sample]) -> HistoryShown:
    """Samples as JSON has them: a list for each figure."""
    samples = list(samples)
    return {
        "status": True,
        "message": "OK",
        "step_s": STEP,
        "at": [round(each.at, 1) for each in samples],
        "requests_per_second": [round(each.requests, 2) for each in samples],
        "failures_per_second": [round(each.failures, 2) for each in samples],
        "p50": [_milliseconds(each.p50) for each in samples],
        "p99": [_milliseconds(each.p99) for each in samples],
        "queue_requests": [each.now.waiting for each in samples],
        "requests_in_progress": [each.now.in_progress for each in samples],
        "workers_ready": [each.now.ready for each in samples],
        "workers": [each.now.workers for each in samples],
    }


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 3)
