"""Whom to start, to drain and to stop, so that there are as many workers as are wanted. Pure.

Each time it is asked it looks at the whole: what the launcher says of every worker that was ordered, and
whom the fleet hears. So an order whose answer was lost, and a worker that nobody ordered any more, are found
at the next look.

1. Who has ended, was not started or did not come in time, or fell silent, is stopped, and is a vacancy.
2. Who drains, because it is to go or by itself, is a vacancy too; it is stopped when its time is over.
3. Vacancies are filled at once, unless workers that were started last ended soon: then, ever more slowly.
4. Are there too many, those that do not serve yet go first, then the coldest cache, then the youngest.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from gateway.fleet.roster import State as Life
from gateway.launchers.ids import parse_id
from gateway.launchers.launcher import Launched, LaunchState

BACKOFF_MIN, BACKOFF_MAX = 0.1, 10.0
STEADY = 10.0  # a worker that was ready for so long did not fail at start: the back-off begins anew
LOOP = 3  # so many failures of workers, each started after the one before, are a crash loop
AGAIN = 15.0  # what was stopped, and is still there, is stopped again


class Counts(NamedTuple):
    """How many workers there are of those that were ordered; `failing` are vacancies that wait for the next
    try."""

    wanted: int
    ready: int
    starting: int
    draining: int
    failing: int


@dataclass(frozen=True)
class Member:
    """A worker as the fleet has it; `cached` rows are lost with it."""

    state: Life
    cached: int = 0


class Ending(NamedTuple):
    """A worker is no more, or is given up; `again_in` is when the next is tried, for one that was to stay."""

    id: str
    how: str
    again_in: float | None


class Plan(NamedTuple):
    """What to do now."""

    start: int
    drain: list[str]
    stop: list[str]
    endings: list[Ending]


@dataclass
class Order:
    """A worker that was ordered, and what is known of it since."""

    since: float
    launched: Launched | None = None
    member: Member | None = None
    is_known: bool = False  # its launcher has told of it
    heard: float | None = None
    ready: float | None = None
    leave_by: float | None = None  # it drains
    stopped: float | None = None

    @property
    def is_present(self) -> bool:
        """Whether it is to stay."""
        return self.leave_by is None and self.stopped is None

    @property
    def is_ready(self) -> bool:
        """Whether it serves."""
        return self.is_present and self.member is not None and self.member.state is Life.READY

    @property
    def shown(self) -> str:
        """Its state as people are told."""
        if self.stopped is not None:
            return "stopping"
        return LaunchState.PENDING.value if self.launched is None else self.launched.state.value

    def look(self, launched: Launched | None, member: Member | None, now: float) -> None:
        """Take note of what is said of it now."""
        self.launched, self.member = launched, member
        self.is_known |= launched is not None
        if member is not None and member.state is not Life.SUSPECT:
            self.heard = now
        if self.ready is None and member is not None and member.state is Life.READY:
            self.ready = now


class Staffing:
    """`start_time` is how many seconds a worker may take until it comes, `silence` how many it may be
    unheard, `drain_time` how many it may take to leave. Of workers for `one_use` none fails that has
    served."""

    def __init__(
        self, *, start_time: float, silence: float = 15.0, drain_time: float = 40.0, one_use: bool = False
    ) -> None:
        self.orders: dict[str, Order] = {}
        self.trouble = ""  # how the last worker failed, until one stays
        self._start_time = start_time
        self._silence = silence
        self._drain_time = drain_time
        self._one_use = one_use
        self._strikes = 0
        self._failed = self._resume = -1e9

    @property
    def is_looping(self) -> bool:
        """Whether workers fail one after the other."""
        return self._strikes >= LOOP

    def counts(self, wanted: int, now: float) -> Counts:
        """How many there are of each kind."""
        present = [each for each in self.orders.values() if each.is_present]
        ready = sum(each.is_ready for each in present)
        draining = sum(each.leave_by is not None and each.stopped is None for each in self.orders.values())
        failing = max(0, wanted - len(present)) if now < self._resume else 0
        return Counts(wanted, ready, len(present) - ready, draining, failing)

    def has_surplus(self, wanted: int) -> bool:
        """Whether the next plan lets somebody go, as far as is known."""
        return sum(each.is_present for each in self.orders.values()) > wanted

    def next_try(self, now: float) -> float:
        """When workers may be started again, if they may not now."""
        return self._resume if now < self._resume else math.inf

    def ordered(self, ids: Collection[str], now: float) -> None:
        """These were started."""
        for id in ids:
            self.orders.setdefault(id, Order(now))

    def leaves(self, id: str, now: float) -> None:
        """It takes nothing new any more, as it was told, or by itself."""
        order = self.orders.get(id)
        if order is not None and order.is_present:
            order.leave_by = now + self._drain_time

    def refused(self, why: str, now: float) -> float:
        """Nobody could be started; in how many seconds to try again."""
        self.trouble = why
        return self._fail(None, now)

    def plan(
        self, wanted: int, alive: Mapping[str, Launched], fleet: Mapping[str, Member], now: float
    ) -> Plan:
        """What to do, given what the launcher and the fleet say now."""
        plan = Plan(0, [], [], [])
        for id in [*alive, *fleet]:
            self.orders.setdefault(id, Order(now))
        for id, order in list(self.orders.items()):
            order.look(alive.get(id), fleet.get(id), now)
            if order.stopped is not None:
                self._look_after_stopped(id, order, plan, now)
            else:
                self._look_after(id, order, plan, now)
        self._forgive(now)
        present = {id: order for id, order in self.orders.items() if order.is_present}
        vacancies = wanted - len(present)
        for id in self._victims(present)[: max(0, -vacancies)]:
            self._let_go(id, present[id], plan, now)
        return plan._replace(start=max(0, vacancies) if now >= self._resume else 0)

    # --- one worker

    def _look_after(self, id: str, order: Order, plan: Plan, now: float) -> None:
        how = self._end(order, now)
        if how:
            is_failure = order.is_present and not (self._one_use and order.ready is not None)
            again_in = self._fail(order, now) if is_failure else None
            plan.endings.append(Ending(id, how, again_in))
            plan.stop.append(id)
            order.stopped = now
        elif order.member is not None and order.member.state is Life.DRAINING:
            self.leaves(id, now)

    def _look_after_stopped(self, id: str, order: Order, plan: Plan, now: float) -> None:
        assert order.stopped is not None
        if order.launched is None and order.member is None:
            del self.orders[id]
        elif now - order.stopped > AGAIN or _is_gone(order):  # its launcher remembers it until it is stopped
            plan.stop.append(id)
            order.stopped = now

    def _end(self, order: Order, now: float) -> str:
        """How a worker came to its end; nothing of one that may go on."""
        launched, age = order.launched, now - order.since
        unheard = age if order.heard is None else now - order.heard
        patience = self._start_time if order.heard is None else self._silence
        is_late = unheard > patience
        if launched is None and order.member is None and (order.is_known or is_late):
            return "what started it knows it no more" if order.is_known else "nobody knows of it"
        if launched is not None and launched.state is LaunchState.GONE:
            return launched.why or "nobody knows how"
        if order.leave_by is not None:
            return "it did not leave in time" if now > order.leave_by else ""
        if not is_late:
            return ""
        if order.heard is not None:
            return f"it was silent for {patience:g} s"
        if launched is not None and launched.state is LaunchState.PENDING:
            why = f": {launched.why}" if launched.why else ""
            return f"it was not started within {patience:g} s{why}"
        return f"it did not come within {patience:g} s"

    def _let_go(self, id: str, order: Order, plan: Plan, now: float) -> None:
        if order.member is None:  # it has nothing to finish
            plan.stop.append(id)
            order.stopped = now
        else:
            plan.drain.append(id)
            order.leave_by = now + self._drain_time

    @staticmethod
    def _victims(present: Mapping[str, Order]) -> list[str]:
        """Who may go, first of all those that cost least."""

        def cost(id: str) -> tuple[bool, bool, int, int]:
            order, parsed = present[id], parse_id(id)
            member = order.member
            age = -parsed.incarnation if parsed is not None else 0
            return order.is_ready, member is not None, member.cached if member is not None else 0, age

        return sorted(present, key=cost)

    # --- failures

    def _fail(self, order: Order | None, now: float) -> float:
        """A worker failed; in how many seconds the next is tried. Those that were started together fail
        once."""
        if order is None or order.since > self._failed:
            steady = order is not None and order.ready is not None and now - order.ready >= STEADY
            self._strikes = 1 if steady else self._strikes + 1
            self._resume = now + min(BACKOFF_MIN * 2.0 ** min(self._strikes - 1, 30), BACKOFF_MAX)
            self._failed = now
        return max(0.0, self._resume - now)

    def _forgive(self, now: float) -> None:
        """Somebody who was started after the last failure has stayed."""
        for order in self.orders.values():
            if order.since > self._failed and order.is_ready and now - (order.ready or now) >= STEADY:
                self._strikes, self.trouble = 0, ""


def _is_gone(order: Order) -> bool:
    return order.launched is not None and order.launched.state is LaunchState.GONE
