"""Bringing workers up to date: one that joins is given all it should hold, what one that left held goes to
the next."""

from __future__ import annotations

import logging
import math

import trio

from common import wire
from common.errors import LoadError, PipelineError
from common.log import event
from gateway.catalog import Catalog, Version
from gateway.delivery import Delivery
from gateway.fleet import Bell, Fleet, FleetLink
from gateway.holders import Holders
from gateway.requests import ModelKey
from gateway.rollout import Rollouts, as_version
from gateway.roster import State as Life
from gateway.roster import Worker
from gateway.scheduler import Scheduler
from gateway.state import State

log = logging.getLogger("pipeline.rollout")

RETRY = 5.0  # seconds between attempts to place a version that a worker refused
FLIGHT_TICK = 0.01


class Syncing:
    """Whatever it does it does in the rollouts' turn."""

    def __init__(
        self,
        fleet: Fleet,
        catalog: Catalog,
        holders: Holders,
        rollouts: Rollouts,
        scheduler: Scheduler,
        state: State,
        delivery: Delivery,
    ) -> None:
        self._fleet = fleet
        self._catalog = catalog
        self._holders = holders
        self._rollouts = rollouts
        self._scheduler = scheduler
        self._state = state
        self._delivery = delivery
        self._checked: set[ModelKey] = set()  # of what the state holds as checked
        self._moved = Bell()

    async def sync(self, worker: Worker, link: FleetLink) -> None:
        """Give one worker every version it should hold and take the others away; `LoadError` if it refuses
        one that others can load."""
        async with self._rollouts.turn:
            held = {ModelKey(key.model, key.version): key.sha256 for key in worker.versions}
            refused: set[ModelKey] = set()
            for version in self._catalog.all():
                if self._should_hold(worker, version):
                    await self._give(worker, version, held)
            for version in list(self._rollouts.retiring.values()):
                if self._should_hold(worker, version) and held.get(version.key) != version.sha256:
                    answer = await self._load(worker, version)
                    if not answer.ok:  # a job may wait for it, which is no reason to be kept out
                        refused.add(version.key)
                        event(
                            log, logging.WARNING, "version not held", worker=worker.name, version=version.key
                        )
            for version in self._rollouts.served():
                if version.key not in refused:
                    self._hold(worker, version)
            for key in held:
                if worker.id not in self._holders.of(key):
                    await self._drop(key, worker.id)
        self._moved.ring()

    def left(self, worker_id: str) -> None:
        """A worker is gone: what only it held is wanted elsewhere."""
        self._holders.forget_worker(worker_id)
        self._moved.ring()

    async def keep_placed(self) -> None:
        """Have versions of which there are to be so many instances held by so many; until cancelled."""
        is_placed = True
        async with trio.open_nursery() as nursery:
            while True:
                with trio.move_on_after(math.inf if is_placed else RETRY):
                    await self._moved.wait()
                async with self._rollouts.turn:
                    is_placed = all([await self._place(each, nursery) for each in self._rollouts.served()])

    # --- inside

    def _should_hold(self, worker: Worker, version: Version) -> bool:
        return worker.id in self._holders.wanted(version, joining=worker)

    def _hold(self, worker: Worker, version: Version) -> None:
        holders = self._holders.of(version.key)
        if self._should_hold(worker, version):
            holders.add(worker.id)
        else:
            holders.discard(worker.id)
        self._holders.set(version, holders)

    async def _place(self, version: Version, nursery: trio.Nursery) -> bool:
        """Have the workers that should hold a version load it, and once all of them have, the others forget
        it; whether they have."""
        wanted = self._holders.wanted(version)
        missing = wanted - self._holders.of(version.key)
        if missing and not await self._load_more(version, missing):
            return False
        surplus = (self._holders.of(version.key) - wanted) & self._fleet.ids(Life.READY)
        for worker in sorted(surplus):
            self._holders.set(version, self._holders.of(version.key) - {worker})
            nursery.start_soon(self._take_away, version.key, worker)
        return True

    async def _take_away(self, key: ModelKey, worker: str) -> None:
        """Have a worker forget a version that it is sent no more, once it has answered what it was sent."""
        while self._scheduler.in_flight(worker, key):  # noqa: ASYNC110 - no events there
            await trio.sleep(FLIGHT_TICK)
        async with self._rollouts.turn:
            if worker not in self._holders.of(key):  # else it took the place of one that left meanwhile
                await self._drop(key, worker)

    async def _drop(self, key: ModelKey, worker: str) -> None:
        await self._rollouts.tell(wire.Drop([worker], *key), {worker})

    async def _load_more(self, version: Version, missing: frozenset[str]) -> bool:
        """Have more workers load a version that serves; whether all did."""
        try:
            answers = await self._delivery.load(version, missing)
        except PipelineError as error:  # what one version meets keeps no other from its place
            event(log, logging.ERROR, "version not placed", version=version.key.version, error=error)
            return False
        loaded = {worker for worker, answer in answers.items() if answer is not None and answer.ok}
        for worker in missing - loaded:
            event(log, logging.ERROR, "version not placed", version=version.key.version, worker=worker)
        if loaded:
            self._holders.set(version, self._holders.of(version.key) | loaded)
        return loaded == missing

    async def _give(self, worker: Worker, version: Version, held: dict[ModelKey, str]) -> None:
        """Have one worker load what serves."""
        if held.get(version.key) == version.sha256:
            await self._mark_checked(version)
            return
        answer = await self._load(worker, version)
        if answer.ok:
            await self._mark_checked(version._replace(inputs=answer.inputs, outputs=answer.outputs))
            return
        record = await trio.to_thread.run_sync(self._state.version, *version.key)
        if record is None or record.checked:
            raise _refusal(version, answer, "")
        back = await self._go_back(version, worker)
        if back is not None and not (answer := await self._load(worker, back)).ok:
            raise _refusal(back, answer, " too")

    async def _load(self, worker: Worker, version: Version) -> wire.LoadAnswer:
        answer = (await self._delivery.load(version, {worker.id})).get(worker.id)
        if answer is None:
            raise LoadError(f"it did not load version {version.key.version} in time")
        return answer

    async def _go_back(self, refused: Version, worker: Worker) -> Version | None:
        """A version that no worker ever loaded turns out not to load: serve the one before it, if any."""
        model = refused.key.model
        previous = await trio.to_thread.run_sync(self._state.previous, model)
        back = as_version(previous) if previous is not None and previous.checked else None
        event(
            log, logging.ERROR, "unchecked weights do not load: going back", model=model,
            version=refused.key.version, to=back.key.version if back else None, worker=worker.name,
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
        self._rollouts.retiring.pop(back.key, None)
        self._rollouts.switch(back)
        return back

    async def _mark_checked(self, version: Version) -> None:
        """A worker has it: so it loads, and it is known what it takes."""
        key, signature = version.key, (version.inputs, version.outputs)
        if key in self._checked:
            return
        try:
            await trio.to_thread.run_sync(self._state.mark_checked, *key, *signature)
        except PipelineError as error:  # a full disk keeps no worker out: the next one's sync tries again
            event(log, logging.ERROR, "version not marked as checked", version=key.version, error=error)
        else:
            self._checked.add(key)
            self._catalog.describe(version)


def _refusal(version: Version, answer: wire.LoadAnswer, too: str) -> LoadError:
    trace = answer.trace or "no reason given"
    reason = trace.strip().splitlines()[-1]
    return LoadError(f"it refuses version {version.key.version}{too}: {reason}", trace)
