"""The last hour of the gateway, in steps of a few seconds. Pure."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from common.stats import Latency

STEP = 5.0
LENGTH = 720  # steps: an hour


class Totals(NamedTuple):
    """What was counted since the gateway started; `handling` may go on counting."""

    requests: int
    failures: int
    handling: Latency


class Now(NamedTuple):
    """How things are at this moment."""

    waiting: int
    in_progress: int
    ready: int
    workers: int


class Sample(NamedTuple):
    """One step; `at` is its end in unix seconds, rates are per second, latencies in seconds: None where
    nothing was answered."""

    at: float
    requests: float
    failures: float
    p50: float | None
    p99: float | None
    now: Now


class History:
    """Invariant: the samples are of steps that follow each other, the oldest first, and at most `LENGTH`."""

    def __init__(self, totals: Totals, now: float) -> None:
        self._samples: deque[Sample] = deque(maxlen=LENGTH)
        self._before = totals._replace(handling=totals.handling.copy())
        self._then = now
        self.count = 0  # of samples that there ever were

    def add(self, totals: Totals, here: Now, now: float, at: float) -> None:
        """A step is over: it went from the last `add` to `now`, which is `at` by the clock on the wall."""
        before, seconds = self._before, max(now - self._then, 1e-9)
        step = totals.handling.since(before.handling)
        figures = step.snapshot()
        self._samples.append(
            Sample(
                at,
                (totals.requests - before.requests) / seconds,
                (totals.failures - before.failures) / seconds,
                figures.p50 if figures.count else None,
                figures.p99 if figures.count else None,
                here,
            )
        )
        self._before = totals._replace(handling=totals.handling.copy())
        self._then = now
        self.count += 1

    def newest(self, count: int = LENGTH) -> list[Sample]:
        """The last so many, the oldest first."""
        return list(self._samples)[-count:] if count > 0 else []
