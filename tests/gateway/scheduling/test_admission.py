"""pure: scheduling/admission.py, and a scheduler that is asked for much more than its worker can do."""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterator

import pytest

from common.errors import QueueFull
from common.tensor import vector_spec
from gateway.scheduling.admission import MARGIN, REMEMBERED, KnownRows, Pace
from gateway.scheduling.requests import Batch, ModelKey, Request
from gateway.scheduling.scheduler import Scheduler
from tests.gateway.scheduling.test_scheduler import OLD, make, submitted, taken

KEY = ModelKey("default", "1")
ROW_TIME, MAX_BATCH = 0.004, 16
CAPACITY = 1 / ROW_TIME
DEADLINE = 0.5


def request(
    admitted: float = 0.0, deadline: float = DEADLINE, *, rows: int = 1, route: int | None = None
) -> Request:
    return Request(
        KEY, vector_spec(1), (bytes(4 * rows),), rows,
        admitted=admitted, deadline=admitted + deadline, route=route, reply=lambda answer: None,
    )  # fmt: skip


class Server:
    """A worker that takes `ROW_TIME` for each row, one batch after the other, and knows rows again."""

    def __init__(self) -> None:
        self.scheduler = Scheduler(queue_max=10_000, max_batch=MAX_BATCH, worker_wait=5.0)
        self.scheduler.add_worker("w")
        self.known: set[int | None] = set()
        self.refused: list[Request] = []
        self.answered: list[tuple[Request, float]] = []
        self.idle_at = 0.0
        self._landing: list[tuple[float, int, Batch]] = []

    def ask(self, asked: Request) -> None:
        self.run_until(asked.admitted)
        try:
            self.scheduler.submit(asked)
        except QueueFull:
            self.refused.append(asked)
        self._take(asked.admitted)

    def run_until(self, now: float) -> None:
        """Have every batch that is done by then come back."""
        while self._landing and self._landing[0][0] <= now:
            at, _, batch = heapq.heappop(self._landing)
            self.scheduler.expire(at)
            for each in self.scheduler.finish(batch):
                self.answered.append((each, at))
                if each.route in self.known:
                    self.scheduler.known_rows.note(each)
                self.known.add(each.route)
            self._take(at)
        self.scheduler.expire(now)

    def _take(self, now: float) -> None:
        while batch := self.scheduler.take("w", now):
            cost = ROW_TIME * sum(
                each.route is None or each.route not in self.known for each in batch.requests
            )
            self.idle_at = max(self.idle_at, now) + cost
            heapq.heappush(self._landing, (self.idle_at, batch.id, batch))


def poisson(rate: float, begin: float, end: float, seed: int = 1) -> Iterator[float]:
    chance, now = random.Random(seed), begin
    while (now := now + chance.expovariate(rate)) < end:
        yield now


def in_time(server: Server, begin: float, end: float) -> list[float]:
    """What each took that was asked then and answered before its deadline."""
    found = [(each.admitted, at) for each, at in server.answered if begin <= each.admitted < end]
    return [at - admitted for admitted, at in found if at - admitted <= DEADLINE]


@pytest.mark.parametrize("times", [1.5, 4, 20])
def test_whoever_is_asked_for_too_much_answers_as_much_as_it_can_and_nobody_too_late(times: float):
    server = Server()
    asked = [request(at) for at in poisson(times * CAPACITY, 0.0, 20.0)]
    for each in asked:
        server.ask(each)
    server.run_until(30.0)
    settled = DEADLINE  # before that nobody could know how long a queue takes
    assert len(in_time(server, settled, 20.0)) >= 0.98 * (20 - settled) * CAPACITY
    ended = {*server.refused, *(each for each, at in server.answered if at <= each.deadline)}
    assert [each.admitted for each in asked if each.admitted > settled and each not in ended] == []


def test_half_of_what_it_can_is_never_turned_away():
    server = Server()
    for at in poisson(0.5 * CAPACITY, 0.0, 20.0):
        server.ask(request(at))
    assert server.refused == []


