"""Requests for which there is no worker, by model version, and for how long there is hope. Pure."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterator

from gateway.queues import Queue
from gateway.requests import ModelKey, Request


class Unrouted:
    """A request waits `worker_wait` seconds for a worker, and longer while one is expected: it is being given
    the request's version. No queue in it is empty."""

    def __init__(self, worker_wait: float) -> None:
        self.worker_wait = worker_wait
        self.last_left = 0.0  # when a worker went away, or gave up a version, last
        self.expected: Counter[ModelKey] = Counter()  # loads under way, by version
        self._queues: dict[ModelKey, Queue] = {}

    def __iter__(self) -> Iterator[Request]:
        return (request for queue in self._queues.values() for request in queue)

    def __contains__(self, request: Request) -> bool:
        return request in self._queues.get(request.key, ())

    def add(self, request: Request) -> None:
        """One more."""
        queue = self._queues.get(request.key)
        if queue is None:
            queue = self._queues[request.key] = OrderedDict()
        queue[request] = None

    def remove(self, request: Request) -> None:
        """One less."""
        queue = self._queues[request.key]
        del queue[request]
        if not queue:
            del self._queues[request.key]

    def keys(self) -> list[ModelKey]:
        """The versions that somebody waits for."""
        return list(self._queues)

    def of(self, key: ModelKey) -> list[Request]:
        """Who waits for a version."""
        return list(self._queues.get(key, ()))

    def hopeless(self, now: float) -> list[Request]:
        """Who has waited too long."""
        return [
            request
            for key, queue in self._queues.items()
            if not self.expected[key]
            for request in queue
            if now - max(request.admitted, self.last_left) >= self.worker_wait
        ]
