"""Pure: how clients share a queue and its room, and what each may take; time is what the test says."""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import QueueFull, RateLimited, Unauthenticated
from common.tensor import vector_spec
from common.tokens import Token
from gateway.auth.clients import Client
from gateway.scheduling.fairness import FairQueue
from gateway.scheduling.requests import ModelKey, Request
from gateway.scheduling.scheduler import Scheduler

KEY = ModelKey("default", "1")


def client(name: str, **limits: object) -> Client:
    return Client(Token(id=name, role="predict", hash="", created=0.0, **limits))  # type: ignore[arg-type]


def request(by: Client | None, rows: int = 1, *, deadline: float = 30.0, key: ModelKey = KEY) -> Request:
    return Request(
        key, vector_spec(1), (bytes(4 * rows),), rows,
        admitted=0.0, deadline=deadline, route=None, reply=lambda answer: None, client=by,
    )  # fmt: skip


def first(queue: FairQueue) -> Request:
    found = next(iter(queue))
    queue.take_out(found)
    return found


def fair(queue_max: int = 10_000, max_batch: int = 1) -> Scheduler:
    scheduler = Scheduler(queue_max=queue_max, max_batch=max_batch, worker_wait=5.0)
    scheduler.new_queue = FairQueue
    scheduler.add_worker("w", slots=1)
    return scheduler


def served(scheduler: Scheduler) -> Request:
    batch = scheduler.take("w", 1.0)
    assert batch is not None
    (found,) = batch.requests
    scheduler.finish(batch)
    return found


def test_one_request_of_another_is_next_however_many_wait():
    a, b, queue = client("a"), client("b"), FairQueue()
    for _ in range(1000):
        queue.put(request(a))
    lone = request(b)
    queue.put(lone)
    assert lone in [first(queue), first(queue)]


def test_a_client_by_itself_is_served_in_its_order():
    a, queue = client("a"), FairQueue()
    asked = [request(a, rows) for rows in (5, 1, 3)]
    for each in asked:
        queue.put(each)
    assert list(queue) == asked
    assert list(reversed(queue)) == asked[::-1]
    assert [first(queue) for _ in asked] == asked
    assert not queue


@given(
    load=st.lists(st.tuples(st.sampled_from("aaab"), st.integers(1, 8), st.booleans()), max_size=200),
    flood=st.integers(0, 200),
)
def test_who_asks_little_waits_as_if_half_of_it_all_were_theirs(load, flood):
    """Of the rows that others are given before a request of b, there are no more than b's own up to it, and
    the largest two (Goyal, Vin and Cheng: two that wait are never further apart than that)."""
    clients = {"a": client("a"), "b": client("b")}
    queue, others, own = FairQueue(), 0, 0
    mine: deque[tuple[Request, int, int]] = deque()  # of b: others' rows when it came, b's rows up to it
    waiting_own = 0

    def take() -> None:
        nonlocal others, own, waiting_own
        found = first(queue)
        if found.client is clients["a"]:
            others += found.rows
            return
        asked, before, share = mine.popleft()
        assert asked is found
        waiting_own -= found.rows
        assert others - before <= share + 8 + 8

    for _ in range(flood):
        queue.put(request(clients["a"], 8))
    for name, rows, takes in load:
        asked = request(clients[name], rows)
        queue.put(asked)
        if name == "b":
            waiting_own += rows
            mine.append((asked, others, waiting_own))
        if takes and queue:
            take()
    while queue:
        take()
    assert not mine


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 4), st.sampled_from("qtc")), max_size=120))
def test_nothing_is_lost_or_given_twice_whoever_takes_what_back(steps):
    clients, queue = [client("a"), client("b"), None], FairQueue()
    inside: list[Request] = []
    for which, rows, step in steps:
        if step == "q":
            asked = request(clients[which], rows)
            queue.put(asked)
            inside.append(asked)
        elif step == "t" and queue:
            inside.remove(first(queue))
        elif inside:
            gone = inside.pop(which % len(inside))
            queue.take_out(gone)
            if which == 2:  # it comes back, as one that was routed anew
                queue.put(gone)
                inside.append(gone)
        assert sorted(map(id, queue)) == sorted(map(id, inside))
        assert len(queue) == len(inside)
        assert all(each in queue for each in inside)


def test_the_scheduler_serves_a_flood_and_a_trickle_in_turns():
    a, b, scheduler = client("a"), client("b"), fair()
    for _ in range(100):
        scheduler.submit(request(a))
    asked = [request(b) for _ in range(3)]
    for each in asked:
        scheduler.submit(each)
    order = [served(scheduler) for _ in range(7)]
    assert [each for each in order if each.client is b] == asked


def test_who_asks_for_everything_leaves_half_of_the_queue_to_others():
    a, b, scheduler = client("a"), client("b"), fair(queue_max=100)
    for n in range(50):  # of whichever model
        scheduler.submit(request(a, key=ModelKey(f"m{n % 2}", "1")))
    with pytest.raises(QueueFull, match="what is left of the queue is for others"):
        scheduler.submit(request(a))
    assert a.waiting == 50
    for _ in range(25):
        scheduler.submit(request(b))
    with pytest.raises(QueueFull):
        scheduler.submit(request(b))
    scheduler.submit(request(client("c")))


