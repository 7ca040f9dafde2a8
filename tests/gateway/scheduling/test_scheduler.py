"""Pure: scheduling/scheduler.py, one rule of it after the other; time is a number that the test says."""

import math
from typing import Any

import pytest

from common.errors import DeadlineExceeded, NoWorker, PipelineError, Poisoned, QueueFull
from common.tensor import vector_spec
from gateway.scheduling.requests import Batch, ModelKey, Request, Stage
from gateway.scheduling.scheduler import Ending, Scheduler

OLD = ModelKey("default", "1")
NEW = ModelKey("default", "2")


def make(queue_max: int = 100, max_batch: int = 8, worker_wait: float = 5.0) -> Scheduler:
    return Scheduler(queue_max=queue_max, max_batch=max_batch, worker_wait=worker_wait)


def request(
    key: ModelKey = OLD,
    rows: int = 1,
    *,
    route: int | None = None,
    admitted: float = 0.0,
    deadline: float = 30.0,
) -> Request:
    return Request(
        key, vector_spec(1), (bytes(4 * rows),), rows,
        admitted=admitted, deadline=deadline, route=route, reply=lambda answer: None,
    )  # fmt: skip


def submitted(scheduler: Scheduler, *rows: int, **how: Any) -> list[Request]:
    requests = [request(rows=each, **how) for each in rows]
    for each in requests:
        scheduler.submit(each)
    return requests


def took(scheduler: Scheduler, worker: str, now: float = 1.0) -> list[Request]:
    return taken(scheduler, worker, now).requests


def taken(scheduler: Scheduler, worker: str, now: float = 1.0) -> Batch:
    batch = scheduler.take(worker, now)
    assert batch is not None
    return batch


def said(endings: list[Ending]) -> list[tuple[Request, type[PipelineError], str]]:
    return [(each, type(error), str(error)) for each, error in endings]


def late(*requests: Request) -> list[tuple[Request, type[PipelineError], str]]:
    return [(each, DeadlineExceeded, "Deadline exceeded") for each in requests]


def unserved(*requests: Request) -> list[tuple[Request, type[PipelineError], str]]:
    return [(each, NoWorker, "No live worker") for each in requests]


def poisoned(*requests: Request) -> list[tuple[Request, type[PipelineError], str]]:
    return [(each, Poisoned, "the request was on 2 workers as they died") for each in requests]


# --- the life of a request


def test_a_request_wakes_its_worker_flies_and_is_over_when_its_batch_is_back() -> None:
    scheduler = make()
    assert scheduler.add_worker("w") == []
    one = request()
    assert one.stage is Stage.NEW
    assert scheduler.submit(one) == "w"
    assert (one.stage, scheduler.waiting, scheduler.live(OLD)) == (Stage.WAITING, 1, 1)
    batch = taken(scheduler, "w", now=1.25)
    assert (batch.worker, batch.key, batch.requests, batch.rows, batch.alone) == ("w", OLD, [one], 1, False)
    assert (one.stage, one.sent, scheduler.waiting, scheduler.live(OLD)) == (Stage.FLYING, 1.25, 0, 1)
    assert scheduler.finish(batch) == [one]
    assert (one.stage, one.buffers, scheduler.live(OLD), scheduler.unfinished) == (Stage.OVER, (), 0, 0)
    assert scheduler.next_expiry(0.0) == math.inf


def test_a_request_that_comes_before_any_worker_wakes_nobody_and_waits_for_the_first() -> None:
    scheduler = make()
    one = request()
    assert scheduler.submit(one) is None
    assert scheduler.add_worker("w") == ["w"]
    assert took(scheduler, "w") == [one]


def test_a_batch_is_over_once() -> None:
    scheduler = make()
    scheduler.add_worker("w")
    submitted(scheduler, 1)
    batch = taken(scheduler, "w")
    assert len(scheduler.finish(batch)) == 1
    assert scheduler.finish(batch) == []
    assert scheduler.give_back(batch) == []
    assert scheduler.waiting == 0


def test_nothing_is_taken_where_nothing_waits_or_for_a_worker_that_is_not_there() -> None:
    scheduler = make()
    scheduler.add_worker("w")
    assert scheduler.take("w", 0.0) is None
    assert scheduler.take("who", 0.0) is None


# --- batches and slots


def test_everything_that_waits_for_a_version_goes_in_one_batch_in_its_order() -> None:
    scheduler = make(max_batch=8)
    scheduler.add_worker("w")
    requests = submitted(scheduler, 1, 3, 2)
    assert took(scheduler, "w") == requests
    assert scheduler.take("w", 1.0) is None


