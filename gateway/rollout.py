"""Moving the fleet to a version, all or nothing (two phases: load everywhere, then switch or drop)."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass

import trio

from common import wire
from common.errors import LoadError
from common.log import event
from gateway.blobs import Blob
from gateway.catalog import DEFAULT_MODEL, Active, Catalog
from gateway.delivery import Delivery
from gateway.fleet import Fleet, FleetLink
from gateway.requests import ModelKey
from gateway.roster import State as Life
from gateway.roster import Worker
from gateway.scheduler import Scheduler
from gateway.state import State, VersionRecord

log = logging.getLogger("pipeline.rollout")

OLD_VERSION_GRACE = 60.0  # how long the old version's last requests may take before they lose it
TELL_TIME = 2.0


@dataclass(frozen=True)
class Rolled:
    """What became of a rollout: one (whether it loaded, stack trace) for each worker asked."""

    results: list[tuple[bool, str]]

    @property
    def ok(self) -> bool:
        """Whether the new version serves."""
        return all(loaded for loaded, _ in self.results)


class Rollouts:
    """One change at a time: a rollout and the sync of a joining worker never overlap."""

    def __init__(self, fleet: Fleet, catalog: Catalog, scheduler: Scheduler, state: State) -> None:
        self._fleet = fleet
        self._catalog = catalog
        self._scheduler = scheduler
        self._state = state
        self._delivery = Delivery(fleet, state.blobs)
        self._turn = trio.Lock()

    async def restore(self) -> None:
        """Serve what the state directory says was served last."""
        for record in (await trio.to_thread.run_sync(self._state.all_active)).values():
            self._catalog.switch(_active(record))

    async def set_weights(self, nn_id: str, blob: Blob) -> Rolled:
        """Make a stored blob the weights that serve. After this returns ok, only they answer."""
        async with self._turn:
            record = await trio.to_thread.run_sync(self._record, nn_id, blob)
            new = _active(record)
            workers = self._fleet.ids(Life.READY)
            answers = await self._delivery.load(new, workers)
            # Who left the fleet meanwhile is synced when it comes back; who stays and is silent failed.
            asked = [w for w in workers if w in answers or w in self._fleet.ids(Life.READY)]
            silent = wire.LoadAnswer("", False, "the worker did not answer in time")
            results = [answers.get(worker, silent) for worker in asked]
            rolled = Rolled([(answer.ok, answer.trace) for answer in results])
            old = self._catalog.get(new.key.model)
            if not rolled.ok:
                if old is None or old.key != new.key:
                    await self._drop(new, self._fleet.ids())
                event(log, logging.WARNING, "weights refused", version=new.key.version, workers=len(asked))
                return rolled
            await self._serve(new, record, checked=bool(asked))
            await self._retire(old, new)
            return rolled

    async def sync(self, worker: Worker, link: FleetLink) -> None:
        """Give one worker every active version and take the others away; `LoadError` if it refuses one."""
        async with self._turn:
            held = {(key.model, key.version): key.sha256 for key in worker.versions}
            for active in self._catalog.all():
                if held.pop((active.key.model, active.key.version), None) == active.sha256:
                    continue
                answers = await self._delivery.load(active, {worker.id})
                answer = answers.get(worker.id)
                if answer is None:
                    raise LoadError(f"it did not load version {active.key.version} in time")
                if not answer.ok:
                    await self._refused_by(worker, active, answer.trace)
                    continue
                await trio.to_thread.run_sync(self._state.mark_checked, *active.key)
            for model, version in held:
                await self._tell(wire.Drop([worker.id], model, version), {worker.id})

    async def _refused_by(self, worker: Worker, active: Active, trace: str) -> None:
        """A version that no worker ever loaded turns out not to load: go back to the one before it."""
        record = await trio.to_thread.run_sync(self._state.version, *active.key)
        if record is None or record.checked:
            last = trace.strip().splitlines()[-1:] or ["no reason given"]
            raise LoadError(f"it refuses version {active.key.version}: {last[0]}", trace)
        model = active.key.model
        previous = await trio.to_thread.run_sync(self._state.previous, model)
        back = previous if previous is not None and previous.checked else None
        event(
            log, logging.ERROR, "unchecked weights do not load: going back",
            version=active.key.version, to=back.version if back else None, worker=worker.name,
        )  # fmt: skip
        await trio.to_thread.run_sync(self._state.activate, model, back.version if back else None)
        if back is None:
            self._catalog.clear(model)
            return
        self._catalog.switch(_active(back))
        answers = await self._delivery.load(_active(back), {worker.id})
        if worker.id not in answers or not answers[worker.id].ok:
            raise LoadError(f"it refuses version {back.version} too")

    def _record(self, nn_id: str, blob: Blob) -> VersionRecord:
        """The version these bytes are: named by the nn_id, or with a digest behind it where that name
        is taken by other bytes. A version never changes its bytes."""
        version = nn_id
        known = self._state.version(DEFAULT_MODEL, nn_id)
        if known is not None and known.sha256 != blob.sha256:
            version = f"{nn_id}.{blob.sha256[:16]}"
        record = VersionRecord(DEFAULT_MODEL, version, nn_id, blob.sha256, blob.size, time.time())
        self._state.add_version(record)
        return record

    async def _serve(self, new: Active, record: VersionRecord, *, checked: bool) -> None:
        """The durable switch, then the one that requests see."""

        def write() -> None:
            if checked:
                self._state.mark_checked(record.model, record.version)
            self._state.activate(record.model, record.version)

        await trio.to_thread.run_sync(write)
        self._catalog.switch(new)
        event(log, logging.INFO, "weights serve", version=new.key.version, bytes=new.size)
        await self._tell(wire.Commit(sorted(self._fleet.ids()), *new.key), self._fleet.ids(Life.READY))

    async def _retire(self, old: Active | None, new: Active) -> None:
        """Wait for the old version's last request, then have every worker forget it."""
        if old is None or old.key == new.key:
            return
        with trio.move_on_after(OLD_VERSION_GRACE):
            await self._scheduler_drained(old.key)
        await self._drop(old, self._fleet.ids())

    async def _scheduler_drained(self, key: ModelKey) -> None:
        while self._scheduler.live(key):  # noqa: ASYNC110 - the scheduler is pure: it has no events
            await trio.sleep(0.002)

    async def _drop(self, version: Active, workers: set[str]) -> None:
        await self._tell(wire.Drop(sorted(workers), *version.key), workers)

    async def _tell(self, message: wire.Message, workers: set[str]) -> None:
        """A survey nobody refuses; who does not hear it is put right when it is synced."""
        await self._fleet.surveys.ask(
            message,
            wire.Done,
            TELL_TIME,
            expected=lambda: workers & self._fleet.ids(Life.READY, Life.SYNCING),
        )


def _active(record: VersionRecord) -> Active:
    return Active(ModelKey(record.model, record.version), record.nn_id, record.sha256, record.size)
