"""How sure a ratio of two measured figures is: 95 % intervals by the bootstrap. Pure.

A figure is known by what it was made of, its units: several runs, or the seconds of a single run. Drawing the
units again, with replacement, and making the figure anew of each draw shows how much it depends on which of
them there happened to be (Efron 1979). Everything is done on logarithms, for what is asked for is a ratio.

Few units vary less than what they were drawn from, and so would the draws. Hence the percentiles of the draws
that the interval ends at lie further out than 2.5 and 97.5, by Student's t (with Welch's degrees of freedom)
and √(n/(n-1)): Hesterberg 2015, "What Teachers Should Know About the Bootstrap", section 5.3. With few units
there is nothing further out to be had, and the interval is Student's, with the draws' standard error.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

DRAWS = 2000
CONFIDENCE = 0.95
FEWEST_BLOCKS = 5  # of seconds, to say anything of one run
ENOUGH_UNITS = 10  # for percentiles of draws


class Known(NamedTuple):
    """A figure's logarithm, its logarithms in the draws, and how many units they were made of."""

    log: float
    draws: Floats
    units: float

    @property
    def variance(self) -> float:
        """Of the draws."""
        return float(np.var(self.draws))


class Ratio(NamedTuple):
    """A ratio, and the interval that it lies in."""

    ratio: float
    low: float
    high: float

    @property
    def is_difference_shown(self) -> bool:
        """Whether the interval leaves 1 out."""
        return self.low > 1.0 or self.high < 1.0


def runs_drawn(count: int, source: np.random.Generator) -> Floats:
    """How often each of so many runs is in each draw: a matrix of draws by runs."""
    return _counted(source.integers(0, count, (DRAWS, count)), count)


def seconds_drawn(count: int, source: np.random.Generator) -> tuple[Floats, float]:
    """The same of seconds, which are drawn in blocks since neighbours are alike; and how many blocks.

    A block is so long as Künsch's rule of n^(1/3) has it, and the first second follows the last one, so that
    every second is as likely as any other (Politis and Romano 1992).
    """
    length = max(1, round(count ** (1 / 3)))
    starts = source.integers(0, count, (DRAWS, math.ceil(count / length), 1))
    drawn = (starts + np.arange(length)) % count
    return _counted(drawn.reshape(DRAWS, -1)[:, :count], count), count / length


def _counted(drawn: NDArray[np.int64], count: int) -> Floats:
    rows = np.arange(DRAWS)[:, None] * count
    return np.bincount((drawn + rows).ravel(), minlength=DRAWS * count).reshape(DRAWS, count).astype(float)


def known(figure: float, draws: Floats, units: float, *, whole: float | None = None) -> Known | None:
    """A figure and what it was in each draw; `None` where they do not tell how sure it is.

    `whole` is what the way of the draws makes of all units, where the figure itself is known better.
    """
    whole = figure if whole is None else whole
    if units < 2 or not (figure > 0 and whole > 0 and np.all(draws > 0)):
        return None
    return Known(math.log(figure), np.log(draws * (figure / whole)), units)


def known_by_runs(figures: Sequence[float], source: np.random.Generator) -> Known | None:
    """The geometric mean of the runs' figures."""
    if len(figures) < 2 or min(figures) <= 0:
        return None
    logs = np.log(np.asarray(figures, float))
    draws = np.exp(runs_drawn(len(figures), source) @ logs / len(figures))
    return known(math.exp(float(logs.mean())), draws, len(figures))


def ratio(one: Known, other: Known) -> Ratio:
    """How many times the first figure is the other one."""
    return _interval(one.log - other.log, one.draws - other.draws, [one, other])


def ratio_of_pairs(pairs: Sequence[tuple[float, float]], source: np.random.Generator) -> Ratio | None:
    """The same of runs that were made two by two, so that what slowed one slowed the other too."""
    if any(min(pair) <= 0 for pair in pairs):
        return None
    found = known_by_runs([one / other for one, other in pairs], source)
    return None if found is None else _interval(found.log, found.draws, [found])


def _interval(log: float, draws: Floats, sides: Sequence[Known]) -> Ratio:
    squares = [each.variance * each.units / (each.units - 1) for each in sides]
    parts = [square**2 / (each.units - 1) for square, each in zip(squares, sides, strict=True)]
    if not sum(parts):  # all units were the same
        return Ratio(math.exp(log), math.exp(log), math.exp(log))
    error, reach = math.sqrt(sum(squares)), students_t(sum(squares) ** 2 / sum(parts))
    if min(each.units for each in sides) < ENOUGH_UNITS:
        return Ratio(*(math.exp(log + sign * reach * error) for sign in (0, -1, 1)))
    level = NormalDist().cdf(-reach * error / math.sqrt(sum(each.variance for each in sides)))
    low, high = np.exp(np.quantile(draws, [level, 1 - level]))
    return Ratio(math.exp(log), float(low), float(high))


def students_t(freedom: float) -> float:
    """How many standard errors the interval reaches to each side.

    With x = √f tan θ Student's density is cos^(f-1) θ, which is summed up here and looked up in.
    """
    angles = np.linspace(0.0, math.pi / 2, 20_001)
    freedom = min(freedom, 1000.0)
    area = np.cumsum(np.cos(angles) ** (freedom - 1))
    angle = float(np.interp(CONFIDENCE * area[-1], area, angles))
    return math.sqrt(freedom) * math.tan(angle)


def quantiles(counts: Floats, edges: Floats, share: float) -> Floats:
    """The value that this share of what was counted lies below, for each row of counts.

    `edges` are the logarithms of the buckets' limits, one more than there are buckets; within a bucket the
    values are taken to lie evenly. A row that is empty has nan.
    """
    upto = np.cumsum(counts, axis=1)
    wanted = share * upto[:, -1:]
    bucket = np.minimum(np.argmax(upto >= wanted, axis=1), counts.shape[1] - 1)[:, None]
    held = np.take_along_axis(counts, bucket, 1)
    before = np.take_along_axis(upto, bucket, 1) - held
    with np.errstate(invalid="ignore", divide="ignore"):
        part = (wanted - before) / held
    values = np.exp(edges[bucket] + part * (edges[bucket + 1] - edges[bucket]))
    return np.asarray(values[:, 0], dtype=np.float64)


def blurred(draws: Floats, width: float, source: np.random.Generator) -> Floats:
    """Draws that are not known better than by a bucket, whose logarithm has this width."""
    return np.asarray(draws * np.exp(source.uniform(-width / 2, width / 2, draws.shape)))
