"""Pure: when all that waits goes as two batches instead of one (gateway/halving.py)."""

from __future__ import annotations

import pytest

from gateway.halving import PROBE, SLOW, Halving
from gateway.scheduler import Scheduler
from tests.gateway.test_scheduler import OLD, make, submitted, taken


def measured(costs: dict[int, float]) -> Halving:
    """What is known where batches of so many rows took so many seconds."""
    halving = Halving()
    for rows, seconds in costs.items():
        halving.note(rows, seconds)
    return halving


def test_a_row_that_costs_the_same_in_half_a_batch_travels_in_half_a_batch() -> None:
    halving = measured({8: 0.08, 16: 0.16})
    assert [halving.limit(16) for _ in range(PROBE - 1)] == [8] * (PROBE - 1)
    assert halving.limit(16) == 16  # now and then the other way, to see whether that still holds
    assert halving.limit(15) == 8
    assert halving.limit(9) == 9  # of five rows nothing is known


def test_a_device_that_takes_as_long_for_one_row_as_for_many_gets_them_all() -> None:
    halving = measured({8: 0.15, 16: 0.16})
    assert [halving.limit(16) for _ in range(PROBE - 1)] == [16] * (PROBE - 1)
    assert halving.limit(16) == 8


def test_what_has_never_been_tried_is_tried_and_then_known() -> None:
    halving = measured({16: 0.16})
    limits = [halving.limit(16) for _ in range(PROBE)]
    assert limits == [16] * (PROBE - 1) + [8]
    halving.note(8, 0.08)
    assert halving.limit(16) == 8
    for _ in range(20):
        halving.note(8, 0.16)  # the machine has changed
    assert halving.limit(16) == 16


@pytest.mark.parametrize("costs", [{}, {8: 0.08}, {8: SLOW / 4, 16: SLOW / 2}])
def test_quick_and_unknown_batches_stay_whole(costs: dict[int, float]) -> None:
    halving = measured(costs)
    assert [halving.limit(16) for _ in range(2 * PROBE)] == [16] * 2 * PROBE


def known(slots: int = 2) -> Scheduler:
    """A worker whose batches of OLD cost as much a row in halves."""
    scheduler = make(max_batch=32)
    scheduler.add_worker("w", slots=slots)
    for rows in (8, 16):
        (request,) = submitted(scheduler, rows)
        batch = taken(scheduler, "w")
        assert batch.requests == [request]
        scheduler.finish(batch)
        scheduler.learn(batch, rows / 100, 0, 1)
    return scheduler


def test_both_slots_have_a_batch_and_each_that_comes_back_is_followed_by_what_waits() -> None:
    scheduler = known()
    submitted(scheduler, *[1] * 16)
    first, second = taken(scheduler, "w"), taken(scheduler, "w")
    assert (first.rows, second.rows) == (8, 8)
    scheduler.finish(first)
    submitted(scheduler, *[1] * 12)
    assert taken(scheduler, "w").rows == 12  # there is one at the worker: it has something to do


def test_more_than_a_batch_and_a_worker_of_one_slot_are_taken_as_they_come() -> None:
    scheduler = known()
    submitted(scheduler, *[1] * 40)
    assert taken(scheduler, "w").rows == 32
    scheduler = known(slots=1)
    submitted(scheduler, *[1] * 16)
    assert taken(scheduler, "w").rows == 16


def test_hits_and_versions_that_are_gone_say_nothing() -> None:
    scheduler = known()
    scheduler.forget(OLD, 0.0)
    submitted(scheduler, *[1] * 16)
    batch = taken(scheduler, "w")
    assert batch.rows == 16
    scheduler.finish(batch)
    scheduler.learn(batch, 0.16, 3, 16)
    assert not scheduler._lanes["w"].halvings[OLD]._costs
