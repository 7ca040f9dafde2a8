"""The two phases of every change: load everywhere, then switch or drop; and how the old is forgotten.

Which change, and when, is what `rollout` says.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import trio

from common import wire
from common.errors import LinkError, PipelineError
from common.log import event
from gateway.fleet.fleet import Fleet
from gateway.fleet.roster import State as Life
from gateway.models.catalog import Catalog, Version
from gateway.models.delivery import Answers, Delivery
from gateway.models.holders import Holders
from gateway.models.turn import Turn
from gateway.observing.events import ROLLOUT, Publish, nobody
from gateway.scheduling.queues import Limits
from gateway.scheduling.requests import ModelKey
from gateway.scheduling.scheduler import Scheduler
from gateway.state.state import State

log = logging.getLogger("pipeline.rollout")

OLD_VERSION_GRACE = 60.0  # how long a rollout waits for the old version's last requests before it answers
DRAIN_TICK = 0.002
TELL_TIME = 2.0
SILENT = wire.LoadAnswer("", False, "the worker did not answer in time")


@dataclass(frozen=True)
class Rolled:
    """What became of a rollout: one (whether it loaded, stack trace) for each worker asked."""

    results: list[tuple[bool, str]]

    @property
    def ok(self) -> bool:
        """Whether the version serves."""
        return all(loaded for loaded, _ in self.results)

    @property
    def reason(self) -> str:
        """The last line of what the first worker said that refused; empty where none did."""
        trace = next((trace for loaded, trace in self.results if not loaded), "")
        return trace.strip().rpartition("\n")[2]


class Switching:
    """One change at a time: a rollout has the `turn` alone, and those who bring workers up to date share it.
    Who has it may ask for all that is here; `retire` takes it itself.

    Invariant: every worker that the holders name has what they say: versions that serve, and those that
    retire, which serve no more and were not yet forgotten, as requests that were admitted under them may be
    on their way.
    """

    publish: Publish = staticmethod(nobody)

    def __init__(
        self,
        fleet: Fleet,
        catalog: Catalog,
        holders: Holders,
        scheduler: Scheduler,
        state: State,
        delivery: Delivery,
    ) -> None:
        self.turn = Turn()
        self.retiring: dict[ModelKey, Version] = {}
        self.is_held: Callable[[ModelKey], bool] = lambda key: False  # whether an experiment needs a version
        self.is_kept: Callable[[ModelKey], bool] = lambda key: False  # whether a job does, until it is over
        self.of_jobs: Callable[[ModelKey], int] = lambda key: 0  # how many live requests are jobs' own
        self._fleet = fleet
        self._catalog = catalog
        self._holders = holders
        self._scheduler = scheduler
        self._state = state
        self._delivery = delivery

    def is_served(self, key: ModelKey) -> bool:
        """Whether a worker that holds this version should keep it."""
        return key in self.retiring or self._catalog.serves(key)

    def served(self) -> list[Version]:
        """Every version that workers should hold: those that serve, and those that retire."""
        return [*self._catalog.all(), *self.retiring.values()]

    async def roll(self, new: Version, *, activate: bool) -> tuple[Rolled, list[Version]]:
        """Have the workers that should hold a version load it, and serve it if all of them have: (what became
        of it, versions that serve no more, for `retire`)."""
        self._holders.refusals.forget(new.key)  # its settings, or the workers', may be others now
        answers = await self._load_chosen(new)
        # Who left the fleet meanwhile is synced when it comes back; who stays and is silent failed.
        results = [answers[worker] or SILENT for worker in sorted(answers)]
        rolled = Rolled([(answer.ok, answer.trace) for answer in results])
        if not rolled.ok:
            event(log, logging.WARNING, "version refused", model=new.key.model, version=new.key.version)
            self.publish(ROLLOUT, "version refused", model=new.key.model, version=new.key.version)
            await self._take_back(new)
            return rolled, []
        for answer in results[:1]:
            new = new._replace(inputs=answer.inputs, outputs=answer.outputs)
        try:
            old = await self._serve(new, sorted(answers), activate=activate)
        except PipelineError:
            await self._take_back(new)
            raise
        return rolled, old

    async def _load_chosen(self, new: Version) -> Answers:
        """What the workers say that should hold a version. Of so many instances, who refuses is passed over
        for the next best: else a model could never be added whose first choice lacks what it needs."""
        answers = await self._delivery.load(new, self._holders.wanted(new))
        refused: Answers = {}
        while new.settings.instances is not None:
            refused |= {worker: answer for worker, answer in answers.items() if not (answer and answer.ok)}
            for worker in refused.keys() & answers.keys():
                self._holders.refuse(new, worker, answers.pop(worker))
            others = self._holders.wanted(new) - answers.keys() - refused.keys()
            if not others:
                break
            answers |= await self._delivery.load(new, others)
        return answers or refused

    async def _take_back(self, new: Version) -> None:
        """A rollout came to nothing: as if the version had never been there, unless it was before."""
        if not self.is_served(new.key):
            await self.drop(new)
        try:
            await trio.to_thread.run_sync(self._forget_unchecked, new.key)
        except PipelineError as error:  # what the workers said is what the client has to know
            event(log, logging.ERROR, "refused weights are kept", version=new.key.version, error=error)

    def _forget_unchecked(self, key: ModelKey) -> None:
        """A refused upload must not keep its name from the right file."""
        known = self._state.version(*key)
        if known is not None and not known.checked and self._state.active(key.model) != known:
            self._state.forget_version(*key)

    async def _serve(self, new: Version, workers: list[str], *, activate: bool) -> list[Version]:
        """The durable switch, then the one that requests see; the versions that serve no more."""
        model = new.key.model
        becomes_active = activate or self._catalog.get(model) is None
        old = self.surplus(new, becomes_active=becomes_active)

        def write() -> None:
            if workers:
                self._state.mark_checked(*new.key, new.inputs, new.outputs)
            self._state.set_serving(*new.key, True)
            if becomes_active:
                self._state.activate(*new.key)
            for version in old:
                self._state.set_serving(*version.key, False)

        await trio.to_thread.run_sync(write)
        self.retiring.pop(new.key, None)
        self._holders.set(new, workers)
        if becomes_active:
            self.switch(new)
        else:
            self._catalog.add(new)
        self.stop_serving(old)
        event(log, logging.INFO, "version serves", model=model, version=new.key.version, bytes=new.size)
        told = {"model": model, "version": new.key.version, "active": becomes_active, "workers": len(workers)}
        self.publish(ROLLOUT, "version serves", **told)
        everybody = self._fleet.ids()
        await self.tell(
            wire.Commit(sorted(everybody), *new.key, new.settings.loaded_as), self._fleet.ids(Life.READY)
        )
        return old

    def surplus(self, new: Version, *, becomes_active: bool) -> list[Version]:
        """The versions that are too many once `new` serves: the oldest, but never the active one, nor one
        that an experiment needs."""
        active = new if becomes_active else self._catalog.get(new.key.model)
        others = [v for v in self._catalog.of(new.key.model) if v.key not in (new.key, active and active.key)]
        room = new.settings.keep_versions - (1 if active is None or active.key == new.key else 2)
        surplus = others[: max(0, len(others) - max(0, room))]
        return [version for version in surplus if not self.is_held(version.key)]

    def stop_serving(self, versions: Iterable[Version]) -> None:
        """From now on these serve nobody; who asked before is still answered."""
        for version in versions:
            self.retiring[version.key] = version
            self._catalog.remove(version.key)
            self.publish(ROLLOUT, "version retires", model=version.key.model, version=version.key.version)

    async def retire(self, versions: list[Version]) -> None:
        """Wait for the last request of versions that serve no more, then have every worker forget them."""
        if not versions:
            return
        with trio.move_on_after(OLD_VERSION_GRACE):
            while any(self._is_answering(version.key) for version in versions):  # noqa: ASYNC110 - no events there
                await trio.sleep(DRAIN_TICK)
        await self.drop_retired()

    async def drop_retired(self) -> None:
        """Have every worker forget the versions that serve no more and that nobody needs any longer."""
        if not self.retiring:
            return
        async with self.turn:
            # With those of former rollouts, should their requests or jobs have taken longer.
            for key in [key for key in self.retiring if not self._is_needed(key)]:
                await self.drop(self.retiring.pop(key))

    def _is_answering(self, key: ModelKey) -> bool:
        """Whether somebody who is no job still waits for its answer."""
        return key in self.retiring and self._scheduler.live(key) > self.of_jobs(key)

    def _is_needed(self, key: ModelKey) -> bool:
        return self._scheduler.live(key) > 0 or self.is_kept(key)

    def switch(self, version: Version) -> None:
        """From now on this version answers who names none, and its settings say how its model's requests are
        queued."""
        self._catalog.switch(version)
        settings = version.settings
        self._scheduler.limits[version.key.model] = Limits(
            min(settings.max_batch, self._scheduler.default.max_batch),
            settings.max_wait_ms / 1000,
            settings.queue_max,
        )

    async def drop(self, version: Version) -> None:
        """Have every worker forget a version."""
        self._holders.forget(version.key)
        workers = self._fleet.ids()
        await self.tell(wire.Drop(sorted(workers), *version.key), workers)

    async def tell(self, message: wire.Message, workers: set[str]) -> None:
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
