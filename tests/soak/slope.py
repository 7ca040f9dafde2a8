"""Whether a quantity grows: a straight line through it, with the interval that its slope is in. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

BLOCKS = (
    12  # means of so many stretches: what is close together in time is alike, and is one piece of evidence
)
T_95 = 2.228  # Student's t for ten degrees of freedom, two-sided


class Slope(NamedTuple):
    """Growth a second, and the ends of its 95 % interval."""

    value: float
    low: float
    high: float


def slope(samples: Sequence[tuple[float, float]]) -> Slope:
    """The least squares' line through the means of stretches of equal length, of (time, value) in order of
    time; an interval without ends where there are too few."""
    points = _means(samples)
    if len(points) < BLOCKS:
        return Slope(0.0, -math.inf, math.inf)
    mean_x = sum(x for x, _ in points) / BLOCKS
    mean_y = sum(y for _, y in points) / BLOCKS
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    value = sum((x - mean_x) * (y - mean_y) for x, y in points) / spread
    rest = sum((y - mean_y - value * (x - mean_x)) ** 2 for x, y in points)
    error = math.sqrt(rest / (BLOCKS - 2) / spread)
    return Slope(value, value - T_95 * error, value + T_95 * error)


def _means(samples: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    size = len(samples) // BLOCKS
    blocks = [samples[n * size : (n + 1) * size] for n in range(BLOCKS)] if size else []
    return [(sum(x for x, _ in b) / size, sum(y for _, y in b) / size) for b in blocks]
