"""Which workers hold which version: what the scheduler may send where. Changed by rollouts, in their turn."""

from __future__ import annotations

from collections.abc import Iterable

import trio

from gateway.catalog import Version
from gateway.dispatch import Dispatcher
from gateway.fleet import Fleet
from gateway.placement import place
from gateway.requests import ModelKey
from gateway.roster import State as Life
from gateway.roster import Worker


class Holders:
    """A version that everybody should hold is not looked at here: the scheduler then asks no further."""

    def __init__(self, dispatcher: Dispatcher, fleet: Fleet) -> None:
        self._dispatcher = dispatcher
        self._fleet = fleet
        self._held: dict[ModelKey, set[str]] = {}

    def wanted(self, version: Version, joining: Worker | None = None) -> frozenset[str]:
        """The ready workers that should hold a version; with one that joins, as if it were ready."""
        patterns = self._fleet.patterns(Life.READY)
        if joining is not None:
            patterns[joining.id] = joining.hello.models
        return place(version.key.model, version.settings.instances, patterns)

    def of(self, key: ModelKey) -> set[str]:
        """The workers that hold a version."""
        return set(self._held.get(key, ()))

    def set(self, version: Version, workers: Iterable[str]) -> None:
        """These workers, and no others, are sent a version's requests from now on."""
        held = self._held[version.key] = set(workers)
        patterns = self._fleet.patterns(Life.SYNCING, Life.READY)
        everybody = version.settings.instances is None and not any(patterns.values())
        scheduler = self._dispatcher.scheduler
        woken = scheduler.place(version.key, None if everybody else held, trio.current_time())
        self._dispatcher.wake_all(woken)

    def add(self, version: Version, worker: str) -> None:
        """One more worker holds a version."""
        self.set(version, self.of(version.key) | {worker})

    def forget(self, key: ModelKey) -> None:
        """Nobody is asked for a version any more."""
        self._held.pop(key, None)
        self._dispatcher.scheduler.place(key, None, trio.current_time())

    def forget_worker(self, worker: str) -> None:
        """A worker is gone, and all that it held."""
        for held in self._held.values():
            held.discard(worker)
