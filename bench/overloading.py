"""The plan of an overload, and what became of its requests, as figures. Pure; times are in seconds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from bench.figures import Figure
from bench.schedule import Row

CALM = 5.0  # before, of which the first second warms up, and after
SHARE = 0.5  # of the capacity, while all is calm
HOT_SHARE = 0.1  # of the capacity: hot rows that are asked beside it, all the time
SETTLED = 0.3  # of the overload, after which memory should grow no more
BUSY = "503"
MOMENT = 0.2


class Asked(NamedTuple):
    """A request: when it was due, sent and over, the kind of its error, whether its row was a hot one, and
    whether a cache had it."""

    due: float
    sent: float
    done: float
    error: str
    is_hot: bool
    is_hit: bool


class Plan(NamedTuple):
    """Calm, so many times the capacity, and calm again."""

    capacity: float
    times: float
    seconds: float
    deadline: float

    @property
    def over(self) -> float:
        """When the overload ends."""
        return CALM + self.seconds

    @property
    def end(self) -> float:
        """When all of it does."""
        return self.over + CALM

    @property
    def patience(self) -> float:
        """How long a client waits: far beyond the deadline, so that whoever is late is seen to be."""
        return 10 * self.deadline + 5

    @property
    def connections(self) -> int:
        """Enough for all that are admitted to wait until the deadline, twice over."""
        return int(2 * self.capacity * self.times * self.deadline) + 64

    def rows(self, model: str, hot: str, hot_rows: int) -> list[Row]:
        """The requests: fresh rows at each part's rate, and hot ones beside them."""
        parts = ((0.0, CALM, SHARE), (CALM, self.over, self.times), (self.over, self.end, SHARE))
        found = []
        for begin, end, share in parts:
            rate = share * self.capacity
            found += [Row(begin + n / rate, model, f"{begin} {n}") for n in range(int((end - begin) * rate))]
        rate = HOT_SHARE * self.capacity
        found += [Row(n / rate, model, f"{hot} {n % hot_rows}") for n in range(int(self.end * rate))]
        return sorted(found)


def figures(plan: Plan, asked: Sequence[Asked], memory: Sequence[tuple[float, float]]) -> list[Figure]:
    """What is asked of a server in overload, each with its bound."""
    during = [each for each in asked if CALM <= each.due < plan.over]
    fresh, hot = ([each for each in during if each.is_hot is is_hot] for is_hot in (False, True))
    good = [each for each in fresh if _is_good(each, plan.deadline)]
    told = [each.done - each.sent for each in during if each.error == BUSY]
    admitted = [each.done - each.sent for each in during if each.error != BUSY]
    late = [each for each in during if each.error not in ("", BUSY)]
    served = [each for each in hot if _is_good(each, plan.deadline)]
    rate, offered = len(good) / plan.seconds, len(fresh) / plan.seconds
    limit = plan.deadline * 1e3
    return [
        Figure("what one worker can", plan.capacity, "rows/s", note="a closed loop"),
        Figure("offered in overload", offered, "rows/s", note=f"{offered / plan.capacity:.1f} times as much"),
        Figure("goodput, of what it can", rate / plan.capacity, "", at_least=0.95, note=f"{rate:.0f} rows/s"),
        Figure("admitted, p99", _quantile(admitted, 0.99) * 1e3, "ms", at_most=limit),
        Figure("  that failed all the same", len(late), "requests", note=f"of {len(admitted):,}"),
        Figure("told 503, p99", _quantile(told, 0.99) * 1e3, "ms", at_most=20, note=f"{len(told):,} of them"),
        Figure("hot rows served, of those asked", len(served) / max(1, len(hot)), "", at_least=0.95),
        Figure("the gateway's memory grew by", _growth(plan, memory), "MiB", at_most=8),
        Figure("back to normal after", _recovery(plan, asked), "s", at_most=1),
    ]  # fmt: skip


def _is_good(asked: Asked, deadline: float) -> bool:
    return not asked.error and asked.done - asked.sent <= deadline


def _growth(plan: Plan, memory: Sequence[tuple[float, float]]) -> float:
    """From when the overload has settled until its end: the largest after, beyond the largest before."""
    settled = CALM + SETTLED * plan.seconds
    before = [rss for at, rss in memory if CALM <= at < settled]
    after = [rss for at, rss in memory if settled <= at < plan.over]
    return max(0.0, max(after) - max(before)) if before and after else 0.0


def _recovery(plan: Plan, asked: Sequence[Asked]) -> float:
    """Since the end of the overload, until nothing fails any more and half of what is asked within a moment
    takes no longer than it did before, give or take half."""
    before = [each.done - each.sent for each in asked if 1 <= each.due < CALM and not each.error]
    normal = 1.5 * _quantile(before, 0.5)
    recovered = 0.0
    for n in range(int(CALM / MOMENT)):
        begin, end = n * MOMENT, (n + 1) * MOMENT
        then = [each for each in asked if begin <= each.due - plan.over < end]
        if any(each.error for each in then) or _quantile([e.done - e.sent for e in then], 0.5) > normal:
            recovered = end
    return recovered


def _quantile(values: Sequence[float], share: float) -> float:
    return float(np.quantile(values, share, method="inverted_cdf")) if values else 0.0
