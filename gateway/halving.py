"""Whether all that waits goes as one batch, or as two that follow each other. Pure.

Clients that wait for their answers ask again together. Were all of them in one batch, its worker would have
nothing to do until they have asked again; of two batches of half the size one is there as the other ends.
Where a row costs the model as much in half a batch as in a whole one, as on a core that is busy with either,
that is free. Where it costs more, as on a device that takes as long for one row as for many, the batch stays
whole.
"""

from __future__ import annotations

SLOW = 0.01  # seconds for a batch: below, the gap is nothing beside the way there and back
FREE = 1.1  # what a row may cost in half a batch, of what it costs in a whole one
PROBE = 64  # batches, of which one goes the other way, as what is not tried is not known
_FADING = 0.2


class Halving:
    """What one version's batches cost one worker, by their size: the powers of two that bound it."""

    __slots__ = ("_batches", "_costs")

    def __init__(self) -> None:
        self._costs: dict[int, float] = {}  # seconds a row, in batches of 2ⁿ⁻¹ to 2ⁿ − 1 rows
        self._batches = 0

    def note(self, rows: int, seconds: float) -> None:
        """The model took so long for a batch."""
        cost, size = seconds / rows, rows.bit_length()
        before = self._costs.get(size, cost)
        self._costs[size] = before + _FADING * (cost - before)

    def limit(self, rows: int) -> int:
        """How many of the rows that wait go now."""
        whole = self._costs.get(rows.bit_length())
        if whole is None or whole * rows < SLOW:
            return rows
        self._batches += 1
        half = (rows + 1) // 2
        cost = self._costs.get(half.bit_length())
        is_free = cost is not None and cost <= FREE * whole
        return half if is_free is (self._batches % PROBE != 0) else rows