def test_a_batch_has_at_most_max_batch_rows_and_no_request_is_split() -> None:
    scheduler = make(max_batch=4)
    scheduler.add_worker("w", slots=3)
    a, b, c, d = submitted(scheduler, 3, 1, 3, 3)
    assert [took(scheduler, "w") for _ in range(3)] == [[a, b], [c], [d]]


def test_a_request_of_more_rows_than_max_batch_is_a_batch_of_its_own() -> None:
    scheduler = make(max_batch=4)
    scheduler.add_worker("w", slots=3)
    big, small = submitted(scheduler, 100, 1)
    assert [took(scheduler, "w") for _ in range(2)] == [[big], [small]]


def test_a_worker_has_as_many_batches_as_slots_and_gets_the_next_when_one_is_back() -> None:
    scheduler = make(max_batch=1)
    scheduler.add_worker("w", slots=2)
    a, b, c = submitted(scheduler, 1, 1, 1)
    first = taken(scheduler, "w")
    assert (first.requests, took(scheduler, "w")) == ([a], [b])
    assert scheduler.take("w", 1.0) is None
    assert scheduler.has_waiting("w")
    scheduler.finish(first)
    assert took(scheduler, "w") == [c]
    assert not scheduler.has_waiting("w")


def test_versions_share_no_batch_and_take_turns() -> None:
    scheduler = make(max_batch=2)
    scheduler.add_worker("w", slots=4)
    old = submitted(scheduler, 1, 1, 1, 1, key=OLD)
    new = submitted(scheduler, 1, 1, key=NEW)
    assert [took(scheduler, "w") for _ in range(3)] == [old[:2], new, old[2:]]


def test_rows_in_flight_are_those_of_the_batches_that_are_out() -> None:
    scheduler = make(max_batch=4)
    scheduler.add_worker("w")
    submitted(scheduler, 3, 3)
    assert scheduler.in_flight("w") == 0
    first = taken(scheduler, "w")
    taken(scheduler, "w")
    assert scheduler.in_flight("w") == 6
    scheduler.finish(first)
    assert scheduler.in_flight("w") == 3
    assert scheduler.in_flight("who") == 0


# --- which worker


def test_a_request_without_a_route_goes_to_the_worker_with_the_fewest_rows() -> None:
    scheduler = make()
    scheduler.add_worker("a")
    scheduler.add_worker("b")
    woken = [scheduler.submit(request(rows=rows)) for rows in (5, 2, 2, 1, 1)]
    assert woken == ["a", "b", "b", "b", "a"]


def test_rows_in_flight_count_as_load_until_they_are_back() -> None:
    scheduler = make()
    scheduler.add_worker("a")
    scheduler.add_worker("b")
    submitted(scheduler, 3, 2)
    batch = taken(scheduler, "a")
    assert scheduler.submit(request()) == "b"
    scheduler.finish(batch)
    assert scheduler.submit(request()) == "a"


def test_equal_routes_go_to_one_worker_until_it_is_twice_as_busy_as_the_mean() -> None:
    scheduler = make()
    for worker in ("a", "b", "c", "d"):
        scheduler.add_worker(worker)
    woken = [scheduler.submit(request(route=7)) for _ in range(7)]
    assert len(set(woken[:4])) == 1
    assert len(set(woken)) == 2


# --- a worker leaves in good order


def test_a_retired_worker_finishes_what_it_has_and_what_waited_goes_elsewhere() -> None:
    scheduler = make(max_batch=1)
    scheduler.add_worker("a", slots=1)
    flies, waits, *_ = submitted(scheduler, 1, 1, 1, 1)
    batch = taken(scheduler, "a")
    scheduler.add_worker("b", slots=4)
    assert scheduler.retire_worker("a", 1.0) == ["b"]
    assert scheduler.take("a", 1.0) is None
    assert scheduler.submit(request()) == "b"
    assert any(waits in took(scheduler, "b") for _ in range(3))
    assert scheduler.finish(batch) == [flies]


