"""What a run's measurements say together: medians of rotations, and ratios within them. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import median
from typing import NamedTuple

from bench.peers.catalog import LIMIT, OURS, PEERS
from bench.peers.outcomes import Outcome


class Series(NamedTuple):
    """One thing that was measured in several rotations."""

    peer: str
    workload: str
    kind: str = "load"
    variant: str = ""
    workers: int = 0
    """0: as many as the server usually has for this workload."""

    def has(self, outcome: Outcome) -> bool:
        """Whether the outcome is of it."""
        workers = self.workers or (self.kind == "load" and usual_workers(self.peer, self.workload))
        return (
            (outcome.peer, outcome.workload, outcome.kind, outcome.variant)
            == (self.peer, self.workload, self.kind, self.variant)
        ) and workers in (False, outcome.workers)


def usual_workers(peer: str, workload: str) -> int:
    """What a server is mostly measured with."""
    return PEERS[OURS if peer == LIMIT else peer].workers[workload]


class Found:
    """All measurements that did not go wrong."""

    def __init__(self, outcomes: Iterable[Outcome]) -> None:
        self._outcomes = [each for each in outcomes if not each.error]

    def values(self, series: Series, figure: str) -> dict[int, float]:
        """By rotation; empty where it was not measured."""
        return {
            each.rotation: each.figures[figure]
            for each in self._outcomes
            if series.has(each) and figure in each.figures
        }

    def typical(self, series: Series, figure: str) -> float | None:
        """The median of the rotations."""
        values = self.values(series, figure)
        return median(values.values()) if values else None

    def ratio(self, one: Series, other: Series, figure: str) -> float | None:
        """The median of each rotation's ratio: what slowed the machine for a while is in both."""
        above, below = self.values(one, figure), self.values(other, figure)
        ratios = [above[n] / below[n] for n in above if below.get(n)]
        return median(ratios) if ratios else None

    def best(self, all_of: Iterable[Series], figure: str, *, is_lowest: bool = False) -> Series | None:
        """The one with the highest median, or the lowest."""
        known = [(value, each) for each in all_of if (value := self.typical(each, figure)) is not None]
        choose = min if is_lowest else max
        return choose(known, key=lambda each: each[0])[1] if known else None
