"""How sure a figure is: 95 % intervals of rates, means, percentiles and of differences between two of them.

Pure. Every interval is two-sided at 95 % and None where there is too little to say anything.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from common.stats import Latency

Z = 1.959963984540054  # the standard normal's 97.5th percentile


class Interval(NamedTuple):
    """From `low` to `high`, both within."""

    low: float
    high: float


class Moments:
    """Count, mean and variance of numbers seen one by one, stable for large ones.

    Welford, "Note on a method for calculating corrected sums of squares and products", Technometrics 1962.
    """

    __slots__ = ("_squares", "count", "mean")

    def __init__(self) -> None:
        self.count = 0
        self.mean = 0.0
        self._squares = 0.0

    def add(self, number: float) -> None:
        """See one more; it must be finite."""
        self.count += 1
        off = number - self.mean
        self.mean += off / self.count
        self._squares += off * (number - self.mean)

    @property
    def variance(self) -> float:
        """The unbiased sample variance; 0.0 of fewer than two."""
        return self._squares / (self.count - 1) if self.count > 1 else 0.0

    @property
    def interval(self) -> Interval | None:
        """Where the mean of all that could be seen lies (Student's t); None for fewer than two."""
        if self.count < 2:
            return None
        half = student(self.count - 1) * math.sqrt(self.variance / self.count)
        return Interval(self.mean - half, self.mean + half)


def student(freedom: float) -> float:
    """The 97.5th percentile of Student's t, within 0.2 % from 3 degrees of freedom up, exact for 1 and 2.

    Abramowitz and Stegun, "Handbook of Mathematical Functions", 26.7.5. Fewer than 1 count as 1.
    """
    if freedom < 2:
        return 12.706204736174698
    if freedom < 3:
        return 4.302652729749464
    z, n = Z, freedom
    terms = (
        z,
        (z**3 + z) / (4 * n),
        (5 * z**5 + 16 * z**3 + 3 * z) / (96 * n**2),
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * n**3),
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / (92160 * n**4),
    )
    return sum(terms)


def rate_interval(events: int, count: int) -> Interval | None:
    """Where a rate lies of which `events` of `count` were seen: Wilson's score interval.

    Wilson, "Probable inference, the law of succession, and statistical inference", JASA 1927. Unlike the
    textbook's, it says something true at 0 of n, which is what error rates are.
    """
    if count == 0:
        return None
    rate = events / count
    centre = rate + Z * Z / (2 * count)
    half = Z * math.sqrt(rate * (1 - rate) / count + (Z / (2 * count)) ** 2)
    scale = 1 + Z * Z / count
    low = 0.0 if events == 0 else (centre - half) / scale
    high = 1.0 if events == count else (centre + half) / scale
    return Interval(low, high)


def rate_difference(first: tuple[int, int], second: tuple[int, int]) -> Interval | None:
    """Where rate(second) − rate(first) lies; each is (events, count).

    Newcombe, "Interval estimation for the difference between independent proportions: comparison of eleven
    methods", Statistics in Medicine 1998, method 10.
    """
    one, two = rate_interval(*first), rate_interval(*second)
    if one is None or two is None:
        return None
    p1, p2 = first[0] / first[1], second[0] / second[1]
    return Interval(
        p2 - p1 - math.hypot(p2 - two.low, one.high - p1), p2 - p1 + math.hypot(two.high - p2, p1 - one.low)
    )


def mean_difference(first: Moments, second: Moments) -> Interval | None:
    """Where mean(second) − mean(first) lies, whatever their variances.

    Welch, "The generalization of 'Student's' problem when several different population variances are
    involved", Biometrika 1947.
    """
    if first.count < 2 or second.count < 2:
        return None
    a, b = first.variance / first.count, second.variance / second.count
    difference = second.mean - first.mean
    if a + b == 0.0:
        return Interval(difference, difference)
    freedom = (a + b) ** 2 / (a * a / (first.count - 1) + b * b / (second.count - 1))
    half = student(freedom) * math.sqrt(a + b)
    return Interval(difference - half, difference + half)


def percentile_interval(latency: Latency, q: float) -> Interval | None:
    """Where the q-th percentile (0 < q < 100) of all durations lies, in seconds, whatever their distribution.

    Its ends are order statistics: how many durations fall below the percentile is binomial (Conover,
    "Practical Nonparametric Statistics", 3rd edition, 1999, 3.2). None where so few were seen that an end
    would lie outside them.
    """
    count, share = latency.count, q / 100
    low = binomial_quantile(count, share, 0.025)
    high = binomial_quantile(count, share, 0.975) + 1
    if low < 1 or high > count:
        return None
    return Interval(latency.percentile(100 * low / count), latency.percentile(100 * high / count))


def binomial_quantile(count: int, share: float, probability: float) -> int:
    """The least k that a binomial variable does not exceed with this probability at least.

    Exact where the variance is below 100, else from the normal distribution, at most one off.
    """
    if share > 0.5:  # count from the nearer end, which is never far in the exact case
        below = _least(count, 1 - share, 1 - probability)
        return count - below
    return _least(count, share, probability)


def _least(count: int, share: float, probability: float) -> int:
    variance = count * share * (1 - share)
    if variance >= 100:
        z = Z if probability > 0.5 else -Z
        return round(count * share + z * math.sqrt(variance))
    term, k = (1 - share) ** count, 0
    total = term
    while total < probability and k < count:
        k += 1
        term *= (count - k + 1) / k * share / (1 - share)
        total += term
    return k


def chance(first: tuple[int, int], second: tuple[int, int]) -> float:
    """How probable it is, were both rates equal, that the second has so large a part of the events.

    One-sided and conditional on how many events there are: then the second's are binomial with its part of
    the count (Przyborowski and Wilenski, "Homogeneity of results in testing samples from Poisson series",
    Biometrika 1940). Each argument is (events, count); 1.0 where there are no events.
    """
    events = first[0] + second[0]
    part = second[1] / (first[1] + second[1])
    if second[0] == 0 or part in (0.0, 1.0):
        return 1.0
    tail = 0.0
    for k in range(second[0], events + 1):
        ways = math.lgamma(events + 1) - math.lgamma(k + 1) - math.lgamma(events - k + 1)
        tail += math.exp(ways + k * math.log(part) + (events - k) * math.log1p(-part))
    return min(1.0, tail)