def test_what_a_client_has_in_progress_is_counted_until_it_is_over_whichever_way():
    a, scheduler = client("a"), fair(max_batch=2)
    asked = [request(a, deadline=5.0 if n == 3 else 30.0) for n in range(5)]
    for each in asked:
        scheduler.submit(each)
    assert (a.in_progress, a.waiting) == (5, 5)
    batch = scheduler.take("w", 1.0)
    assert batch is not None
    assert (a.in_progress, a.waiting) == (5, 3)
    scheduler.finish(batch)
    scheduler.cancel(asked[2])
    assert (a.in_progress, a.waiting) == (2, 2)
    scheduler.expire(6.0)
    scheduler.remove_worker("w", 6.0, strike=True)
    assert (a.in_progress, a.waiting) == (1, 1)
    scheduler.give_up(KEY)
    assert (a.in_progress, a.waiting, a.waiting_by_model) == (0, 0, {})


def test_a_rate_lets_a_second_of_it_through_at_once_and_then_one_after_the_other():
    a = client("a", requests_per_second=10.0)
    for _ in range(11):  # the last is paid for afterwards
        a.ask(100.0)
    with pytest.raises(RateLimited, match="this token may send 10 requests a second") as refused:
        a.ask(100.0)
    assert refused.value.retry_after == pytest.approx(0.1)
    a.ask(100.1 + 1e-9)
    for now in range(101, 200):
        for _ in range(10):
            a.ask(float(now) + 0.2)


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(1, 50)), max_size=200))
def test_no_pattern_gets_more_rows_than_the_rate_a_burst_and_one_request(steps):
    a, now, taken = client("a", rows_per_second=20.0), 50.0, 0
    for pause, rows in steps:
        now += pause
        try:
            a.predict(rows, now)
        except RateLimited as error:
            a_moment = now + error.retry_after + 1e-6
            assert a_moment > now
        else:
            taken += rows
    assert taken <= 20.0 * (now - 50.0 + 1.0) + 50


def test_a_request_larger_than_the_rate_goes_and_is_paid_for_afterwards():
    a = client("a", rows_per_second=2.0)
    a.predict(100, 10.0)
    with pytest.raises(RateLimited) as refused:
        a.predict(1, 11.0)
    assert refused.value.retry_after == pytest.approx(48.0)
    a.predict(1, 59.1)


def test_a_token_that_was_revoked_or_is_over_asks_no_more():
    a = client("a", expires=1000.0)
    a.check(999.9)
    with pytest.raises(Unauthenticated, match="has expired"):
        a.check(1000.0)
    a.revoke()
    with pytest.raises(Unauthenticated, match="was revoked"):
        a.check(1.0)


@given(
    waiting=st.lists(st.tuples(st.integers(0, 2), st.integers(1, 4)), max_size=60),
    own=st.integers(0, 2),
    rows=st.integers(1, 4),
)
def test_what_is_ahead_of_a_client_is_its_share_and_never_more_than_all(waiting, own, rows):
    clients, queue = [client("a"), client("b"), client("c")], FairQueue()
    for which, each in waiting:
        queue.put(request(clients[which], each))
    said = queue.ahead_of(asked := request(clients[own], rows))
    queue.put(asked)
    ahead = 0
    while (found := first(queue)) is not asked:
        ahead += found.rows
    assert said <= sum(each for _, each in waiting)
    assert ahead <= said + 2 * 4  # one request of each of the others may go before its turn is known


def test_a_known_row_goes_before_everybody():
    a, b, queue = client("a"), client("b"), FairQueue()
    for _ in range(3):
        queue.put(request(a))
    known = request(b)
    queue.put(known, first=True)
    assert next(iter(queue)) is known
    assert queue.rows == 4


def test_who_asks_little_is_not_turned_away_for_who_asks_much():
    a, b, scheduler = client("a"), client("b"), fair()
    for _ in range(2):
        scheduler.submit(request(a))
    while scheduler.take("w", 0.0) is not None:
        pass
    for now in (1.0, 2.0):  # a row a second
        for _ in range(3):
            scheduler.submit(request(a))
        (batch,) = scheduler._lanes["w"].flying.values()
        scheduler.finish(batch)
        assert scheduler.take("w", now) is not None
    with pytest.raises(QueueFull):
        scheduler.submit(request(a, deadline=5.0))
    scheduler.submit(request(b, deadline=5.0))


def test_a_token_has_so_many_predictions_in_progress_and_no_more():
    a, scheduler = client("a", concurrency=2), fair()
    for _ in range(2):
        a.predict(1, 0.0)
        scheduler.submit(request(a))
    with pytest.raises(RateLimited, match="may have 2 predictions in progress at once, and has them"):
        a.predict(1, 0.0)
    served(scheduler)
    a.predict(1, 0.0)
