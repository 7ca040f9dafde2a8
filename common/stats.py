"""Latency statistics in bounded memory: one histogram, and the figures that are read from it.

Pure: no clock, no lock; whoever owns a `Latency` serialises what is done to it. Seconds outside,
whole microseconds inside.
"""

from __future__ import annotations

import msgspec
from hdrh.histogram import HdrHistogram

_HIGHEST = 3_600_000_000  # one hour in microseconds
# Two digits: a figure is right within 1 %, for 26 KiB a histogram and 0.2 ms a snapshot (measured).
# Three would be 0.1 % for 184 KiB and 0.7 ms, and no decision of ours hangs on the difference.
_DIGITS = 2


class LatencySnapshot(msgspec.Struct, frozen=True):
    """The figures of a `Latency` at one moment, in seconds; all zero when nothing was recorded."""

    count: int = 0
    mean: float = 0.0
    p50: float = 0.0
    p95: float = 0.0
    p99: float = 0.0
    max: float = 0.0


class Latency:
    """Durations recorded one by one; percentiles are within 1 %, count, mean and max are exact.

    Durations outside 1 µs to one hour count as the nearer of these two, and so does a NaN as 1 µs.
    """

    __slots__ = ("_bits", "_buckets", "_count", "_histogram", "_mask", "_max", "_total")

    def __init__(self) -> None:
        self._histogram = HdrHistogram(1, _HIGHEST, _DIGITS)
        self._buckets = self._histogram.counts
        self._mask: int = self._histogram.sub_bucket_mask
        self._bits = self._mask.bit_length()
        self._count = 0
        self._total = 0
        self._max = 0

    def record(self, seconds: float, count: int = 1) -> None:
        """Count one duration, or `count` times the same."""
        # The histogram's own record_value takes twice as long, and five of these are on every request's path.
        # This is its formula for a lowest value of 1; tests/common/test_stats.py holds the two together.
        micros = int(seconds * 1e6 + 0.5) or 1 if 0 < seconds < 3600 else _clamped(seconds)
        shift = (micros | self._mask).bit_length() - self._bits
        self._buckets[(shift << (self._bits - 1)) + (micros >> shift)] += count
        self._count += count
        self._total += micros * count
        if micros > self._max and count:
            self._max = micros

    def record_many(self, seconds: float, count: int) -> None:
        """Count one duration `count` times: a batch whose requests all took as long."""
        self.record(seconds, count)

    def add(self, other: Latency) -> None:
        """Count everything that another one counted."""
        self._histogram.encoder.add(other._histogram.encoder)
        self._count += other._count
        self._total += other._total
        self._max = max(self._max, other._max)

    def copy(self) -> Latency:
        """The same figures, which stay as they are."""
        other = Latency()
        other.add(self)
        return other

    def since(self, before: Latency) -> Latency:
        """What was recorded since `before` was copied from this one; its `max` may be an earlier one."""
        later = Latency()
        for at, (now, then) in enumerate(zip(self._buckets, before._buckets, strict=True)):
            if now != then:
                later._buckets[at] = now - then
        later._count = self._count - before._count
        later._total = self._total - before._total
        later._max = self._max
        return later

    @property
    def count(self) -> int:
        """How many durations were recorded."""
        return self._count

    @property
    def mean(self) -> float:
        """The mean in seconds, exact; 0.0 when empty."""
        return self._total / self._count / 1e6 if self._count else 0.0

    @property
    def max(self) -> float:
        """The longest in seconds, exact; 0.0 when empty."""
        return self._max / 1e6

    def percentile(self, q: float) -> float:
        """The duration in seconds that `q` percent (0 to 100) do not exceed, within 1 %; 0.0 when empty."""
        if not 0 <= q <= 100:
            raise ValueError(f"a percentile is between 0 and 100, not {q}")
        return self._percentiles(q)[0]

    def snapshot(self) -> LatencySnapshot:
        """All figures at once, in one pass over the histogram."""
        p50, p95, p99 = self._percentiles(50.0, 95.0, 99.0)
        return LatencySnapshot(self.count, self.mean, p50, p95, p99, self.max)

    def _percentiles(self, *qs: float) -> list[float]:
        if not self._count:
            return [0.0] * len(qs)
        self._histogram.total_count = self._count
        found: dict[float, int] = self._histogram.get_percentile_to_value_dict(qs)
        # The histogram answers with the upper end of a bucket, which may lie above anything recorded.
        return [min(found[q], self._max) / 1e6 for q in qs]


def _clamped(seconds: float) -> int:
    return _HIGHEST if seconds >= 3600 else 1
