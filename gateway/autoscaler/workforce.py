"""The worker manager: keeps as many workers as are wanted, through a launcher. Edge of `staffing`, which
decides.

A loop that looks at the whole several times a second, and at once when something happens. The launcher may be
slow, refuse, or be gone for a while: it is asked again, and the fleet serves on with whom it has.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import NamedTuple, TypeVar

import trio

from common import wire
from common.errors import LaunchError, LinkError
from common.log import OncePer, event
from gateway.autoscaler.staffing import Counts, Member, Plan, Staffing
from gateway.bell import Bell
from gateway.fleet.fleet import Fleet
from gateway.fleet.roster import Event as LifeEvent
from gateway.fleet.roster import Worker
from gateway.launchers.ids import parse_id
from gateway.launchers.launcher import Launched, Launcher, LaunchState, WorkerSpec
from gateway.observing.events import FLEET, Publish, nobody

log = logging.getLogger("pipeline.workforce")

TICK = 0.2
SOON = 0.05
GAP = 0.02  # between two looks at least, however much happens
CALL_TIME = 30.0  # what a launcher may take for anything
CACHES_TIME = 0.1  # how long workers are asked for how much they remember
GRACE = 10.0  # for a worker to end before it is killed

T = TypeVar("T")


class Limits(NamedTuple):
    """How many workers there may be."""

    min_workers: int
    max_workers: int


class Ordered(NamedTuple):
    """A worker that is not in the fleet (yet, or any more)."""

    name: str
    state: str
    why: str
    seconds: float  # since it was ordered


class Workforce:
    """Nothing happens before `run`. Invariant: `target` is within `limits`, or 0 where `scale_to_zero`
    allows it.

    `start_time` is how many seconds a worker may take until it is heard, `one_use` says that workers leave
    after one batch. `leaves_workers`: at the end they serve on, for the next gateway.
    """

    publish: Publish = staticmethod(nobody)

    def __init__(
        self,
        launcher: Launcher,
        spec: WorkerSpec,
        fleet: Fleet,
        limits: Limits,
        *,
        first: int | None = None,
        scale_to_zero: bool = False,
        one_use: bool = False,
        start_time: float = 120.0,
        leaves_workers: bool = False,
    ) -> None:
        self.limits = limits
        self.scale_to_zero = scale_to_zero
        self.staffing = Staffing(start_time=start_time, one_use=one_use)
        self.reason = "as at the start"
        self._launcher = launcher
        self._spec = spec
        self._fleet = fleet
        self._leaves_workers = leaves_workers
        self._target: int | None = None  # nobody has asked for any number yet
        self._first = limits.min_workers if first is None else first
        self._bell = Bell()
        self._complaints = OncePer(10.0)
        fleet.changed = self._changed

    # --- what others ask

    @property
    def target(self) -> int:
        """How many workers are wanted."""
        return self._clamped(self._first if self._target is None else self._target)

    def want(self, n: int, reason: str) -> None:
        """Have n workers, or the nearest number that the limits allow."""
        before = self.target
        self._target, self.reason = n, reason
        if self.target != before:
            event(log, logging.INFO, "workers wanted", n=self.target, before=before, because=reason)
            self.publish(FLEET, "workers wanted", n=self.target, before=before, because=reason)
            self._bell.ring()

    def limit(self, min_workers: int, max_workers: int, *, scale_to_zero: bool) -> None:
        """Keep between other bounds from now on."""
        self.limits, self.scale_to_zero = Limits(min_workers, max_workers), scale_to_zero
        self._bell.ring()

    def counts(self) -> Counts:
        """How many workers there are, and in which state."""
        return self.staffing.counts(self.target, trio.current_time())

    @property
    def trouble(self) -> str:
        """What went wrong last, until a worker stays."""
        return self.staffing.trouble

    def ordered(self) -> list[Ordered]:
        """The workers that were ordered, and are not in the fleet."""
        now = trio.current_time()
        return [
            Ordered(_name(id), order.shown, order.launched.why if order.launched else "", now - order.since)
            for id, order in self.staffing.orders.items()
            if order.member is None
        ]

    def _clamped(self, n: int) -> int:
        if n <= 0 and self.scale_to_zero:
            return 0
        return min(max(n, self.limits.min_workers), self.limits.max_workers)

    # --- tasks

    async def run(self) -> None:
        """Until cancelled; then the workers end, unless they are left to the next gateway."""
        try:
            await self._adopt()
            pause = TICK
            while True:
                await self._look()
                now = trio.current_time()
                with trio.move_on_at(min(now + pause, self.staffing.next_try(now))) as scope:
                    await self._bell.wait()
                pause = TICK
                if not scope.cancelled_caught:
                    pause = SOON  # what the fleet notices in a millisecond, the launcher may know in the next
                    await trio.sleep(GAP)
        finally:
            if not self._leaves_workers:
                with trio.move_on_after(GRACE + 5.0) as scope:
                    scope.shield = True
                    await self._stop_all()

    async def _adopt(self) -> None:
        """Whoever is there already stays, at first."""
        alive = await self._ask_alive()
        there = sum(each.state is not LaunchState.GONE for each in alive.values())
        if self._target is None and there > self._first:
            self.want(there, "so many were there at the start")

    async def _look(self) -> None:
        """Once over everything."""
        if self.staffing.has_surplus(self.target):
            await self._ask_caches()
        alive = await self._call(self._launcher.alive, "cannot say who there is")
        if alive is None:
            return
        now = trio.current_time()
        plan = self.staffing.plan(self.target, alive, self._members(), now)
        self._report(plan)
        for id in [*plan.drain, *plan.stop]:
            self._retire(id)
        for id in plan.stop:
            await self._call(partial(self._launcher.stop, id, GRACE), "cannot stop a worker")
        if plan.start:
            await self._start(plan.start)

    async def _start(self, n: int) -> None:
        try:
            with trio.fail_after(CALL_TIME):
                ids = await self._launcher.start(n, self._spec)
        except Exception as error:
            why = f"no worker can be started: {_sentence(error)}"
            again_in = self.staffing.refused(why, trio.current_time())
            self._complain(why, again_in)
            return
        self.staffing.ordered(ids, trio.current_time())
        for id in ids:
            self.publish(FLEET, "worker started", worker=_name(id), id=id)

    async def _stop_all(self) -> None:
        alive = await self._ask_alive()
        for id in {*alive, *self.staffing.orders}:
            await self._call(partial(self._launcher.stop, id, GRACE), "cannot stop a worker")
        while any(each.state is not LaunchState.GONE for each in alive.values()):
            await trio.sleep(TICK / 10)
            alive = await self._ask_alive()

    async def _ask_alive(self) -> dict[str, Launched]:
        """Who there is, as soon as the launcher can say."""
        while (alive := await self._call(self._launcher.alive, "cannot say who there is")) is None:  # noqa: ASYNC110
            await trio.sleep(TICK)
        return alive

    async def _call(self, ask: Callable[[], Awaitable[T]], what: str) -> T | None:
        """Ask the launcher; None where it cannot, which is not the end of anything."""
        try:
            with trio.fail_after(CALL_TIME):
                return await ask()
        except Exception as error:
            self._complain(f"the launcher {what}: {_sentence(error)}", TICK)
            return None

    # --- the fleet

    def _changed(self, worker: Worker, what: LifeEvent) -> None:
        id = self._id_of(worker)
        if id is not None and what is LifeEvent.DRAIN:  # it may be gone before anybody looks
            self.staffing.leaves(id, trio.current_time())
        self._bell.ring()

    def _id_of(self, worker: Worker) -> str | None:
        """What its launcher calls it, if that was ours."""
        id = parse_id(f"{worker.name}.{worker.hello.incarnation}")
        is_ours = id is not None and id.incarnation and id.service == self._spec.service
        return str(id) if is_ours else None

    def _members(self) -> dict[str, Member]:
        """Those in the fleet that a launcher started for us, by their launcher's ids."""
        members = {}
        for worker in self._fleet.roster:
            id = self._id_of(worker)
            if id is not None:
                cached = worker.status.cache_size if worker.status is not None else 0
                members[id] = Member(worker.state, cached)
        return members

    def _retire(self, id: str) -> None:
        parsed = parse_id(id)
        if parsed is not None:
            self._fleet.retire(parsed.name, parsed.incarnation)

    async def _ask_caches(self) -> None:
        """How much each worker remembers, so that who goes is who remembers least."""

        def take(answer: wire.StatusAnswer) -> None:
            worker = self._fleet.roster.get(answer.worker)
            if worker is not None:
                worker.status = answer

        with suppress(LinkError):  # then what they said last has to do
            await self._fleet.surveys.ask(
                wire.Status(), wire.StatusAnswer, CACHES_TIME, expected=self._fleet.ids, on_answer=take
            )

    # --- what people are told

    def _report(self, plan: Plan) -> None:
        for id, how, again_in in plan.endings:
            name, last = _name(id), self._last_frame(id)
            if again_in is None:
                event(log, logging.INFO, "worker ended", worker=name, how=how, last_frame=last)
            else:
                told = {"how": how, "last_frame": last, "again_in": again_in}
                event(log, logging.WARNING, "worker ended", worker=name, **told)
                self.staffing.trouble = f"{name} ended: {how}; the next is tried in {again_in:.3g} s"
            self.publish(FLEET, "worker ended", worker=name, id=id, how=how, again_in=again_in)
            if again_in is not None and self.staffing.is_looping:
                event(log, logging.ERROR, "crash loop", because=self.staffing.trouble)
                self.publish(FLEET, "crash loop", because=self.staffing.trouble)

    def _last_frame(self, id: str) -> int | None:
        parsed = parse_id(id)
        return None if parsed is None else self._fleet.last_frame(parsed.name, parsed.incarnation)

    def _complain(self, what: str, again_in: float) -> None:
        suppressed = self._complaints.allow(what, trio.current_time())
        if suppressed is not None:
            event(log, logging.ERROR, "launcher in trouble", because=what, again_in=again_in, more=suppressed)


def _name(id: str) -> str:
    parsed = parse_id(id)
    return parsed.name if parsed is not None else id


def _sentence(error: Exception) -> str:
    if isinstance(error, trio.TooSlowError):
        return f"it did not answer within {CALL_TIME:g} s"
    if not isinstance(error, LaunchError):  # a launcher's fault, or its engine's; the fleet serves on
        log.error("a launcher failed", exc_info=error)
        return f"{type(error).__name__}: {error}"
    return str(error)
