"""Bringing workers up to date: one that joins is given all it should hold, what one that left held goes to
the next."""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from common import wire
from common.errors import PipelineError
from common.log import event
from gateway.bell import Bell
from gateway.fleet.fleet import Fleet, FleetLink
from gateway.fleet.roster import State as Life
from gateway.fleet.roster import Worker
from gateway.models.catalog import Catalog, Version
from gateway.models.delivery import Delivery
from gateway.models.holders import Holders
from gateway.models.placement import may_hold
from gateway.models.refusals import sentence_of
from gateway.models.rollout import as_version
from gateway.models.switching import Switching
from gateway.scheduling.requests import ModelKey
from gateway.scheduling.scheduler import Scheduler
from gateway.state.state import State

log = logging.getLogger("pipeline.rollout")

RETRY = 5.0  # seconds until versions are placed again that could not be
FLIGHT_TICK = 0.01

_Held = dict[ModelKey, wire.VersionKey]  # what a worker said that it holds as it came


class Syncing:
    """Whatever it does it does in the rollouts' turn, which workers that join share."""

    def __init__(
        self,
        fleet: Fleet,
        catalog: Catalog,
        holders: Holders,
        switching: Switching,
        scheduler: Scheduler,
        state: State,
        delivery: Delivery,
    ) -> None:
        self._fleet = fleet
        self._catalog = catalog
        self._holders = holders
        self._switching = switching
        self._scheduler = scheduler
        self._state = state
        self._delivery = delivery
        self._checked: set[wire.VersionKey] = set()  # of what the state holds as checked
        self._moved = Bell()

    async def sync(self, worker: Worker, link: FleetLink) -> None:
        """Give one worker every version it should hold and take the others away. It may refuse some; and once
        one has to make room for another it is given no more: who asks for them has them loaded."""
        keys = [version.key for version in self._switching.served() if self._should_hold(worker, version)]
        with self._scheduler.unrouted.expecting(keys):
            async with self._turn(worker):
                held = {ModelKey(key.model, key.version): key for key in worker.versions}
                await self._give_all(worker, held)
                for key in held:
                    if worker.id not in self._holders.of(key):
                        await self._drop(key, worker.id)
        self._moved.ring()

    def left(self, worker_id: str) -> None:
        """A worker is gone: what only it held is wanted elsewhere."""
        self._holders.forget_worker(worker_id)
        self._moved.ring()

    def move(self) -> None:
        """Other workers than before may have to hold something."""
        self._moved.ring()

    async def keep_placed(self) -> None:
        """Have versions of which there are to be so many instances held by so many; until cancelled."""
        retry = math.inf
        async with trio.open_nursery() as nursery:
            while True:
                with trio.move_on_at(min(retry, self._holders.refusals.next_due(trio.current_time()))):
                    await self._moved.wait()
                async with self._switching.turn:
                    is_placed = all([await self._place(each, nursery) for each in self._switching.served()])
                retry = math.inf if is_placed else trio.current_time() + RETRY

    # --- inside

    @asynccontextmanager
    async def _turn(self, worker: Worker) -> AsyncIterator[None]:
        """Together with others who join: a model that takes seconds to load takes them once, not once for
        each. But alone with a version that may turn out not to load, as then another is to serve."""
        async with self._switching.turn.shared():
            versions = [each for each in self._switching.served() if self._should_hold(worker, each)]
            if all([await self._is_checked(each) for each in versions]):
                yield
                return
        async with self._switching.turn:
            yield

    async def _is_checked(self, version: Version) -> bool:
        """Whether some worker has loaded it, or no record says that none has."""
        if version.loaded_as in self._checked:
            return True
        record = await trio.to_thread.run_sync(self._state.version, *version.key)
        return record is None or record.checked

    def _should_hold(self, worker: Worker, version: Version) -> bool:
        if version.settings.instances is None:  # all that may: nobody else has to be looked at
            return may_hold(version.key.model, worker.hello.models)
        return worker.id in self._holders.wanted(version, joining=worker)

    async def _give_all(self, worker: Worker, held: _Held) -> None:
        """Have one worker load what serves, the active versions first, and what retires."""
        gone: set[ModelKey] = set()  # what made room for others meanwhile
        has: set[ModelKey] = set()
        versions = sorted(self._catalog.all(), key=lambda version: not self._is_active(version))
        for version in [*versions, *self._switching.retiring.values()]:
            if self._should_hold(worker, version):
                loaded, evicted = await self._give(worker, version, held, is_full=bool(gone))
                has |= loaded
                gone |= evicted
        for version in self._switching.served():
            holders = self._holders.of(version.key) - {worker.id}
            if version.key in has - gone and self._should_hold(worker, version):
                holders.add(worker.id)
            self._holders.set(version, holders)

    def _is_active(self, version: Version) -> bool:
        active = self._catalog.get(version.key.model)
        return active is not None and active.key == version.key

    async def _place(self, version: Version, nursery: trio.Nursery) -> bool:
        """Have the workers that should hold a version load it, passing over who refuses it, and once all of
        them have, the others forget it; whether they have."""
        while missing := self._missing(version):
            if self._scheduler.unrouted.is_expected(version.key):
                return False  # it is being loaded on demand
            with self._scheduler.unrouted.expecting([version.key]):
                if not await self._load_more(version, missing):
                    return False
        surplus = (self._holders.of(version.key) - self._holders.wanted(version)) & self._fleet.ids(
            Life.READY
        )
        for worker in sorted(surplus):
            self._holders.set(version, self._holders.of(version.key) - {worker})
            nursery.start_soon(self._take_away, version.key, worker)
        return True

    def _missing(self, version: Version) -> frozenset[str]:
        """Who should hold a version and neither does nor will when it is asked for."""
        key = version.key
        return self._holders.wanted(version) - self._holders.of(key) - self._holders.evicted_at(key)

    async def _take_away(self, key: ModelKey, worker: str) -> None:
        """Have a worker forget a version that it is sent no more, once it has answered what it was sent."""
        while self._scheduler.in_flight(worker, key):  # noqa: ASYNC110 - no events there
            await trio.sleep(FLIGHT_TICK)
        async with self._switching.turn:
            if worker not in self._holders.of(key):  # else it took the place of one that left meanwhile
                await self._drop(key, worker)

    async def _drop(self, key: ModelKey, worker: str) -> None:
        await self._switching.tell(wire.Drop([worker], *key), {worker})

    async def _load_more(self, version: Version, missing: frozenset[str]) -> bool:
        """Have more workers load a version that serves; whether all of them could be asked."""
        try:
            answers = await self._delivery.load(version, missing)
        except PipelineError as error:  # what one version meets keeps no other from its place
            event(log, logging.ERROR, "version not placed", version=version.key.version, error=error)
            return False
        for worker, answer in answers.items():
            if answer is not None and answer.ok:
                self._holders.add(version, worker)
                await self._mark_checked(version._replace(inputs=answer.inputs, outputs=answer.outputs))
            else:
                self._holders.refuse(version, worker, answer)
        return answers.keys() == missing

    async def _give(
        self, worker: Worker, version: Version, held: _Held, *, is_full: bool
    ) -> tuple[set[ModelKey], set[ModelKey]]:
        """Have one worker load what serves: (what it holds now, what it evicted)."""
        key = version.key
        if held.get(key) == version.loaded_as:
            await self._mark_checked(version)
            return {key}, set()
        is_checked = await self._is_checked(version)
        if is_checked and (is_full or worker.id in self._holders.evicted_at(key)):
            self._holders.evict(version, worker.id)
            return set(), set()
        answer = await self._load(worker, version)
        if answer is not None and not answer.ok and not is_checked:
            back = await self._go_back(version, worker, sentence_of(answer))
            if back is None:
                return set(), set()
            version, answer = back, await self._load(worker, back)
        if answer is None or not answer.ok:
            self._holders.refuse(version, worker.id, answer)
            return set(), set()
        await self._mark_checked(version._replace(inputs=answer.inputs, outputs=answer.outputs))
        return {version.key}, {ModelKey(each.model, each.version) for each in answer.evicted}

    async def _load(self, worker: Worker, version: Version) -> wire.LoadAnswer | None:
        return (await self._delivery.load(version, {worker.id})).get(worker.id)

    async def _go_back(self, refused: Version, worker: Worker, reason: str) -> Version | None:
        """A version that no worker ever loaded turns out not to load: serve the one before it, if any."""
        model = refused.key.model
        previous = await trio.to_thread.run_sync(self._state.previous, model)
        back = as_version(previous) if previous is not None and previous.checked else None
        event(
            log, logging.ERROR, "unchecked weights do not load: going back", model=model,
            version=refused.key.version, to=back.key.version if back else None, worker=worker.name,
            reason=reason,
        )  # fmt: skip

        def write() -> None:
            self._state.set_serving(*refused.key, False)
            active = self._state.active(model)
            if active is not None and active.version == refused.key.version:
                self._state.activate(model, back.key.version if back else None)

        active = self._catalog.get(model)
        was_active = active is not None and active.key == refused.key
        await trio.to_thread.run_sync(write)
        self._catalog.remove(refused.key)
        if back is None or not was_active:
            return None
        self._switching.retiring.pop(back.key, None)
        self._switching.switch(back)
        return back

    async def _mark_checked(self, version: Version) -> None:
        """A worker has it: so it loads, and it is known what it takes."""
        key, signature = version.loaded_as, (version.inputs, version.outputs)
        if key in self._checked:
            return
        try:
            await trio.to_thread.run_sync(self._state.mark_checked, *version.key, *signature)
        except PipelineError as error:  # a full disk keeps no worker out: the next one's sync tries again
            event(log, logging.ERROR, "version not marked as checked", version=key.version, error=error)
        else:
            self._checked.add(key)
            self._catalog.describe(version)