def test_a_worker_that_comes_takes_its_share_of_what_waits_and_the_oldest_stay() -> None:
    scheduler = make(max_batch=1)
    scheduler.add_worker("a", slots=1)
    requests = submitted(scheduler, *[1] * 9)
    batch = taken(scheduler, "a")
    assert scheduler.waiting_rows == 8
    assert scheduler.add_worker("b", slots=1) == ["b"]
    assert scheduler.add_worker("c", slots=1) == ["c"]
    assert (scheduler.waiting, scheduler.waiting_rows) == (8, 8)
    scheduler.finish(batch)
    there: dict[str, list[Request]] = {"a": [requests[0]], "b": [], "c": []}
    for worker, own in there.items():
        while (batch_ := scheduler.take(worker, 1.0)) is not None:
            own += scheduler.finish(batch_)
    assert [len(own) for own in there.values()] == [3, 3, 3]
    assert there["a"] == requests[:3]
    assert (scheduler.waiting, scheduler.waiting_rows) == (0, 0)


def test_rows_of_one_request_are_no_share() -> None:
    scheduler = make()
    scheduler.add_worker("a", slots=1)
    submitted(scheduler, 1, 10)
    taken(scheduler, "a")
    submitted(scheduler, 10)
    assert scheduler.add_worker("b") == ["b"]  # 10 of the 21
    assert scheduler.add_worker("c") == []  # one more would be too many


def test_a_worker_that_left_with_batches_out_gives_them_to_others_without_a_strike() -> None:
    scheduler = make()
    scheduler.add_worker("a")
    requests = submitted(scheduler, 1, 1)
    batch = taken(scheduler, "a")
    scheduler.add_worker("b")
    assert scheduler.remove_worker("a", 1.0, strike=False) == ([], ["b"])
    again = taken(scheduler, "b")
    assert (again.requests, again.alone) == (requests, False)
    assert [each.strikes for each in requests] == [0, 0]
    assert scheduler.finish(batch) == []
    assert scheduler.finish(again) == requests


@pytest.mark.parametrize("strike", [False, True])
def test_whoever_leaves_twice_or_was_never_there_changes_nothing(strike: bool) -> None:
    scheduler = make()
    scheduler.add_worker("a")
    scheduler.add_worker("b")
    submitted(scheduler, 1, 1)
    assert scheduler.retire_worker("a", 1.0) == ["b"]
    assert scheduler.retire_worker("a", 1.0) == []
    assert scheduler.retire_worker("who", 1.0) == []
    assert scheduler.remove_worker("a", 1.0, strike=strike) == ([], [])
    assert scheduler.remove_worker("a", 1.0, strike=strike) == ([], [])
    assert len(took(scheduler, "b")) == 2


def test_what_waited_for_the_last_worker_waits_for_the_next_one() -> None:
    scheduler = make()
    scheduler.add_worker("a")
    requests = submitted(scheduler, 1, 1)
    assert scheduler.retire_worker("a", 1.0) == []
    assert scheduler.waiting == 2
    assert scheduler.add_worker("b") == ["b"]
    assert took(scheduler, "b") == requests


def test_a_worker_may_come_back_under_its_name_and_its_old_batches_are_not_its_own() -> None:
    scheduler = make()
    scheduler.add_worker("w")
    (one,) = submitted(scheduler, 1)
    old = taken(scheduler, "w")
    scheduler.remove_worker("w", 1.0, strike=False)
    assert scheduler.add_worker("w") == ["w"]
    again = taken(scheduler, "w")
    assert (scheduler.finish(old), scheduler.give_back(old)) == ([], [])
    assert one.stage is Stage.FLYING
    assert scheduler.finish(again) == [one]


# --- a worker dies


def test_what_saw_a_worker_die_travels_alone_with_nothing_beside_it() -> None:
    scheduler = make()
    scheduler.add_worker("a")
    first, second = submitted(scheduler, 1, 1)
    taken(scheduler, "a")
    assert scheduler.remove_worker("a", 1.0, strike=True) == ([], [])
    scheduler.add_worker("b", slots=3)
    (fresh,) = submitted(scheduler, 1)
    alone = taken(scheduler, "b")
    assert (alone.requests, alone.alone) == ([first], True)
    assert scheduler.take("b", 1.0) is None
    assert scheduler.finish(alone) == [first]
    assert took(scheduler, "b") == [second]
    assert scheduler.take("b", 1.0) is None
    assert fresh.stage is Stage.WAITING


def test_what_saw_a_worker_die_waits_until_its_next_worker_has_nothing_else() -> None:
    scheduler = make()
    scheduler.add_worker("a")
    (struck,) = submitted(scheduler, 1)
    taken(scheduler, "a")
    scheduler.add_worker("b")
    (other,) = submitted(scheduler, 1)
    busy = taken(scheduler, "b")
    scheduler.remove_worker("a", 1.0, strike=True)
    (later,) = submitted(scheduler, 1)
    assert scheduler.take("b", 1.0) is None  # not even the fresh one: it would never be alone
    assert scheduler.finish(busy) == [other]
    alone = taken(scheduler, "b")
    assert alone.requests == [struck]
    scheduler.finish(alone)
    assert took(scheduler, "b") == [later]


