"""Pure: common/stats.py, with no clock and no IO."""

import math

import msgspec
import pytest
from hdrh.histogram import HdrHistogram
from hypothesis import given
from hypothesis import strategies as st

from common.stats import Latency, LatencySnapshot


def test_an_empty_latency_says_zero_everywhere() -> None:
    latency = Latency()
    assert latency.snapshot() == LatencySnapshot(count=0, mean=0.0, p50=0.0, p95=0.0, p99=0.0, max=0.0)
    assert (latency.count, latency.mean, latency.max, latency.percentile(99)) == (0, 0.0, 0.0, 0.0)


def test_a_hundred_durations_give_the_figures_one_would_read_off_the_list() -> None:
    latency = Latency()
    for milliseconds in range(1, 101):
        latency.record(milliseconds / 1000)
    figures = latency.snapshot()
    assert (figures.count, figures.mean, figures.max) == (100, 0.0505, 0.1)
    assert figures.p50 == pytest.approx(0.050, rel=0.01)
    assert figures.p95 == pytest.approx(0.095, rel=0.01)
    assert figures.p99 == pytest.approx(0.099, rel=0.01)
    assert latency.percentile(100) == 0.1


def test_no_percentile_lies_above_the_longest_duration() -> None:
    latency = Latency()
    latency.record(0.010001)
    assert latency.snapshot() == LatencySnapshot(1, 0.010001, 0.010001, 0.010001, 0.010001, 0.010001)


def test_record_many_is_record_so_many_times() -> None:
    many, single = Latency(), Latency()
    many.record_many(0.0123, 500)
    for _ in range(500):
        single.record(0.0123)
    assert many.snapshot() == single.snapshot()


def test_nothing_recorded_many_times_changes_nothing() -> None:
    latency = Latency()
    latency.record_many(5.0, 0)
    assert latency.snapshot() == Latency().snapshot()


@pytest.mark.parametrize(
    ("seconds", "counted"),
    [
        (-1.0, 1e-6),
        (0.0, 1e-6),
        (1e-9, 1e-6),
        (-math.inf, 1e-6),
        (math.nan, 1e-6),
        (3600.0, 3600.0),
        (3599.9999999, 3600.0),
        (1e300, 3600.0),
        (math.inf, 3600.0),
    ],
)
def test_durations_out_of_range_count_as_the_nearest_in_range(seconds: float, counted: float) -> None:
    latency = Latency()
    latency.record(seconds)
    assert (latency.count, latency.max) == (1, counted)
    assert latency.percentile(50) == counted


@pytest.mark.parametrize("q", [-0.1, 100.1, math.nan])
def test_a_percentile_outside_0_to_100_is_refused(q: float) -> None:
    with pytest.raises(ValueError, match="a percentile is between 0 and 100, not"):
        Latency().percentile(q)


def test_a_snapshot_crosses_the_wire_and_comes_back() -> None:
    latency = Latency()
    latency.record(0.5)
    packed = msgspec.msgpack.encode(latency.snapshot())
    assert msgspec.msgpack.decode(packed, type=LatencySnapshot) == latency.snapshot()


@given(st.lists(st.integers(1, 3_600_000_000), min_size=1, max_size=200))
def test_counts_fall_where_the_histogram_itself_would_put_them(micros: list[int]) -> None:
    ours, theirs = Latency(), HdrHistogram(1, 3_600_000_000, 2)
    for each in micros:
        ours.record(each / 1e6)
        assert theirs.record_value(each)
    assert list(ours._buckets) == list(theirs.counts)
    assert ours.count == theirs.get_total_count()


@given(st.lists(st.floats(2e-6, 3600), min_size=1, max_size=200), st.floats(0, 100))
def test_every_percentile_is_within_one_percent_of_the_exact_one(seconds: list[float], q: float) -> None:
    latency = Latency()
    for each in seconds:
        latency.record(each)
    exact = sorted(seconds)[max(int(q * len(seconds) / 100 + 0.5), 1) - 1]
    assert latency.percentile(q) == pytest.approx(exact, rel=0.01, abs=1e-6)
    assert latency.mean == pytest.approx(sum(seconds) / len(seconds), rel=1e-6, abs=1e-6)


@given(st.lists(st.floats(0, 5000)), st.lists(st.floats(0, 5000)))
def test_adding_one_to_another_is_recording_both(some, others) -> None:
    first, second, both = Latency(), Latency(), Latency()
    for latency, durations in ((first, some), (second, others), (both, some + others)):
        for seconds in durations:
            latency.record(seconds)
    first.add(second)
    assert first.snapshot() == both.snapshot()
    assert second.count == len(others)


def test_what_was_recorded_since_a_copy_is_told_apart_from_what_was_before() -> None:
    latency = Latency()
    latency.record(2.0, 100)
    before = latency.copy()
    latency.record(0.010, 300)
    since = latency.since(before)
    assert (since.count, since.mean) == (300, 0.010)
    assert since.percentile(99) == pytest.approx(0.010, rel=0.02)
    assert (before.count, latency.count) == (100, 400)
    assert latency.since(latency.copy()).snapshot().p99 == 0.0
