"""Pure: common/intervals.py against published figures, and against what it says of simulated draws."""

from __future__ import annotations

import math
import random
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.intervals import (
    Interval,
    Moments,
    binomial_quantile,
    chance,
    mean_difference,
    percentile_interval,
    rate_difference,
    rate_interval,
    student,
)
from common.stats import Latency


def moments(*numbers: float) -> Moments:
    made = Moments()
    for number in numbers:
        made.add(number)
    return made


@pytest.mark.parametrize(
    ("freedom", "table"),
    [(1, 12.706), (2, 4.303), (3, 3.182), (4, 2.776), (5, 2.571), (10, 2.228), (30, 2.042), (1e9, 1.96)],
)
def test_students_t_is_that_of_the_tables(freedom: float, table: float) -> None:
    assert student(freedom) == pytest.approx(table, rel=0.002)


@pytest.mark.parametrize(
    ("events", "count", "low", "high"),
    # Newcombe, "Two-sided confidence intervals for the single proportion", 1998, table I, method 3
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_the_interval_of_a_rate_is_the_published_one(
    events: int, count: int, low: float, high: float
) -> None:
    assert rate_interval(events, count) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize(
    ("first", "second", "low", "high"),
    # Newcombe, "Interval estimation for the difference between independent proportions", 1998, table II
    [
        ((48, 80), (56, 70), 0.0524, 0.3339),
        ((3, 10), (9, 10), 0.1705, 0.8090),
        ((0, 10), (10, 10), 0.6075, 1.0),
    ],
)
def test_the_interval_of_a_difference_of_rates_is_the_published_one(
    first: tuple[int, int], second: tuple[int, int], low: float, high: float
) -> None:
    assert rate_difference(first, second) == pytest.approx((low, high), abs=5e-5)


def test_nothing_is_said_of_nothing() -> None:
    assert rate_interval(0, 0) is None
    assert rate_difference((0, 0), (1, 2)) is None
    assert moments(1.0).interval is None
    assert mean_difference(moments(1.0), moments(1.0, 2.0)) is None
    assert percentile_interval(Latency(), 50) is None


@given(st.integers(1, 2000), st.data())
def test_a_rate_is_within_its_interval_and_that_within_0_and_1(count: int, data: st.DataObject) -> None:
    events = data.draw(st.integers(0, count))
    interval = rate_interval(events, count)
    assert interval is not None
    assert 0 <= interval.low <= events / count <= interval.high <= 1


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=50), st.sampled_from([0.0, 1e9]))
def test_moments_are_those_of_the_list(numbers: list[float], far: float) -> None:
    numbers = [number + far for number in numbers]
    seen = moments(*numbers)
    assert seen.count == len(numbers)
    assert seen.mean == pytest.approx(statistics.fmean(numbers), rel=1e-9, abs=1e-6)
    assert seen.variance == pytest.approx(statistics.variance(numbers), rel=1e-6, abs=1e-3)


def test_the_interval_of_a_mean_is_that_of_the_textbook() -> None:
    assert moments(1, 2, 3, 4, 5).interval == pytest.approx((1.0368, 4.9632), abs=1e-3)
    assert moments(2, 2).interval == Interval(2, 2)


def test_the_interval_of_a_difference_of_means_is_welchs() -> None:
    # 1 … 5 has mean 3 and variance 2.5, 2 … 20 in twos has 11 and 36.67: 11.16 degrees of freedom
    difference = mean_difference(moments(1, 2, 3, 4, 5), moments(*range(2, 21, 2)))
    assert difference == pytest.approx(
        (8 - 2.1974 * math.sqrt(4.1667), 8 + 2.1974 * math.sqrt(4.1667)), abs=2e-3
    )
    assert mean_difference(moments(1, 1), moments(3, 3)) == Interval(2, 2)


@pytest.mark.parametrize("share", [0.05, 0.5, 0.95, 0.99])
@pytest.mark.parametrize("count", [1, 2, 10, 100, 350, 1000])
@pytest.mark.parametrize("probability", [0.025, 0.975])
def test_a_quantile_of_the_binomial_is_the_exact_one(count: int, share: float, probability: float) -> None:
    total, exact = 0.0, 0
    for k in range(count + 1):
        total += math.comb(count, k) * share**k * (1 - share) ** (count - k)
        exact = k
        if total >= probability:
            break
    assert abs(binomial_quantile(count, share, probability) - exact) <= (count * share * (1 - share) >= 100)


def test_percentiles_of_a_hundred_have_the_ends_that_order_statistics_give() -> None:
    latency = Latency()
    for milliseconds in range(1, 101):
        latency.record(milliseconds / 1000)
    assert percentile_interval(latency, 50) == pytest.approx((0.040, 0.061), rel=0.01)
    assert percentile_interval(latency, 95) == pytest.approx((0.090, 0.100), rel=0.01)
    assert percentile_interval(latency, 99) is None  # its upper end lies beyond the longest of a hundred


def test_of_many_samples_19_in_20_intervals_hold_the_truth() -> None:
    draw = random.Random(7)
    rates = means = percentiles = 0
    for _ in range(400):
        rate = rate_interval(sum(draw.random() < 0.1 for _ in range(150)), 150)
        mean = moments(*(draw.gauss(5, 2) for _ in range(10))).interval
        latency = Latency()
        for _ in range(200):
            latency.record(draw.expovariate(1.0))
        percentile = percentile_interval(latency, 90)
        assert rate
        assert mean
        assert percentile
        rates += rate.low <= 0.1 <= rate.high
        means += mean.low <= 5 <= mean.high
        percentiles += percentile.low <= math.log(10) <= percentile.high
    assert all(370 <= held <= 398 for held in (rates, means, percentiles))


def test_how_probable_so_large_a_part_of_the_events_is() -> None:
    assert chance((0, 1800), (1, 200)) == pytest.approx(0.1)
    assert chance((0, 100), (3, 100)) == pytest.approx(0.125)
    assert chance((5, 100), (15, 100)) == pytest.approx(sum(math.comb(20, k) for k in range(15, 21)) / 2**20)
    assert chance((5, 100), (0, 100)) == 1.0
    assert chance((0, 0), (5, 5)) == 1.0