def test_it_is_back_to_normal_as_soon_as_the_overload_ends():
    server = Server()
    for at in [*poisson(4 * CAPACITY, 0.0, 10.0), *poisson(0.5 * CAPACITY, 10.0, 20.0)]:
        server.ask(request(at))
    server.run_until(30.0)
    assert [each.admitted for each in server.refused if each.admitted > 10 + DEADLINE] == []
    assert max(in_time(server, 11.0, 20.0)) < 0.2


def test_rows_that_a_cache_knows_are_answered_while_others_are_turned_away():
    server = Server()
    fresh = [(at, n + 100) for n, at in enumerate(poisson(4 * CAPACITY, 0.0, 20.0))]
    hot = [(at, n % 20) for n, at in enumerate(poisson(0.2 * CAPACITY, 0.0, 20.0, seed=2))]
    for at, route in sorted(fresh + hot):
        server.ask(request(at, route=route))
    server.run_until(30.0)
    hot_refused = [each for each in server.refused if each.route in range(20)]
    assert [each.admitted for each in hot_refused if each.admitted > 10] == []
    assert len(hot_refused) < 0.1 * len(hot)
    assert len(in_time(server, 5.0, 20.0)) >= 15 * CAPACITY


def test_a_request_with_time_is_admitted_where_one_in_a_hurry_is_not():
    server = Server()
    for at in poisson(4 * CAPACITY, 0.0, 5.0):
        server.ask(request(at))
    refused = len(server.refused)
    server.ask(request(5.0, 0.1))
    assert len(server.refused) == refused + 1
    server.ask(request(5.0, 5.0))
    assert len(server.refused) == refused + 1


def test_while_a_worker_is_started_whoever_has_time_for_it_is_not_turned_away():
    server = Server()
    server.scheduler.unrouted.is_worker_starting = True
    for at in poisson(4 * CAPACITY, 0.0, 5.0):
        server.ask(request(at))
    assert server.refused != []
    before = len(server.refused)
    for at in poisson(4 * CAPACITY, 5.0, 20.0):
        server.ask(request(at, 6.0))
    assert len(server.refused) == before


def test_pace_is_what_went_while_more_waited():
    pace = Pace()
    assert pace.time_for(100) == 0.0
    pace.left(8, 1.0, is_more=True)
    assert pace.time_for(100) == 0.0  # one batch tells nothing
    pace.left(8, 1.5, is_more=False)
    assert pace.time_for(16) == pytest.approx(1.0)
    pace.left(8, 9.0, is_more=True)  # nothing waited meanwhile: the pause was the clients'
    assert pace.time_for(16) == pytest.approx(1.0)


def test_pace_follows_what_is_so_now():
    pace = Pace()
    for n in range(100):
        pace.left(8, float(n), is_more=True)
    for n in range(1, 40):
        pace.left(8, 99 + n / 10, is_more=True)
    assert pace.time_for(8) == pytest.approx(0.1, rel=0.01)


def test_a_part_of_the_time_is_kept_back():
    pace = Pace()
    for n in range(3):
        pace.left(1, float(n), is_more=True)
    assert pace.is_enough(7, request(0.0, 8 / MARGIN + 0.001))
    assert not pace.is_enough(8, request(0.0, 8 / MARGIN + 0.001))


def test_the_last_rows_are_known_by_model_version_and_those_without_a_cache_never():
    known = KnownRows()
    known.note(request())
    assert request() not in known
    for route in range(REMEMBERED + 1):
        known.note(request(route=route))
    assert request(route=0) not in known
    assert request(route=1) in known
    known.note(request(route=1))
    known.note(request(route=-1))
    assert request(route=1) in known
    assert request(route=2) not in known
    assert (
        Request(
            ModelKey("default", "2"),
            (),
            (b"",),
            1,
            admitted=0,
            deadline=1,
            route=1,
            reply=lambda answer: None,
        )
        not in known
    )


def test_what_was_measured_of_a_version_goes_with_it() -> None:
    scheduler = make()
    scheduler.add_worker("w")
    submitted(scheduler, 1)
    scheduler.finish(taken(scheduler, "w"))
    assert list(scheduler._lanes["w"].paces) == [OLD]
    scheduler.forget(OLD, 2.0)
    assert not scheduler._lanes["w"].paces
