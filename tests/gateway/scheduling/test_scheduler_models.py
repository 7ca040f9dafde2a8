"""The scheduler with many models: who holds which, and each model's own limits (pure)."""

from __future__ import annotations

import math

import pytest

from common.errors import DeadlineExceeded, NoWorker, QueueFull
from common.tensor import vector_spec
from gateway.scheduling.queues import Limits
from gateway.scheduling.requests import ModelKey, Request
from gateway.scheduling.scheduler import Scheduler

IRIS, MNIST = ModelKey("iris", "1"), ModelKey("mnist", "1")


def make_scheduler(*workers: str, **limits: Limits) -> Scheduler:
    scheduler = Scheduler(queue_max=100, max_batch=8, worker_wait=5.0)
    scheduler.limits.update(limits)
    for worker in workers:
        scheduler.add_worker(worker)
    return scheduler


def ask(key: ModelKey, *, now: float = 0.0, rows: int = 1, route: int | None = None) -> Request:
    return Request(
        key, vector_spec(2), (bytes(8 * rows),), rows,
        admitted=now, deadline=now + 100, route=route, reply=lambda answer: None,
    )  # fmt: skip


def taken(scheduler: Scheduler, worker: str, now: float = 0.0) -> list[Request]:
    batch = scheduler.take(worker, now)
    return batch.requests if batch is not None else []


# --- who holds what


@pytest.mark.parametrize("route", [None, 0, 1, 2, 3])
def test_a_request_goes_to_a_worker_that_holds_its_version(route: int | None) -> None:
    scheduler = make_scheduler("a", "b", "c")
    scheduler.place(IRIS, ["b"], 0.0)
    assert scheduler.submit(ask(IRIS, route=route)) == "b"


def test_of_the_holders_the_least_busy_one_is_asked() -> None:
    scheduler = make_scheduler("a", "b", "c")
    scheduler.place(IRIS, ["b", "c"], 0.0)
    assert [scheduler.submit(ask(IRIS)) for _ in range(4)] == ["b", "c", "b", "c"]


def test_while_a_version_is_expected_somewhere_its_requests_wait_till_their_deadline() -> None:
    scheduler = make_scheduler("a")
    for key in (IRIS, MNIST):
        scheduler.place(key, [], 0.0)
    iris, mnist = ask(IRIS), ask(MNIST)
    assert [scheduler.submit(request) for request in (iris, mnist)] == [None, None]
    assert scheduler.unrouted.versions() == [IRIS, MNIST]
    with scheduler.unrouted.expecting([IRIS]):
        with scheduler.unrouted.expecting([IRIS]):
            expired = [(request, str(error)) for request, error in scheduler.expire(5.0)]
        assert expired == [(mnist, "No live worker")]
        assert scheduler.unrouted.is_expected(IRIS)  # there was another load
        assert scheduler.expire(90.0) == []
    assert not scheduler.unrouted.is_expected(IRIS)
    assert [request for request, _ in scheduler.expire(90.0)] == [iris]


def test_the_deadline_ends_also_what_is_expected() -> None:
    scheduler = make_scheduler("a")
    scheduler.place(IRIS, [], 0.0)
    scheduler.submit(ask(IRIS))
    with scheduler.unrouted.expecting([IRIS]):
        assert [type(error) for _, error in scheduler.expire(100.0)] == [DeadlineExceeded]


def test_who_waits_for_a_version_that_will_not_come_is_given_up_and_nobody_else() -> None:
    scheduler = make_scheduler("a")
    for key in (IRIS, MNIST):
        scheduler.place(key, [], 0.0)
    requests = [ask(key) for key in (IRIS, MNIST, IRIS)]
    for request in requests:
        scheduler.submit(request)
    assert scheduler.give_up(IRIS) == [requests[0], requests[2]]
    assert (scheduler.waiting, scheduler.unfinished, scheduler.live(IRIS)) == (1, 1, 0)
    assert scheduler.unrouted.versions() == [MNIST]
    assert scheduler.place(MNIST, ["a"], 1.0) == ["a"]
    assert taken(scheduler, "a") == [requests[1]]


def test_a_model_that_is_everywhere_is_not_disturbed_by_one_that_is_not() -> None:
    scheduler = make_scheduler("a", "b")
    scheduler.place(IRIS, ["b"], 0.0)
    for _ in range(3):
        scheduler.submit(ask(IRIS))
    assert [scheduler.submit(ask(MNIST)) for _ in range(3)] == ["a", "a", "a"]


def test_a_request_without_a_holder_waits_for_one() -> None:
    scheduler = make_scheduler("a", "b")
    scheduler.place(IRIS, [], 0.0)
    request = ask(IRIS)
    assert scheduler.submit(request) is None
    assert scheduler.place(IRIS, ["b"], 1.0) == ["b"]
    assert taken(scheduler, "b") == [request]


