"""Which workers hold which version: what the scheduler may send where.

A worker that should hold a version may lack it: it refused it, or it made room for others and loads it again
when somebody asks for it. Changed in the rollouts' turn; but what was evicted is said by who evicted it, and
what is loaded on demand is held at once.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

import trio

from common.log import event
from common.wire import LoadAnswer
from gateway.fleet.fleet import Fleet
from gateway.fleet.roster import State as Life
from gateway.fleet.roster import Worker
from gateway.models.catalog import Version
from gateway.models.placement import place
from gateway.models.refusals import Refusals, sentence_of
from gateway.scheduling.dispatch import Dispatcher
from gateway.scheduling.requests import ModelKey

log = logging.getLogger("pipeline.fleet")


class _Place:
    """A version, who holds it, and who did until it made room for others."""

    def __init__(self, version: Version) -> None:
        self.version = version
        self.holders: set[str] = set()
        self.evicted: set[str] = set()


class Holders:
    """A version that everybody holds is not looked at here: the scheduler then asks no further."""

    def __init__(self, dispatcher: Dispatcher, fleet: Fleet) -> None:
        self.refusals = Refusals()
        self._dispatcher = dispatcher
        self._fleet = fleet
        self._places: dict[ModelKey, _Place] = {}

    # --- who should

    def wanted(self, version: Version, joining: Worker | None = None) -> frozenset[str]:
        """The ready workers that should hold a version; with one that joins, as if it were ready. Who refused
        it lately is passed over."""
        patterns = self._willing(version.key)
        if joining is not None:
            patterns[joining.id] = joining.hello.models
        return place(version.key.model, version.settings.instances, patterns)

    def best(self, version: Version) -> str | None:
        """The ready worker that should load a version first, if any should."""
        return next(iter(place(version.key.model, 1, self._willing(version.key))), None)

    def _willing(self, key: ModelKey) -> dict[str, list[str]]:
        spared = self.refusals.spared(key, trio.current_time())
        patterns = self._fleet.patterns(Life.READY)
        return {worker: patterns[worker] for worker in patterns.keys() - spared}

    # --- who does

    def of(self, key: ModelKey) -> set[str]:
        """The workers that hold a version."""
        found = self._places.get(key)
        return set() if found is None else set(found.holders)

    def evicted_at(self, key: ModelKey) -> set[str]:
        """The workers that will load a version again when somebody asks for it."""
        found = self._places.get(key)
        return set() if found is None else set(found.evicted)

    def set(self, version: Version, workers: Iterable[str]) -> None:
        """These workers, and no others, are sent a version's requests from now on."""
        found = self._place_of(version)
        found.holders = set(workers)
        found.evicted -= found.holders
        for worker in found.holders:
            self.refusals.forget(version.key, worker)
        self._tell(found)

    def reload(self, version: Version, workers: Iterable[str]) -> None:
        """Only these workers, of those that are ready, hold a version as it is now. Others that held it load
        it again when somebody asks for it, and whoever refused it may take it so."""
        ready = self._fleet.ids(Life.READY)
        self._place_of(version).evicted |= self.of(version.key) & ready
        self.refusals.forget(version.key)
        self.set(version, ready & set(workers))

    def add(self, version: Version, worker: str) -> None:
        """One more worker holds a version."""
        self.set(version, self.of(version.key) | {worker})

    def evict(self, version: Version, worker: str) -> None:
        """A worker has no room for a version now."""
        found = self._place_of(version)
        found.evicted.add(worker)
        found.holders.discard(worker)
        self._tell(found)

    def refuse(self, version: Version, worker: str, answer: LoadAnswer | None) -> None:
        """A worker does not load a version (None: it does not even answer)."""
        sentence = sentence_of(answer)
        if self.refusals.add(version.key, worker, sentence, trio.current_time()):
            known = self._fleet.roster.get(worker)
            event(
                log, logging.WARNING, "worker refuses a version",
                worker=known.name if known else worker, model=version.key.model, version=version.key.version,
                reason=sentence,
            )  # fmt: skip
        found = self._place_of(version)
        found.holders.discard(worker)
        self._tell(found)

    def forget(self, key: ModelKey) -> None:
        """Nobody is asked for a version any more."""
        self._places.pop(key, None)
        self.refusals.forget(key)
        self._dispatcher.forget(key)

    def forget_worker(self, worker: str) -> None:
        """A worker is gone, and all that it held, refused or evicted."""
        self.refusals.forget_worker(worker)
        for found in self._places.values():
            found.holders.discard(worker)
            found.evicted.discard(worker)

    # --- inside

    def _place_of(self, version: Version) -> _Place:
        found = self._places.get(version.key)
        if found is None:
            found = self._places[version.key] = _Place(version)
        found.version = version
        return found

    def _tell(self, found: _Place) -> None:
        key = found.version.key
        patterns = self._fleet.patterns(Life.SYNCING, Life.READY)
        is_limited = found.version.settings.instances is not None or any(patterns.values())
        everybody = not is_limited and patterns.keys() <= found.holders
        scheduler = self._dispatcher.scheduler
        woken = scheduler.place(key, None if everybody else found.holders, trio.current_time())
        self._dispatcher.wake_all(woken)