def test_what_only_waited_as_its_worker_died_has_no_strike() -> None:
    scheduler = make(max_batch=1)
    scheduler.add_worker("a", slots=1)
    flew, waited = submitted(scheduler, 1, 1)
    taken(scheduler, "a")
    scheduler.remove_worker("a", 1.0, strike=True)
    assert (flew.strikes, waited.strikes) == (1, 0)


def test_a_request_that_was_on_two_workers_as_they_died_is_not_sent_to_a_third() -> None:
    scheduler = make()
    scheduler.add_worker("a")
    deadly, innocent = submitted(scheduler, 1, 1)
    taken(scheduler, "a")
    scheduler.remove_worker("a", 1.0, strike=True)
    scheduler.add_worker("b")
    assert took(scheduler, "b") == [deadly]
    endings, woken = scheduler.remove_worker("b", 2.0, strike=True)
    assert said(endings) == poisoned(deadly)
    assert woken == []
    scheduler.add_worker("c")
    alone = taken(scheduler, "c")
    assert (alone.requests, alone.alone) == ([innocent], True)
    assert scheduler.finish(alone) == [innocent]
    assert scheduler.unfinished == 0


@pytest.mark.parametrize("route", [None, *range(8)])
def test_what_was_lost_with_a_worker_is_given_to_it_again_only_where_there_is_no_other(
    route: int | None,
) -> None:
    scheduler = make()
    scheduler.add_worker("a")
    (struck,) = submitted(scheduler, 1, route=route)
    taken(scheduler, "a")
    for worker in ("b", "c"):
        scheduler.add_worker(worker)
    scheduler.remove_worker("a", 1.0, strike=True)
    submitted(scheduler, *[1] * 8, key=NEW)
    scheduler.add_worker("a")
    second = struck.worker
    assert second in ("b", "c")
    scheduler.remove_worker(second, 2.0, strike=False)
    third = struck.worker
    assert third in {"b", "c"} - {second}  # and not the one that is back, and the least busy
    scheduler.remove_worker(third, 3.0, strike=False)
    assert struck.worker == "a"


def test_a_strike_is_kept_when_its_next_worker_leaves_in_good_order() -> None:
    scheduler = make()
    scheduler.add_worker("a")
    (struck,) = submitted(scheduler, 1)
    taken(scheduler, "a")
    scheduler.remove_worker("a", 1.0, strike=True)
    scheduler.add_worker("b")
    taken(scheduler, "b")
    assert scheduler.remove_worker("b", 1.0, strike=False) == ([], [])
    scheduler.add_worker("c")
    alone = taken(scheduler, "c")
    assert (alone.requests, alone.alone, struck.strikes) == ([struck], True, 1)


# --- a batch that never ran


def test_a_batch_given_back_waits_again_without_a_strike() -> None:
    scheduler = make()
    scheduler.add_worker("w", slots=1)
    requests = submitted(scheduler, 1, 1)
    assert scheduler.give_back(taken(scheduler, "w")) == ["w"]
    assert (scheduler.waiting, scheduler.in_flight("w")) == (2, 0)
    again = taken(scheduler, "w")
    assert (again.requests, again.alone) == (requests, False)


def test_a_batch_given_back_by_a_worker_that_retires_goes_to_another() -> None:
    scheduler = make()
    scheduler.add_worker("a")
    requests = submitted(scheduler, 1, 1)
    batch = taken(scheduler, "a")
    scheduler.add_worker("b")
    scheduler.retire_worker("a", 1.0)
    assert scheduler.give_back(batch) == ["b"]
    assert took(scheduler, "b") == requests


def test_a_request_that_travelled_alone_is_alone_again_when_given_back() -> None:
    scheduler = make()
    scheduler.add_worker("a")
    submitted(scheduler, 1, 1)
    taken(scheduler, "a")
    scheduler.remove_worker("a", 1.0, strike=True)
    scheduler.add_worker("b")
    scheduler.give_back(taken(scheduler, "b"))
    assert taken(scheduler, "b").alone


def test_who_gave_up_meanwhile_is_not_queued_again() -> None:
    scheduler = make()
    scheduler.add_worker("w")
    gone, stays = submitted(scheduler, 1, 1)
    batch = taken(scheduler, "w")
    scheduler.cancel(gone)
    scheduler.give_back(batch)
    assert took(scheduler, "w") == [stays]


