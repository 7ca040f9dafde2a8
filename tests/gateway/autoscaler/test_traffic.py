"""pure: what is made of observations: rates, trends, and what one worker holds."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.autoscaler.traffic import Batches, Capacity, Observation, Traffic, capacity


def batches(*each: tuple[int, float], max_batch: int = 1024) -> Batches:
    found = Batches()
    for rows, seconds in each:
        found.add(rows, seconds, max_batch)
    return found


def held_by(found: Batches) -> Capacity:
    """What a worker holds where requests may wait for 100 ms."""
    held = capacity(found, found.reach / found.count, 0.1)
    assert held is not None
    return held


def traffic(rates: list[float], span: float = 0.2, **fields: int) -> Traffic:
    """One observation after the other, with so many arrivals a second."""
    made = Traffic()
    empty = {"ready": 1, "in_hand": 0, "waiting": 0, "batches": Batches()} | fields
    for n, rate in enumerate(rates):
        made.add([Observation((n + 1) * span, span, arrived=int(rate * span), **empty)], keep=1000.0)
    return made


def test_without_batches_nobody_knows_what_a_worker_holds():
    assert capacity(Batches(), 0.0, 0.1) is None


def test_of_a_model_of_one_row_a_batch_a_worker_holds_as_many_rows_as_batches():
    held = held_by(batches(*[(1, 0.02)] * 10, max_batch=1))
    assert held.rate == pytest.approx(50)
    assert held.batch_time == pytest.approx(0.02)


def test_where_rows_cost_their_share_larger_batches_hold_no_more():
    held = held_by(batches((1, 0.005), (2, 0.01), (5, 0.025)))
    assert held.rate == pytest.approx(200)


def test_where_a_batch_costs_the_same_whatever_is_in_it_twice_its_rows_are_held():
    held = held_by(batches((2, 0.02), (4, 0.02)))
    assert held.rate == pytest.approx(2 * 3 / 0.02)


def test_a_batch_is_not_thought_of_larger_than_its_model_allows():
    held = held_by(batches((2, 0.02), (4, 0.02), max_batch=4))
    assert held.rate == pytest.approx(4 / 0.02)


def test_a_batch_is_not_thought_of_longer_than_requests_may_wait():
    # 10 ms and 10 more for each row: in 100 ms there are 9 rows, where 12 are within reach
    held = held_by(batches((4, 0.05), (8, 0.09)))
    assert held.rate == pytest.approx(9 / 0.1)


def test_batches_that_take_longer_than_requests_may_wait_count_as_they_are():
    held = held_by(batches((4, 0.5), (8, 0.9)))
    assert held.rate == pytest.approx(6 / 0.7)


@given(
    st.lists(st.tuples(st.integers(1, 1000), st.floats(1e-5, 10)), min_size=1, max_size=30),
    st.integers(1, 1000),
)
def test_a_worker_is_thought_to_hold_what_it_did_and_up_to_twice_that(each, max_batch):
    found = batches(*each, max_batch=max_batch)
    held = held_by(found)
    did = found.rows / found.seconds
    assert did * 0.999 <= held.rate <= 2.001 * did


def test_a_rate_is_what_came_in_the_last_seconds_alone():
    assert traffic([10] * 5 + [100] * 5).rate(1.0) == pytest.approx(100)
    assert traffic([10] * 5 + [100] * 5).rate(2.0) == pytest.approx(55)


def test_a_window_that_is_not_full_yet_counts_from_a_second_on():
    assert traffic([10]).rate(10.0) == pytest.approx(2)
    assert traffic([10] * 20).rate(10.0) == pytest.approx(10)


def test_what_is_older_than_it_is_kept_is_forgotten():
    seen = traffic([10] * 20)
    seen.add([], keep=1.0)
    assert len(list(seen.last(100))) == 5


def test_growth_is_a_trend():
    assert traffic([10 * n for n in range(50)]).slope(10.0) == pytest.approx(50, rel=0.02)


def test_a_step_is_none_and_neither_is_a_fall():
    assert traffic([10] * 25 + [100] * 25).slope(10.0) == 0
    assert traffic([500 - 10 * n for n in range(50)]).slope(10.0) == 0


def test_what_chance_alone_gives_is_no_trend():
    source = random.Random(1)
    found = [traffic([source.gauss(100, 30) for _ in range(50)]).slope(10.0) for _ in range(200)]
    assert sum(slope > 0 for slope in found) <= 2


def test_a_trend_needs_most_of_its_window():
    assert traffic([10 * n for n in range(40)]).slope(10.0) == 0
