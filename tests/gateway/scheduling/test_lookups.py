"""Pure: whose rows are looked up first (scheduling/lookups.py), and how the scheduler goes about it."""

from __future__ import annotations

from gateway.scheduling.lookups import SLOW, Lookups
from gateway.scheduling.requests import ModelKey, Request, Stage
from gateway.scheduling.scheduler import Scheduler
from tests.gateway.scheduling.test_scheduler import NEW, OLD, make, request, submitted, taken


def slow(scheduler: Scheduler) -> Scheduler:
    """One whose version OLD is slow, and has hits."""
    scheduler.lookups.note(OLD, 1.0, 1, 2)
    return scheduler


def looked_up(scheduler: Scheduler, *unknown: int, rows: tuple[int, ...] = (1, 2, 3)) -> list[Request]:
    """Requests of so many rows, of which a look-up knew all but those of these places."""
    requests = submitted(scheduler, *rows, route=7)
    batch = taken(scheduler, "w")
    assert (batch.is_lookup, batch.requests) == (True, requests)
    left = [requests[at] for at in unknown]
    known, woken = scheduler.look_further(batch, left)
    assert known == [each for each in requests if each not in left]
    assert woken == (["w"] if unknown else [])
    return left


def test_rows_are_looked_up_first_where_the_model_is_slow_and_the_cache_knows_some() -> None:
    lookups = Lookups()
    assert not lookups.are_wanted(OLD)
    lookups.note(OLD, SLOW, 1, 2)
    assert lookups.are_wanted(OLD)
    assert not lookups.are_wanted(NEW)
    lookups.note(OLD, 0.0, 4, 4)  # a batch that did not need the model says nothing of its time
    assert lookups.are_wanted(OLD)
    lookups.note(OLD, SLOW / 2, 4, 4)
    assert not lookups.are_wanted(OLD)


def test_a_cache_that_knows_next_to_nothing_is_asked_no_more_until_it_does() -> None:
    lookups = Lookups()
    lookups.note(OLD, 1.0, 0, 32)
    lookups.note(OLD, 0.0, 0, 0)
    assert not lookups.are_wanted(OLD)
    lookups.note(OLD, 1.0, 32, 32)
    assert lookups.are_wanted(OLD)
    for _ in range(10):
        lookups.note(OLD, 1.0, 0, 32)
    assert not lookups.are_wanted(OLD)


def test_versions_that_come_and_go_take_no_more_room() -> None:
    lookups = Lookups()
    for n in range(2001):
        lookups.note(ModelKey("m", str(n)), 1.0, 1, 1)
    assert lookups.are_wanted(ModelKey("m", "2000"))
    assert len(lookups._seen) == 1


def test_a_lookup_flies_beside_the_slots_and_what_is_unknown_waits_for_the_model() -> None:
    scheduler = make()
    scheduler.add_worker("w", slots=1)
    submitted(scheduler, 1, route=7)
    busy = taken(scheduler, "w")
    assert not busy.is_lookup
    slow(scheduler)
    left = looked_up(scheduler, 0, 2)
    assert [each.stage for each in left] == [Stage.WAITING] * 2
    assert (scheduler.live(OLD), scheduler.in_flight("w"), scheduler.waiting_rows) == (3, 1, 4)
    assert scheduler.take("w", 1.0) is None  # the one slot is full, and nothing is to be looked up
    scheduler.finish(busy)
    batch = taken(scheduler, "w")
    assert (batch.is_lookup, batch.requests) == (False, left)
    assert scheduler.finish(batch) == left
    assert scheduler.unfinished == 0


def test_there_is_one_lookup_at_a_time_and_the_next_has_all_that_came_meanwhile() -> None:
    scheduler = slow(make())
    scheduler.add_worker("w")
    submitted(scheduler, 1, route=7)
    first = taken(scheduler, "w")
    more = submitted(scheduler, 1, 1, route=7)
    assert scheduler.has_waiting("w")
    assert scheduler.take("w", 1.0) is None
    scheduler.look_further(first, [])
    assert taken(scheduler, "w").requests == more


def test_rows_that_no_worker_is_the_better_one_for_are_not_looked_up() -> None:
    scheduler = slow(make())
    scheduler.add_worker("w")
    submitted(scheduler, 1)
    assert not taken(scheduler, "w").is_lookup


def test_what_waits_for_a_lookup_can_be_cancelled_and_what_flies_in_one_too() -> None:
    scheduler = slow(make())
    scheduler.add_worker("w")
    one, two = submitted(scheduler, 1, 1, route=7)
    scheduler.cancel(one)
    batch = taken(scheduler, "w")
    assert batch.requests == [two]
    scheduler.cancel(two)
    assert scheduler.look_further(batch, [two]) == ([], [])
    assert (scheduler.unfinished, scheduler.waiting, scheduler.has_waiting("w")) == (0, 0, False)


def test_a_worker_that_goes_leaves_its_lookups_to_another() -> None:
    scheduler = slow(make())
    scheduler.add_worker("w")
    flies, waits = submitted(scheduler, 1, route=7)[0], request(route=7)
    batch = taken(scheduler, "w")
    scheduler.submit(waits)
    assert scheduler.add_worker("v") in ([], ["v"])
    poisoned, woken = scheduler.remove_worker("w", 1.0, strike=False)
    assert (poisoned, woken) == ([], ["v"])
    assert scheduler.look_further(batch, [flies]) == ([], [])
    again = taken(scheduler, "v")
    assert (again.is_lookup, set(again.requests)) == (True, {flies, waits})
