"""Moving the fleet to a version, all or nothing (two phases: load everywhere, then switch or drop)."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass

import trio

from common import wire
from common.errors import LinkError, LoadError, PipelineError
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

OLD_VERSION_GRACE = 60.0  # how long a rollout waits for the old version's last requests before it answers
DRAIN_TICK = 0.002
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
    """One change at a time: a rollout and the sync of a joining worker never overlap.

    Invariant: every ready worker holds what serves and what retires, which is a version that serves no more
    and was not yet forgotten, as requests that were admitted under it may be on their way.
    """

    def __init__(self, fleet: Fleet, catalog: Catalog, scheduler: Scheduler, state: State) -> None:
        self._fleet = fleet
        self._catalog = catalog
        self._scheduler = scheduler
        self._state = state
        self._delivery = Delivery(fleet, state.blobs)
        self._turn = trio.Lock()
        self._retiring: dict[ModelKey, Active] = {}
        self._checked: set[ModelKey] = set()  # of what the state holds as checked

    def is_served(self, key: ModelKey) -> bool:
        """Whether a ready worker should hold this version."""
        active = self._catalog.get(key.model)
        return key in self._retiring or (active is not None and active.key == key)

    async def restore(self) -> None:
        """Serve what the state directory says was served last."""
        for record in (await trio.to_thread.run_sync(self._state.all_active)).values():
            self._catalog.switch(_active(record))

    async def set_weights(self, nn_id: str, blob: Blob) -> Rolled:
        """Make a stored blob the weights that serve. After this returns ok, only they answer.

        Raises `StateError` if the change cannot be made durable; then the old weights serve on.
        """
        async with self._turn:
            record = await trio.to_thread.run_sync(self._record, nn_id, blob)
            new = _active(record)
            answers = await self._delivery.load(new, self._fleet.ids(Life.READY))
            # Who left the fleet meanwhile is synced when it comes back; who stays and is silent failed.
            silent = wire.LoadAnswer("", False, "the worker did not answer in time")
            results = [answers[worker] or silent for worker in sorted(answers)]
            rolled = Rolled([(answer.ok, answer.trace) for answer in results])
            if not rolled.ok:
                event(log, logging.WARNING, "weights refused", version=new.key.version, workers=len(results))
                await self._take_back(new)
                return rolled
            old = self._catalog.get(new.key.model)
            try:
                await self._serve(new, checked=bool(results))
            except PipelineError:
                await self._take_back(new)
                raise
        if old is not None and old.key != new.key:
            await self._retire(old)
        return rolled

    async def sync(self, worker: Worker, link: FleetLink) -> None:
        """Give one worker every version it should hold and take the others away; `LoadError` if it refuses
        one that others can load."""
        async with self._turn:
            held = {(key.model, key.version): key.sha256 for key in worker.versions}
            for active in self._catalog.all():
                if held.get(active.key) != active.sha256:
                    await self._give(worker, active)
                else:
                    await self._mark_checked(active.key)
            for active in list(self._retiring.values()):
                if held.get(active.key) != active.sha256:
                    await self._load_one(worker, active)
            for model, version in held:
                if not self.is_served(ModelKey(model, version)):
                    await self._tell(wire.Drop([worker.id], model, version), {worker.id})

    async def _give(self, worker: Worker, active: Active) -> None:
        """Have one worker load what serves."""
        trace = await self._load_one(worker, active)
        if trace is None:
            await self._mark_checked(active.key)
            return
        record = await trio.to_thread.run_sync(self._state.version, *active.key)
        if record is None or record.checked:
            raise LoadError(f"it refuses version {active.key.version}: {_last_line(trace)}", trace)
        back = await self._go_back(active, worker)
        if back is not None and (trace := await self._load_one(worker, back)) is not None:
            raise LoadError(f"it refuses version {back.key.version} too: {_last_line(trace)}", trace)

    async def _load_one(self, worker: Worker, active: Active) -> str | None:
        """None when the worker has loaded the version, else why it refused."""
        answer = (await self._delivery.load(active, {worker.id})).get(worker.id)
        if answer is None:
            raise LoadError(f"it did not load version {active.key.version} in time")
        return None if answer.ok else answer.trace or "no reason given"

    async def _go_back(self, refused: Active, worker: Worker) -> Active | None:
        """Weights that no worker ever loaded turn out not to load: serve those before them, if any."""
        model = refused.key.model
        previous = await trio.to_thread.run_sync(self._state.previous, model)
        back = _active(previous) if previous is not None and previous.checked else None
        event(
            log, logging.ERROR, "unchecked weights do not load: going back",
            version=refused.key.version, to=back.key.version if back else None, worker=worker.name,
        )  # fmt: skip
        await trio.to_thread.run_sync(self._state.activate, model, back.key.version if back else None)
        if back is None:
            self._catalog.clear(model)
        else:
            self._retiring.pop(back.key, None)
            self._catalog.switch(back)
        return back

    async def _mark_checked(self, key: ModelKey) -> None:
        if key in self._checked:
            return
        try:
            await trio.to_thread.run_sync(self._state.mark_checked, *key)
            self._checked.add(key)
        except PipelineError as error:  # a full disk keeps no worker out: the next one's sync tries again
            event(log, logging.ERROR, "version not marked as checked", version=key.version, error=error)

    async def _take_back(self, new: Active) -> None:
        """A rollout came to nothing: as if the version had never been there, unless it was before."""
        if not self.is_served(new.key):
            await self._drop(new)
        try:
            await trio.to_thread.run_sync(self._forget_unchecked, new.key)
        except PipelineError as error:  # what the workers said is what the client has to know
            event(log, logging.ERROR, "refused weights are kept", version=new.key.version, error=error)

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

    def _forget_unchecked(self, key: ModelKey) -> None:
        """A refused upload must not keep its name from the right file."""
        known = self._state.version(*key)
        if known is not None and not known.checked and self._state.active(key.model) != known:
            self._state.forget_version(*key)

    async def _serve(self, new: Active, *, checked: bool) -> None:
        """The durable switch, then the one that requests see. From then on the old version retires."""

        def write() -> None:
            if checked:
                self._state.mark_checked(*new.key)
            self._state.activate(*new.key)

        await trio.to_thread.run_sync(write)
        old = self._catalog.get(new.key.model)
        if old is not None:
            self._retiring[old.key] = old
        self._retiring.pop(new.key, None)
        self._catalog.switch(new)
        event(log, logging.INFO, "weights serve", version=new.key.version, bytes=new.size)
        await self._tell(wire.Commit(sorted(self._fleet.ids()), *new.key), self._fleet.ids(Life.READY))

    async def _retire(self, old: Active) -> None:
        """Wait for the old version's last request, then have every worker forget it."""
        with trio.move_on_after(OLD_VERSION_GRACE):
            while self._is_needed(old.key):  # noqa: ASYNC110 - the scheduler is pure: it has no events
                await trio.sleep(DRAIN_TICK)
        async with self._turn:
            # With those of former rollouts, should their requests have taken longer than the grace.
            for key in [key for key in self._retiring if not self._is_needed(key)]:
                await self._drop(self._retiring.pop(key))

    def _is_needed(self, key: ModelKey) -> bool:
        return key in self._retiring and self._scheduler.live(key) > 0

    async def _drop(self, version: Active) -> None:
        workers = self._fleet.ids()
        await self._tell(wire.Drop(sorted(workers), *version.key), workers)

    async def _tell(self, message: wire.Message, workers: set[str]) -> None:
        """A survey nobody refuses; who does not hear it is put right when it is synced."""
        try:
            await self._fleet.surveys.ask(
                message,
                wire.Done,
                TELL_TIME,
                expected=lambda: workers & self._fleet.ids(Life.READY, Life.SYNCING),
            )
        except LinkError as error:
            event(log, logging.ERROR, "the fleet could not be told", what=type(message).__name__, error=error)


def _last_line(trace: str) -> str:
    return trace.strip().splitlines()[-1]


def _active(record: VersionRecord) -> Active:
    return Active(ModelKey(record.model, record.version), record.nn_id, record.sha256, record.size)