# --- deadlines


def test_a_request_past_its_deadline_is_ended_in_the_queue_and_never_run() -> None:
    scheduler = make()
    scheduler.add_worker("w")
    (soon,) = submitted(scheduler, 1, deadline=2.0)
    (later,) = submitted(scheduler, 1, deadline=3.0)
    assert scheduler.expire(1.99) == []
    assert said(scheduler.expire(2.0)) == late(soon)
    assert scheduler.expire(2.0) == []
    assert took(scheduler, "w") == [later]


def test_a_request_past_its_deadline_in_a_batch_keeps_the_slot_and_is_answered_once() -> None:
    scheduler = make()
    scheduler.add_worker("w", slots=1)
    (soon,) = submitted(scheduler, 1, deadline=2.0)
    (later,) = submitted(scheduler, 1, deadline=9.0)
    batch = taken(scheduler, "w")
    assert said(scheduler.expire(2.0)) == late(soon)
    submitted(scheduler, 1)
    assert scheduler.take("w", 2.0) is None
    assert scheduler.in_flight("w") == 2
    assert scheduler.finish(batch) == [later]
    assert scheduler.take("w", 2.0) is not None


def test_a_request_past_its_deadline_is_not_moved_to_another_worker() -> None:
    scheduler = make()
    scheduler.add_worker("a")
    (one,) = submitted(scheduler, 1, deadline=2.0)
    taken(scheduler, "a")
    assert said(scheduler.expire(2.0)) == late(one)
    assert scheduler.remove_worker("a", 2.0, strike=True) == ([], [])
    assert scheduler.unfinished == 0


def test_a_request_that_found_no_worker_within_its_deadline_is_told_so() -> None:
    scheduler = make(worker_wait=5.0)
    (one,) = submitted(scheduler, 1, deadline=2.0)
    assert said(scheduler.expire(2.0)) == unserved(one)
    assert scheduler.unfinished == 0


def test_a_request_waits_worker_wait_for_any_worker_from_when_it_came() -> None:
    scheduler = make(worker_wait=5.0)
    (early,) = submitted(scheduler, 1, admitted=10.0)
    (later,) = submitted(scheduler, 1, admitted=12.0)
    assert scheduler.expire(14.9) == []
    assert said(scheduler.expire(15.0)) == unserved(early)
    assert said(scheduler.expire(17.0)) == unserved(later)
    assert scheduler.waiting == 0


@pytest.mark.parametrize("leaves", ["retires", "goes", "dies"])
def test_a_request_waits_worker_wait_from_when_the_last_worker_left(leaves: str) -> None:
    scheduler = make(worker_wait=5.0)
    scheduler.add_worker("w")
    (one,) = submitted(scheduler, 1, admitted=1.0)
    if leaves == "retires":
        scheduler.retire_worker("w", 10.0)
        scheduler.remove_worker("w", 12.0, strike=False)  # it had left already
    else:
        scheduler.remove_worker("w", 10.0, strike=leaves == "dies")
    assert scheduler.expire(14.9) == []
    assert said(scheduler.expire(15.0)) == unserved(one)


def test_while_there_is_a_worker_requests_wait_for_it_until_their_deadline() -> None:
    scheduler = make(worker_wait=5.0)
    submitted(scheduler, 1, deadline=30.0)
    scheduler.add_worker("w")
    assert scheduler.expire(29.0) == []
    scheduler.remove_worker("w", 29.0, strike=False)
    scheduler.add_worker("w")
    assert scheduler.expire(29.9) == []


# --- a client goes


def test_cancelled_in_the_queue_it_is_never_run() -> None:
    scheduler = make()
    scheduler.add_worker("w")
    gone, stays = submitted(scheduler, 1, 1)
    scheduler.cancel(gone)
    assert (gone.stage, scheduler.waiting, scheduler.live(OLD)) == (Stage.OVER, 1, 1)
    assert took(scheduler, "w") == [stays]


def test_the_last_one_cancelled_leaves_nothing_to_take() -> None:
    scheduler = make()
    scheduler.add_worker("w")
    (gone,) = submitted(scheduler, 1)
    scheduler.cancel(gone)
    assert not scheduler.has_waiting("w")
    assert scheduler.take("w", 1.0) is None
    assert scheduler.next_expiry(0.0) == math.inf


