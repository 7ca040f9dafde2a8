"""What happened in the gateway, for whoever watches: a bounded memory, and subscribers who hold nobody up.

An event's id says which gateway process gave it and its number there, so that whoever comes back is told what
was meanwhile, or that nobody knows. Pure.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

FLEET, ROLLOUT, EXPERIMENT, JOB, AUTOSCALER = "fleet", "rollout", "experiment", "job", "autoscaler"

Publish = Callable[..., None]


class Event(NamedTuple):
    """One thing that happened; `data` is what JSON can say of it, `at` when it was, in unix seconds."""

    id: str
    topic: str
    data: dict[str, Any]
    at: float = 0.0


class Lost(NamedTuple):
    """Events that a subscriber was too slow for, or that are forgotten; None where nobody knows how many."""

    events: int | None


def nobody(topic: str, what: str, /, **fields: Any) -> None:
    """Publishes nothing: what whoever publishes has until there is somebody to tell."""


class Subscriber:
    """Invariant: at most `room` events wait; those that come meanwhile are counted, and told of in their
    place."""

    __slots__ = ("_lost", "_room", "_waiting", "on_news")

    def __init__(self, room: int, on_news: Callable[[], None]) -> None:
        self.on_news = on_news
        self._room = room
        self._waiting: deque[Event | Lost] = deque()
        self._lost: int | None = 0

    def offer(self, event: Event) -> None:
        """Something happened."""
        if len(self._waiting) >= self._room:
            self._lost = None if self._lost is None else self._lost + 1
            return
        self._note_lost()
        self._waiting.append(event)
        self.on_news()

    def lose(self, count: int | None) -> None:
        """So many were forgotten before it came."""
        self._lost = count

    def take(self) -> list[Event | Lost]:
        """Whatever waits, in order; nothing of it waits any more."""
        self._note_lost()
        taken = list(self._waiting)
        self._waiting.clear()
        return taken

    def _note_lost(self) -> None:
        if self._lost != 0:
            self._waiting.append(Lost(self._lost))
            self._lost = 0


class Events:
    """The last `memory` events, and everybody who is told of new ones. `run` names this process; `clock` says
    what time it is."""

    MEMORY, ROOM = 1000, 256

    def __init__(
        self, run: str, *, memory: int = MEMORY, room: int = ROOM, clock: Callable[[], float] = lambda: 0.0
    ) -> None:
        self._run = run
        self._clock = clock
        self._numbers = itertools.count(1)
        self._last = 0
        self._room = room
        self._ring: deque[Event] = deque(maxlen=memory)
        self._subscribers: set[Subscriber] = set()

    @property
    def subscribers(self) -> int:
        """How many there are."""
        return len(self._subscribers)

    def publish(self, topic: str, what: str, /, **fields: Any) -> None:
        """Something happened; costs no more than an append for each subscriber."""
        self._last = next(self._numbers)
        event = Event(
            f"{self._run}-{self._last}", topic, {"topic": topic, "what": what, **fields}, self._clock()
        )
        self._ring.append(event)
        for subscriber in self._subscribers:
            subscriber.offer(event)

    def latest(self, count: int) -> list[Event]:
        """The newest, as many as there are of so many; the newest first."""
        return list(itertools.islice(reversed(self._ring), count))

    def subscribe(self, on_news: Callable[[], None], after: str | None = None) -> Subscriber:
        """A new subscriber, told of what follows; also of what was since the event with the id `after`."""
        subscriber = Subscriber(self._room, on_news)
        if after is not None:
            self._replay(subscriber, after)
        self._subscribers.add(subscriber)
        return subscriber

    def unsubscribe(self, subscriber: Subscriber) -> None:
        """It is told no more."""
        self._subscribers.discard(subscriber)

    @contextmanager
    def watched(self, on_news: Callable[[], None], after: str | None = None) -> Iterator[Subscriber]:
        """A subscriber for as long as it lasts."""
        subscriber = self.subscribe(on_news, after)
        try:
            yield subscriber
        finally:
            self.unsubscribe(subscriber)

    def _replay(self, subscriber: Subscriber, after: str) -> None:
        run, _, number = after.rpartition("-")
        is_ours = run == self._run and number.isascii() and number.isdigit() and len(number) < 20
        missed = max(0, self._last - int(number)) if is_ours else self._last
        known = list(self._ring)[-min(missed, self._room - 1) :] if missed else []
        subscriber.lose(missed - len(known) if is_ours else None)
        for event in known:
            subscriber.offer(event)
