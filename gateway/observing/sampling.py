"""What looks at the gateway every few seconds and remembers an hour of it, and what requests failed of."""

from __future__ import annotations

import time

import trio

from common.errors import PipelineError, RequestCancelled
from gateway.bell import Bell
from gateway.fleet.fleet import Fleet
from gateway.fleet.roster import State
from gateway.metrics.recorder import OK
from gateway.observing.failures import Failures
from gateway.observing.history import STEP, History, Now, Totals
from gateway.scheduling.dispatch import Dispatcher
from gateway.scheduling.requests import ModelKey


class Sampling:
    """Owns the history, which is empty until `run` has run for a step. `watchers` are rung after each."""

    def __init__(self, dispatcher: Dispatcher, fleet: Fleet) -> None:
        self._dispatcher = dispatcher
        self._fleet = fleet
        self.history = History(self._totals(), 0.0)
        self.failures = Failures()
        self.watchers: set[Bell] = set()
        dispatcher.on_failed = dispatcher.recorder.on_refused = self._failed

    async def run(self) -> None:
        """Until cancelled."""
        self.history = History(self._totals(), trio.current_time())
        due = trio.current_time()
        while True:
            # A machine that slept is not sampled for each step that it missed.
            due = max(due + STEP, trio.current_time())
            await trio.sleep_until(due)
            self.history.add(self._totals(), self._now(), trio.current_time(), time.time())
            for watcher in self.watchers:
                watcher.ring()

    def _failed(self, key: ModelKey, error: PipelineError) -> None:
        self.failures.note(key, error, time.time())

    def _totals(self) -> Totals:
        codes = self._dispatcher.recorder.codes()
        failures = codes.total() - codes[OK] - codes[RequestCancelled.code]
        return Totals(codes.total(), failures, self._dispatcher.handling)

    def _now(self) -> Now:
        scheduler, roster = self._dispatcher.scheduler, self._fleet.roster
        return Now(scheduler.waiting, scheduler.unfinished, len(roster.in_state(State.READY)), len(roster))
