"""Requests for which there is no worker, by model version, and for how long there is hope. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from gateway.scheduling.queues import Queue
from gateway.scheduling.requests import ModelKey, Request


class Unrouted:
    """A request waits `worker_wait` seconds for a worker, and longer while one is expected: it is being given
    the request's version, or, as `is_worker_starting` says, started. No queue in it is empty."""

    def __init__(self, worker_wait: float) -> None:
        self.worker_wait = worker_wait
        self.is_worker_starting = False
        self.last_left = 0.0  # when a worker went away, or gave up a version, last
        self._expected: Counter[ModelKey] = Counter()  # loads under way, by version
        self._queues: dict[ModelKey, Queue] = {}

    def __iter__(self) -> Iterator[Request]:
        return (request for queue in self._queues.values() for request in queue)

    def __contains__(self, request: Request) -> bool:
        return request in self._queues.get(request.key, ())

    def add(self, request: Request) -> None:
        """One more."""
        queue = self._queues.get(request.key)
        if queue is None:
            queue = self._queues[request.key] = Queue()
        queue.put(request)

    def remove(self, request: Request) -> None:
        """One less."""
        queue = self._queues[request.key]
        queue.take_out(request)
        if not queue:
            del self._queues[request.key]

    def versions(self) -> list[ModelKey]:
        """The versions that somebody waits for."""
        return list(self._queues)

    def of(self, key: ModelKey) -> list[Request]:
        """Who waits for a version."""
        return list(self._queues.get(key, ()))

    @contextmanager
    def expecting(self, keys: Collection[ModelKey]) -> Iterator[None]:
        """Somebody is being given these versions: who waits for one does so for as long as that takes, or
        until the deadline."""
        self._expected.update(keys)
        try:
            yield
        finally:
            self._expected.subtract(keys)
            self._expected += Counter()  # without those that are 0 now

    def is_expected(self, key: ModelKey) -> bool:
        """Whether somebody is being given a version."""
        return self._expected[key] > 0

    def has_hope(self, key: ModelKey) -> bool:
        """Whether there will soon be a worker more with a version, or any worker at all."""
        return self.is_worker_starting or self.is_expected(key)

    def hopeless(self, now: float) -> list[Request]:
        """Who has waited too long."""
        if self.is_worker_starting:
            return []
        return [
            request
            for key, queue in self._queues.items()
            if not self.is_expected(key)
            for request in queue
            if now - max(request.admitted, self.last_left) >= self.worker_wait
        ]
