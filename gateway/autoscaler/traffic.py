"""What the autoscaler sees of traffic, and what it makes of it: rates, and what one worker holds. Pure.

How many requests a worker has in progress says little here, as they travel in batches: ten are nothing for
a model that takes ten rows as fast as one, and ten times too many for another. So what is measured is the
time of batches by their rows. From it follows how many rows a second one worker answers, and arrivals over
that is how many workers are at work (Little's law): the concurrency that counts.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

FURTHER = 2.0  # how many times larger than they are batches are thought of: no further than can be trusted
SIGNIFICANT = 3.0  # a trend is one from so many standard errors on, and
LEAST = 5  # so many observations in each half of the window
SEEN = 1.0  # one request in the first instant is no rate


@dataclass
class Batches:
    """Sums over batches that came back: all that a line through (rows, seconds) needs. `reach` is how many
    rows each could have had, by its model's limit and no more than `FURTHER` times what it had."""

    count: int = 0
    rows: float = 0.0
    seconds: float = 0.0
    rows_rows: float = 0.0
    rows_seconds: float = 0.0
    reach: float = 0.0

    def add(self, rows: int, seconds: float, max_batch: int) -> None:
        """One more. `seconds` are those in which its worker had no earlier one in hand."""
        self.count += 1
        self.rows += rows
        self.seconds += seconds
        self.rows_rows += rows * rows
        self.rows_seconds += rows * seconds
        self.reach += max(rows, min(FURTHER * rows, max_batch))

    def include(self, other: Batches) -> None:
        """All of these too."""
        self.count += other.count
        self.rows += other.rows
        self.seconds += other.seconds
        self.rows_rows += other.rows_rows
        self.rows_seconds += other.rows_seconds
        self.reach += other.reach


class Observation(NamedTuple):
    """What happened since the observation before, `span` seconds long, and what is so `at` its end."""

    at: float
    span: float
    ready: int  # workers that take requests
    in_hand: int  # requests admitted and not over
    waiting: int  # rows that wait for a worker
    arrived: int  # rows that were admitted meanwhile
    batches: Batches  # those that came back meanwhile
    is_needed: bool = False  # whether something else than a request needs a worker: a job


class Capacity(NamedTuple):
    """What one worker holds: rows a second, and the seconds that a batch takes as they are now."""

    rate: float
    batch_time: float


def capacity(batches: Batches, reach: float, most_seconds: float) -> Capacity | None:
    """What one worker answers, by a line through its batches' times; None where there were none.

    The line is asked for batches of `reach` rows, as more requests make larger batches, not only more of
    them; or for those that take `most_seconds`, if these are smaller; but for none smaller than they were.
    """
    if not batches.count or batches.seconds <= 0 or batches.rows <= 0:
        return None
    n = batches.count
    rows, seconds = batches.rows / n, batches.seconds / n
    variance = batches.rows_rows / n - rows * rows
    slope = seconds / rows  # where all batches are of one size, rows are thought to cost their share
    if variance > 1e-6 * rows * rows:
        slope = min(slope, max(0.0, (batches.rows_seconds / n - rows * seconds) / variance))
    fixed = seconds - slope * rows
    larger = max(rows, min(reach, (most_seconds - fixed) / slope) if slope > 0 else reach)
    return Capacity(larger / (fixed + slope * larger), seconds)


class Traffic:
    """The observations of a window, oldest first; older ones are forgotten."""

    def __init__(self) -> None:
        self._observations: deque[Observation] = deque()
        self.active_at = -math.inf  # when there was anything to do last

    def add(self, observations: Iterable[Observation], *, keep: float) -> None:
        """What happened since; observations of the last `keep` seconds stay."""
        for each in observations:
            if each.in_hand or each.arrived or each.is_needed:
                self.active_at = each.at
            self._observations.append(each)
        while self._observations and self._observations[0].at <= self._observations[-1].at - keep:
            self._observations.popleft()

    @property
    def newest(self) -> Observation | None:
        """The newest observation."""
        return self._observations[-1] if self._observations else None

    def last(self, seconds: float) -> Iterator[Observation]:
        """Observations of the last seconds, newest first; the newest one whatever its span."""
        if not self._observations:
            return
        newest = self._observations[-1]
        since = newest.at - seconds + 1e-9
        for each in reversed(self._observations):
            if each.at <= since and each is not newest:
                return
            yield each

    def rate(self, seconds: float) -> float:
        """Rows that arrived in each of the last seconds, or of those that were seen: for `SEEN` at least, as
        if nothing had come before."""
        seen = list(self.last(seconds))
        span = sum(each.span for each in seen)
        return sum(each.arrived for each in seen) / max(span, min(seconds, SEEN))

    def in_hand(self, seconds: float) -> float:
        """Requests admitted and not over, on average."""
        return self._mean([(each.in_hand, each.span) for each in self.last(seconds)])

    def waiting(self, seconds: float) -> float:
        """Rows that waited for a worker, on average."""
        return self._mean([(each.waiting, each.span) for each in self.last(seconds)])

    def batches(self, seconds: float) -> Batches:
        """Every batch that came back in the last seconds."""
        found = Batches()
        for each in self.last(seconds):
            found.include(each.batches)
        return found

    def reach(self, seconds: float) -> float:
        """How many rows batches could have had in those of the last seconds in which they were largest."""
        found = (each.batches for each in self.last(seconds) if each.batches.count)
        return max((batches.reach / batches.count for batches in found), default=0.0)

    def slope(self, seconds: float) -> float:
        """By how much the rate of arrivals grows each second, if chance is excluded; else 0.

        Both halves of the window have to grow: after a step one of them is flat, and no more is to come.
        """
        rates = [(each.at, each.arrived / each.span) for each in self.last(seconds) if each.span > 0]
        if len(rates) < 2 * LEAST or rates[0][0] - rates[-1][0] < 0.9 * seconds:
            return 0.0
        half = len(rates) // 2
        slope, error = _line(rates)
        if slope <= SIGNIFICANT * error:
            return 0.0
        return max(0.0, min(slope, *(_line(each)[0] for each in (rates[:half], rates[half:]))))

    @staticmethod
    def _mean(seen: list[tuple[int, float]]) -> float:
        span = sum(each for _, each in seen)
        return sum(value * each for value, each in seen) / span if span else 0.0


def _line(points: list[tuple[float, float]]) -> tuple[float, float]:
    """The slope of the line through these, by least squares, and its standard error."""
    n = len(points)
    mean_x, mean_y = sum(x for x, _ in points) / n, sum(y for _, y in points) / n
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in points) / spread
    residual = sum((y - mean_y - slope * (x - mean_x)) ** 2 for x, y in points)
    return slope, math.sqrt(residual / (n - 2) / spread)
