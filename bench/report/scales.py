"""From values to places along an axis, and where the axis has its ticks. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

SHARES = (0.0, 0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999, 0.999999)


class Tick(NamedTuple):
    """A place that is named."""

    value: float
    label: str


class Scale(NamedTuple):
    """`kind` is linear, log, or percentile: each further nine of a share takes as much room as the last."""

    kind: str
    low: float
    high: float

    def place(self, value: float) -> float:
        """Where a value is: 0 at the low end, 1 at the high one, and no further."""
        low, high, here = (_measure(self.kind, each) for each in (self.low, self.high, value))
        return min(1.0, max(0.0, (here - low) / (high - low))) if high > low else 0.0

    def ticks(self) -> list[Tick]:
        """From low to high."""
        if self.kind == "percentile":
            shares = [share for share in SHARES if share <= self.high]
            return [Tick(share, f"{100 * share:.10g}") for share in shares]
        factors = (1, 2, 5) if self.high < 1e5 * self.low else (1,)
        is_log = self.kind == "log"
        values = _decades(self.low, self.high, factors) if is_log else _steps(self.low, self.high)
        return [Tick(value, f"{value:,.10g}") for value in values]


def scale_of(kind: str, values: Iterable[float]) -> Scale:
    """The scale that all of these are on, with round ends."""
    found = [value for value in values if kind == "linear" or value > 0]
    low, high = min(found, default=1.0), max(found, default=1.0)
    if kind == "percentile":
        return Scale(kind, 0.0, high)
    if kind == "linear":
        step = _step(0.0, high)
        return Scale(kind, 0.0, step * max(1, math.ceil(high / step - 1e-9)))
    ends = _decades(low / 10, high * 10, (1, 2, 5))
    low, high = max(each for each in ends if each <= low), min(each for each in ends if each >= high)
    return Scale(kind, low, high if high > low else 10 * low)


def _measure(kind: str, value: float) -> float:
    if kind == "log":
        return math.log10(max(value, 1e-12))
    if kind == "percentile":
        return -math.log10(max(1.0 - value, 1e-12))
    return value


def _decades(low: float, high: float, factors: Sequence[int]) -> list[float]:
    """So many times the powers of ten."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    values = [float(f"{factor}e{power}") for power in range(first, last + 1) for factor in factors]
    return [value for value in values if low * 0.999 <= value <= high * 1.001]


def _steps(low: float, high: float) -> list[float]:
    step = _step(low, high)
    return [n * step for n in range(math.ceil(low / step), math.floor(high / step + 1e-9) + 1)]


def _step(low: float, high: float) -> float:
    """A round step that makes about five of the way."""
    rough = max(high - low, 1e-9) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * 0.999)