def test_a_request_that_waits_too_long_for_a_holder_is_told_so() -> None:
    scheduler = make_scheduler("a")
    scheduler.place(IRIS, [], 0.0)
    request = ask(IRIS, now=1.0)
    scheduler.submit(request)
    assert scheduler.expire(5.9) == []
    ((ended, error),) = scheduler.expire(6.0)
    assert ended is request
    assert isinstance(error, NoWorker)


def test_what_waits_for_a_worker_that_gives_a_version_up_moves_on() -> None:
    scheduler = make_scheduler("a", "b")
    scheduler.place(IRIS, ["a"], 0.0)
    iris, mnist = ask(IRIS), ask(MNIST, route=None)
    scheduler.submit(iris)
    scheduler.submit(ask(IRIS, rows=5))
    scheduler.submit(mnist)
    assert scheduler.place(IRIS, ["b"], 0.0) == ["b"]
    assert taken(scheduler, "a") == []
    assert taken(scheduler, "b")[0] is mnist
    assert iris in taken(scheduler, "b")


def test_what_is_in_flight_at_a_worker_that_gives_a_version_up_comes_back() -> None:
    scheduler = make_scheduler("a", "b")
    scheduler.place(IRIS, ["a"], 0.0)
    request = ask(IRIS)
    scheduler.submit(request)
    batch = scheduler.take("a", 0.0)
    assert batch is not None
    assert scheduler.place(IRIS, ["b"], 0.0) == []
    assert scheduler.finish(batch) == [request]
    assert scheduler.unfinished == 0


def test_when_its_only_holder_dies_a_request_waits_for_the_next() -> None:
    scheduler = make_scheduler("a", "b")
    scheduler.place(IRIS, ["a"], 0.0)
    request = ask(IRIS)
    scheduler.submit(request)
    scheduler.take("a", 0.0)
    assert scheduler.remove_worker("a", 1.0, strike=True) == ([], [])
    assert scheduler.place(IRIS, ["b"], 2.0) == ["b"]
    assert taken(scheduler, "b") == [request]


def test_a_version_that_is_everywhere_again_is_routed_to_everybody() -> None:
    scheduler = make_scheduler("a", "b")
    scheduler.place(IRIS, ["b"], 0.0)
    scheduler.place(IRIS, None, 0.0)
    assert scheduler.submit(ask(IRIS)) == "a"


# --- each model's limits


def test_a_batch_has_as_many_rows_as_its_model_allows() -> None:
    scheduler = make_scheduler("a", iris=Limits(max_batch=2))
    for _ in range(3):
        scheduler.submit(ask(IRIS))
    for _ in range(9):
        scheduler.submit(ask(MNIST))
    sizes = [len(taken(scheduler, "a")) for _ in range(2)]
    assert sorted(sizes) == [2, 8]


def test_a_model_has_a_queue_of_its_own_length() -> None:
    scheduler = make_scheduler("a", iris=Limits(max_batch=8, queue_max=1))
    scheduler.submit(ask(IRIS))
    with pytest.raises(QueueFull, match="Server is busy"):
        scheduler.submit(ask(IRIS))
    scheduler.submit(ask(MNIST))
    assert scheduler.waiting == 2


def test_what_is_taken_or_cancelled_makes_room_in_its_models_queue() -> None:
    scheduler = make_scheduler("a", iris=Limits(max_batch=8, queue_max=1))
    scheduler.submit(ask(IRIS))
    assert len(taken(scheduler, "a")) == 1
    second = ask(IRIS)
    scheduler.submit(second)
    scheduler.cancel(second)
    scheduler.submit(ask(IRIS))
    assert scheduler.waiting == 1


def test_a_model_may_wait_a_moment_for_a_fuller_batch() -> None:
    scheduler = make_scheduler("a", iris=Limits(max_batch=4, max_wait=0.01))
    first, second = ask(IRIS, now=1.0), ask(IRIS, now=1.005)
    scheduler.submit(first)
    assert taken(scheduler, "a", 1.001) == []
    assert scheduler.next_due("a", 1.001) == pytest.approx(1.01)
    scheduler.submit(second)
    assert taken(scheduler, "a", 1.01) == [first, second]


def test_a_full_batch_waits_for_nobody() -> None:
    scheduler = make_scheduler("a", iris=Limits(max_batch=4, max_wait=10.0))
    for _ in range(3):
        scheduler.submit(ask(IRIS))
    assert taken(scheduler, "a") == []
    scheduler.submit(ask(IRIS))
    assert len(taken(scheduler, "a")) == 4


def test_while_one_model_waits_for_company_another_is_served() -> None:
    scheduler = make_scheduler("a", iris=Limits(max_batch=4, max_wait=10.0))
    scheduler.submit(ask(IRIS))
    other = ask(MNIST)
    scheduler.submit(other)
    assert taken(scheduler, "a") == [other]


def test_nothing_is_due_where_nothing_waits_for_company() -> None:
    scheduler = make_scheduler("a")
    assert scheduler.next_due("a", 0.0) == math.inf
    scheduler.submit(ask(MNIST))
    assert scheduler.next_due("a", 0.0) == math.inf
    assert scheduler.next_due("nobody", 0.0) == math.inf
