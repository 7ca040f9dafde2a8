"""The search for the highest rate that a server bears: doubling until it does not, then bisection. Pure.

What is measured is noisy, so a rate is decided by the majority of several trials, and no more of them are
made than it takes.
"""

from __future__ import annotations

import enum
import math


class Verdict(enum.Enum):
    """What a trial at a rate showed."""

    BORNE = "within the limit"
    OVER = "over the limit"
    NOT_KEPT = "the schedule was not kept by the executor"


class Search:
    """Ask for the `rate` to try, `tell` what it showed, and so on until the rate is `None`.

    Always `low` < `high`: each rate up to `low` is taken to be borne, as `low` was, and none from `high` on.
    The search ends when they are within `tolerance` of each other, when `highest` is borne, or when a
    thousandth of `start` is not.
    """

    def __init__(
        self, start: float, *, highest: float = math.inf, tolerance: float = 0.05, repeats: int = 3
    ) -> None:
        if not 0 < start <= highest:
            raise ValueError("the first rate is more than 0, and no higher than the highest")
        if not (tolerance > 0 and repeats >= 1):
            raise ValueError("the tolerance is more than 0, and a rate is tried once or more often")
        self.low = 0.0
        self.high = math.inf
        self.limit: Verdict | None = None
        """What `high` showed."""
        self._start, self._highest, self._tolerance = start, highest, tolerance
        self._majority = repeats // 2 + 1
        self._votes: list[Verdict] = []
        self._rate = start

    @property
    def rate(self) -> float | None:
        """To be tried next."""
        is_found = self.low >= self._highest or self.high <= self.low * (1 + self._tolerance)
        return None if is_found or self.high < self._start / 1000 else self._rate

    def tell(self, verdict: Verdict) -> None:
        """What a trial at this rate showed."""
        self._votes.append(verdict)
        borne = self._votes.count(Verdict.BORNE)
        if borne >= self._majority:
            self.low = self._rate
        elif len(self._votes) - borne >= self._majority:
            self.high = self._rate
            self.limit = max(
                (each for each in self._votes if each is not Verdict.BORNE), key=self._votes.count
            )
        else:
            return
        self._votes = []
        self._rate = self._next()

    def _next(self) -> float:
        if self.high == math.inf:
            return min(2 * self.low, self._highest)
        if self.low == 0:
            return self.high / 2
        return math.sqrt(self.low * self.high)
