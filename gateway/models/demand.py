"""Loading on demand: what requests wait for, and no ready worker holds, is loaded by the one that should."""

from __future__ import annotations

import logging

import trio

from common import wire
from common.errors import NoWorker, PipelineError
from common.log import event
from gateway.bell import Bell
from gateway.fleet.fleet import Fleet
from gateway.fleet.roster import State as Life
from gateway.models.catalog import Version
from gateway.models.delivery import Delivery
from gateway.models.holders import Holders
from gateway.models.switching import Switching
from gateway.scheduling.dispatch import Dispatcher
from gateway.scheduling.requests import ModelKey

log = logging.getLogger("pipeline.rollout")

GAP = 0.1  # between two attempts to load one version: workers that send each other's models away, say


class Demand:
    """One load at a time for each version, and none in the rollouts' turn: a rollout that takes a minute is
    no reason to let requests of another model wait."""

    def __init__(
        self, fleet: Fleet, holders: Holders, switching: Switching, dispatcher: Dispatcher, delivery: Delivery
    ) -> None:
        self._fleet = fleet
        self._holders = holders
        self._switching = switching
        self._dispatcher = dispatcher
        self._scheduler = dispatcher.scheduler
        self._delivery = delivery
        self._under_way: set[ModelKey] = set()
        self._bell = Bell()

    def notice(self) -> None:
        """Some request has no worker."""
        self._bell.ring()

    def missing(self, worker: str, key: ModelKey) -> None:
        """A worker says that it does not hold a version (any more)."""
        version = self._find(key)
        if version is not None:
            self._holders.evict(version, worker)

    async def run(self) -> None:
        """Load what is waited for, until cancelled."""
        async with trio.open_nursery() as nursery:
            while True:
                await self._bell.wait()
                for key in self._scheduler.unrouted.versions():
                    if key not in self._under_way and self._find(key) is not None:
                        self._under_way.add(key)
                        nursery.start_soon(self._bring, key)

    # --- inside

    def _find(self, key: ModelKey) -> Version | None:
        return next((version for version in self._switching.served() if version.key == key), None)

    def _is_waited_for(self, key: ModelKey) -> bool:
        return key in self._scheduler.unrouted.versions()

    async def _bring(self, key: ModelKey) -> None:
        """Have the workers that may hold a version load it, one after the other, until one does."""
        with self._scheduler.unrouted.expecting([key]):
            while self._is_waited_for(key):
                version = self._find(key)  # as its settings are now
                worker = None if version is None else self._holders.best(version)
                if version is None or worker is None:
                    break
                await self._load(version, worker)
                await trio.sleep(GAP)
        self._under_way.discard(key)
        refusals = self._holders.refusals.of(key)
        if refusals and self._is_waited_for(key) and not self._scheduler.unrouted.is_expected(key):
            sentence = next(iter(refusals.values()))
            error = f"No worker can load version {key.version} of {key.model}: {sentence}"
            self._dispatcher.give_up(key, NoWorker(error))

    async def _load(self, version: Version, worker: str) -> None:
        """Have one worker load a version; it is known what became of it."""
        try:
            answers = await self._delivery.load(version, {worker}, awaited=True)
        except PipelineError as error:
            answers = {worker: wire.LoadAnswer(worker, False, str(error))}
        if worker not in answers or worker not in self._fleet.ids(Life.READY):
            return  # it left, and is synced when it comes back
        answer, now = answers[worker], self._find(version.key)
        if now is None:  # nobody may ask for it any more
            await self._switching.tell(wire.Drop([worker], *version.key), {worker})
        elif now.loaded_as != version.loaded_as:  # its settings have changed meanwhile
            self._holders.evict(now, worker)
        elif answer is not None and answer.ok:
            event(log, logging.INFO, "version loaded on demand", model=version.key.model,
                  version=version.key.version, worker=worker)  # fmt: skip
            self._holders.add(version, worker)
        else:
            self._holders.refuse(version, worker, answer)
