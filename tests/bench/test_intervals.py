"""pure: intervals of ratios hold what they promise on distributions that are known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bench.intervals import (
    known,
    known_by_runs,
    quantiles,
    ratio,
    ratio_of_pairs,
    runs_drawn,
    seconds_drawn,
    students_t,
)

TRUE = 1.2


@pytest.mark.parametrize(
    ("freedom", "value"), [(1, 12.706), (2, 4.303), (5, 2.571), (30, 2.042), (1e6, 1.962)]
)
def test_students_t_is_that_of_the_tables(freedom, value):
    assert students_t(freedom) == pytest.approx(value, abs=1.5e-3)


def interval_of_runs(source, runs, true=TRUE):
    first, second = np.exp(source.normal(0, 0.1, (2, runs)))
    sides = [known_by_runs(list(each), source) for each in (true * first, second)]
    return ratio(*sides)


@pytest.mark.parametrize("runs", [3, 5, 12])
def test_nineteen_of_twenty_intervals_of_repeated_runs_hold_the_ratio(runs):
    source = np.random.default_rng(7)
    found = [interval_of_runs(source, runs) for _ in range(200)]
    held = sum(each.low <= TRUE <= each.high for each in found) / len(found)
    assert 0.91 <= held <= 0.99


def test_nineteen_of_twenty_comparisons_of_the_same_thing_show_no_difference():
    source = np.random.default_rng(8)
    found = [interval_of_runs(source, 5, true=1.0) for _ in range(200)]
    assert 0.01 <= sum(each.is_difference_shown for each in found) / len(found) <= 0.09


def test_more_runs_make_narrower_intervals():
    widths = [
        np.mean(
            [math.log(each.high / each.low) for each in (interval_of_runs(source, runs) for _ in range(40))]
        )
        for runs, source in [(n, np.random.default_rng(9)) for n in (3, 6, 12, 24)]
    ]
    assert widths == sorted(widths, reverse=True)
    assert widths[-1] == pytest.approx(2 * 2.01 * 0.1 * math.sqrt(2 / 24), rel=0.1)  # as the t test has it


def test_what_slows_both_of_a_pair_does_not_widen_the_interval_of_pairs():
    source = np.random.default_rng(10)
    shared = np.exp(source.normal(0, 0.5, 6))
    first, second = TRUE * shared * np.exp(source.normal(0, 0.01, 6)), shared
    paired = ratio_of_pairs(list(zip(first, second, strict=True)), source)
    alone = ratio(*(known_by_runs(list(each), source) for each in (first, second)))
    assert paired.low <= TRUE <= paired.high
    assert paired.is_difference_shown
    assert not alone.is_difference_shown


def series(source, seconds):
    """Seconds that are like their neighbours: first-order autoregression of 0.5 on the logarithms' scale."""
    noise = source.normal(0, 0.1, seconds)
    for n in range(1, seconds):
        noise[n] += 0.5 * noise[n - 1]
    return np.exp(noise)


def test_blocks_of_seconds_allow_for_neighbours_being_alike():
    source = np.random.default_rng(11)
    how = {
        "blocks": [seconds_drawn(120, source) for _ in range(2)],
        "seconds": [(runs_drawn(120, source), 120) for _ in range(2)],
    }
    held = dict.fromkeys(how, 0)
    for _ in range(200):
        both = series(source, 120), series(source, 120)
        for name, draws in how.items():
            sides = (
                known(each.mean(), drawn @ each / 120, units)
                for each, (drawn, units) in zip(both, draws, strict=True)
            )
            found = ratio(*sides)
            held[name] += found.low <= 1 <= found.high
    assert held["seconds"] / 200 < 0.85 < 0.88 <= held["blocks"] / 200


def test_every_second_is_drawn_as_often_as_any_other():
    drawn, blocks = seconds_drawn(30, np.random.default_rng(12))
    assert blocks == 10
    assert (drawn.sum(axis=1) == 30).all()
    assert drawn.mean(axis=0) == pytest.approx(np.ones(30), abs=0.15)


def test_the_same_value_everywhere_leaves_no_doubt():
    source = np.random.default_rng(13)
    assert ratio(known_by_runs([2, 2, 2], source), known_by_runs([1, 1], source)) == pytest.approx((2, 2, 2))


def test_one_run_or_a_figure_of_zero_tells_nothing():
    source = np.random.default_rng(14)
    assert known_by_runs([5.0], source) is None
    assert known_by_runs([5.0, 0.0], source) is None
    assert known(5.0, np.array([5.0, 0.0]), 8) is None
    assert ratio_of_pairs([(1.0, 2.0)], source) is None
    assert ratio_of_pairs([(1.0, 2.0), (1.0, 0.0)], source) is None


def test_a_quantile_of_counts_is_that_of_what_was_counted():
    source = np.random.default_rng(15)
    values = source.lognormal(0, 1, 100_000)
    edges = np.linspace(-6, 6, 121)
    counts = np.histogram(np.log(values), edges)[0].astype(float)
    for share in (0.5, 0.9, 0.99, 0.999):
        found = quantiles(np.stack([counts, 3 * counts]), edges, share)
        assert found == pytest.approx(np.quantile(values, [share, share]), rel=0.02)


def test_a_quantile_of_nothing_is_no_number():
    assert np.isnan(quantiles(np.zeros((1, 4)), np.arange(5.0), 0.5)).all()