def test_cancelled_before_there_was_a_worker_it_waits_for_none() -> None:
    scheduler = make()
    (gone,) = submitted(scheduler, 1)
    scheduler.cancel(gone)
    assert scheduler.add_worker("w") == []
    assert scheduler.unfinished == 0


def test_cancelled_in_a_batch_the_slot_is_kept_until_the_batch_is_back() -> None:
    scheduler = make()
    scheduler.add_worker("w", slots=1)
    gone, stays = submitted(scheduler, 1, 1)
    batch = taken(scheduler, "w")
    scheduler.cancel(gone)
    assert (scheduler.live(OLD), scheduler.in_flight("w")) == (1, 2)
    assert scheduler.finish(batch) == [stays]
    assert scheduler.in_flight("w") == 0


def test_cancelled_in_a_batch_it_is_not_sent_again_when_the_worker_dies() -> None:
    scheduler = make()
    scheduler.add_worker("w")
    gone, stays = submitted(scheduler, 1, 1)
    taken(scheduler, "w")
    scheduler.cancel(gone)
    scheduler.remove_worker("w", 1.0, strike=True)
    assert (gone.strikes, stays.strikes, scheduler.waiting) == (0, 1, 1)


def test_cancelled_while_it_waits_to_travel_alone_it_lets_the_others_go() -> None:
    scheduler = make()
    scheduler.add_worker("a")
    (struck,) = submitted(scheduler, 1)
    taken(scheduler, "a")
    scheduler.remove_worker("a", 1.0, strike=True)
    scheduler.add_worker("b")
    (other,) = submitted(scheduler, 1)
    scheduler.cancel(struck)
    assert took(scheduler, "b") == [other]


def test_cancelled_after_its_end_or_twice_nothing_changes() -> None:
    scheduler = make()
    scheduler.add_worker("w")
    over, stays = submitted(scheduler, 1, 1)
    scheduler.cancel(over)
    scheduler.cancel(over)
    assert (scheduler.waiting, scheduler.live(OLD)) == (1, 1)
    assert scheduler.finish(taken(scheduler, "w")) == [stays]
    scheduler.cancel(stays)
    assert scheduler.unfinished == 0


# --- the queue's limit


def test_a_full_queue_refuses_and_knows_nothing_of_whom_it_refused() -> None:
    scheduler = make(queue_max=2)
    submitted(scheduler, 1, 1)
    refused = request(key=NEW)
    with pytest.raises(QueueFull, match=r"^Server is busy$"):
        scheduler.submit(refused)
    assert (refused.stage, scheduler.waiting, scheduler.live(NEW)) == (Stage.NEW, 2, 0)
    scheduler.cancel(refused)
    assert (scheduler.waiting, scheduler.unfinished) == (2, 2)


def test_what_flies_does_not_count_as_waiting() -> None:
    scheduler = make(queue_max=1)
    scheduler.add_worker("w")
    submitted(scheduler, 1)
    taken(scheduler, "w")
    submitted(scheduler, 1)
    with pytest.raises(QueueFull):
        scheduler.submit(request())


def test_whoever_gives_up_makes_room() -> None:
    scheduler = make(queue_max=1)
    (gone,) = submitted(scheduler, 1)
    scheduler.cancel(gone)
    (expired,) = submitted(scheduler, 1, deadline=1.0)
    assert said(scheduler.expire(1.0)) == unserved(expired)
    assert len(submitted(scheduler, 1)) == 1


def test_what_a_worker_gives_back_is_queued_even_where_the_queue_is_full() -> None:
    scheduler = make(queue_max=1)
    scheduler.add_worker("a")
    (flew,) = submitted(scheduler, 1)
    batch = taken(scheduler, "a")
    (waits,) = submitted(scheduler, 1)
    assert scheduler.give_back(batch) == ["a"]
    assert scheduler.waiting == 2
    assert took(scheduler, "a") == [waits, flew]


# --- what others ask


def test_requests_of_each_version_are_counted_until_they_are_over() -> None:
    scheduler = make()
    scheduler.add_worker("w")
    submitted(scheduler, 1, 1, key=OLD)
    submitted(scheduler, 1, key=NEW)
    assert (scheduler.live(OLD), scheduler.live(NEW), scheduler.unfinished) == (2, 1, 3)
    batch = taken(scheduler, "w")
    assert (scheduler.live(OLD), scheduler.unfinished) == (2, 3)
    scheduler.finish(batch)
    assert (scheduler.live(OLD), scheduler.live(NEW), scheduler.unfinished) == (0, 1, 1)
