"""The autoscaler's edge: looks at the traffic several times a second, and at once when a request has no
worker; asks the policy, and tells the worker manager."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import msgspec
import trio

from common.errors import InvalidRequest
from common.log import event
from gateway.autoscaler.policy import Decision, Policy
from gateway.autoscaler.scaling import Changes, Scaling, Values
from gateway.autoscaler.traffic import Observation
from gateway.autoscaler.workforce import Workforce
from gateway.bell import Bell
from gateway.observing.events import AUTOSCALER, Publish, nobody
from gateway.scheduling.dispatch import Dispatcher
from gateway.state.state import State

log = logging.getLogger("pipeline.autoscaler")

TICK = 0.2
MEMORY = 1000
KEPT = "autoscaler"


class Made(NamedTuple):
    """A decision, made at a time in unix seconds upon what was seen; `before` is what was wanted."""

    number: int
    at: float
    before: int
    decision: Decision
    paused: bool
    seen: Observation


class Autoscaler:
    """`events` are the last decisions that changed something: how many, or the rule that says so.

    Everything before `run` is as the gateway was started; changes are kept before they count.
    `is_needed` says whether something else than a request needs a worker.
    """

    publish: Publish = staticmethod(nobody)

    def __init__(
        self,
        workforce: Workforce,
        dispatcher: Dispatcher,
        state: State,
        started: Scaling,
        is_needed: Callable[[], bool] = lambda: False,
    ) -> None:
        self.workforce = workforce
        self.policy = Policy(started.policy)
        self.events: deque[Made] = deque(maxlen=MEMORY)
        self.last: Made | None = None
        self._changes = Changes(started)
        self._dispatcher = dispatcher
        self._scheduler = dispatcher.scheduler
        self._state = state
        self._is_needed = is_needed
        self._bell = Bell()
        self._turn = trio.Lock()
        self._looked: float | None = None
        self._target: int | None = None  # as it was at the last look
        self._number = 0

    @property
    def scaling(self) -> Scaling:
        """What it goes by."""
        return self._changes.scaling

    def notice(self) -> None:
        """Some request has no worker."""
        if not self.workforce.target:
            self._bell.ring()

    async def change(self, patch: Values) -> None:
        """Go by something else, also after a restart. `InvalidRequest`, `StateError`: all is as it was."""
        async with self._turn:
            values = self._changes.merged(patch)
            await trio.to_thread.run_sync(self._state.kept.put, KEPT, msgspec.json.encode(values))
            self._adopt(values)
        event(log, logging.INFO, "autoscaler changed", **patch)
        self.publish(AUTOSCALER, "autoscaler changed", **patch)
        self._bell.ring()

    async def restore(self) -> None:
        """Go by what was changed before a restart, as far as the gateway is started so that it can."""
        kept = await trio.to_thread.run_sync(self._state.kept.get, KEPT)
        try:
            values = msgspec.json.decode(kept, type=Values) if kept is not None else {}
        except msgspec.MsgspecError as error:
            event(log, logging.ERROR, "what the autoscaler was told is lost", because=error)
            values = {}
        self._go_by(values)

    def start_anew(self, started: Scaling) -> None:
        """Go on as if the gateway had been started with this; what was changed since stays changed."""
        values = self._changes.values
        self._changes = Changes(started)
        self._go_by(values)
        self._bell.ring()

    async def run(self) -> None:
        """Decide, until cancelled."""
        while True:
            self._look(trio.current_time())
            with trio.move_on_after(TICK):
                await self._bell.wait()

    # --- inside

    def _go_by(self, values: Values) -> None:
        try:
            self._adopt(values)
        except InvalidRequest as error:
            event(log, logging.ERROR, "autoscaler goes by its flags alone", because=error)
            self._adopt({})

    def _adopt(self, values: Values) -> None:
        self._changes.adopt(values)
        scaling = self.scaling
        self.policy.parameters = scaling.policy
        bounds = scaling.bounds
        self.workforce.limit(bounds.min_workers, bounds.max_workers, scale_to_zero=bounds.may_be_none)

    def _look(self, now: float) -> None:
        span = TICK if self._looked is None else now - self._looked
        if span <= 0:
            return
        self._looked = now
        counts, before = self.workforce.counts(), self.workforce.target
        self._scheduler.unrouted.is_worker_starting = counts.starting > 0
        arrived, batches = self._dispatcher.meter.read()
        seen = Observation(
            now, span, counts.ready, self._scheduler.unfinished, self._scheduler.waiting_rows, arrived,
            batches, self._is_needed(),
        )  # fmt: skip
        if before != self._target:
            self.policy.note(now, before)
        decision = self.policy.desired(now, [seen], self.scaling.bounds)
        self._note(seen, decision, before)
        if decision.n != before and not self.scaling.paused:
            self.workforce.want(decision.n, f"{decision.rule}: {decision.reason}")
        self._target = self.workforce.target

    def _note(self, seen: Observation, decision: Decision, before: int) -> None:
        """Every decision is known until the next; those that differ from the last are remembered."""
        last, paused = self.last, self.scaling.paused
        is_news = last is None or last.paused != paused or last.decision[:2] != decision[:2]
        self._number += is_news
        self.last = Made(self._number, time.time(), before, decision, paused, seen)
        if not is_news:
            return
        self.events.append(self.last)
        self.publish(
            AUTOSCALER, "paused" if paused else "decided",
            n=decision.n, before=before, rule=decision.rule, reason=decision.reason,
        )  # fmt: skip
