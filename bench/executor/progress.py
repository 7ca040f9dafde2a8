"""How a run goes: what its processes said lately, as figures of the moment. Pure."""

from __future__ import annotations

import collections
from collections import Counter
from typing import NamedTuple

LATELY = 1.0  # seconds that the figures of the moment are of


class Tick(NamedTuple):
    """What a process had since its last one; `workers` are since the start."""

    latencies: list[float]
    errors: int
    in_flight: int
    workers: Counter[bytes]


class Moment(NamedTuple):
    """Seconds into the run (below 0 in the warm-up) and what is so then: answers a second, latencies and
    errors of the last second, all errors, and each worker's share."""

    at: float
    rate: float
    p50: float
    p99: float
    errors: int
    all_errors: int
    in_flight: int
    workers: dict[str, float]


class Progress:
    """Invariant: `_lately` has the ticks of the last second, the oldest first."""

    def __init__(self) -> None:
        self._lately: collections.deque[tuple[float, Tick]] = collections.deque()
        self._last: dict[int, Tick] = {}
        self._errors = 0

    def add(self, process: int, tick: Tick, at: float) -> None:
        """A process said so."""
        self._lately.append((at, tick))
        self._last[process] = tick
        self._errors += tick.errors

    def at(self, at: float) -> Moment:
        """What is so now."""
        while self._lately and self._lately[0][0] <= at - LATELY:
            self._lately.popleft()
        latencies = sorted(each for _, tick in self._lately for each in tick.latencies)
        workers: Counter[bytes] = Counter()
        for tick in self._last.values():
            workers.update(tick.workers)
        whole = sum(workers.values())
        return Moment(
            at,
            len(latencies) / LATELY,
            _quantile(latencies, 0.5),
            _quantile(latencies, 0.99),
            sum(tick.errors for _, tick in self._lately),
            self._errors,
            sum(tick.in_flight for tick in self._last.values()),
            {name.decode(errors="replace"): n / whole for name, n in workers.most_common()},
        )


def _quantile(ordered: list[float], share: float) -> float:
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)] if ordered else 0.0
