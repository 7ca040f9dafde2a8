"""Pure: scheduling/scheduler.py under anything that doors, batch loops and the fleet may do, in any order.

The machine is the scheduler's caller: it answers whom it is told to answer, and keeps its own count of
everything. What it cannot see from outside it reads from the scheduler's own books.
"""

from __future__ import annotations

import math
from collections import Counter

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from common.errors import DeadlineExceeded, NoWorker, PipelineError, Poisoned, QueueFull
from common.tensor import vector_spec
from gateway.scheduling.deadlines import TICK
from gateway.scheduling.lookups import LOOKUP_ROWS
from gateway.scheduling.requests import Batch, ModelKey, Request, Stage
from gateway.scheduling.scheduler import Scheduler

KEYS = [ModelKey("default", "1"), ModelKey("default", "2"), ModelKey("other", "1")]
WORKERS = ["a", "b", "c", "d"]
WORKER_WAIT = 3.0

keys = st.sampled_from(KEYS)
rows = st.integers(1, 5)
routes = st.none() | st.integers(0, 5)
timeouts = st.floats(0.1, 10)
pick = st.integers(0, 2**16)  # one of what there is, whatever there is then


class AnyOrder(RuleBasedStateMachine):
    """Workers die of anything at all."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.requests: list[Request] = []  # all that were admitted
        self.answers: dict[Request, list[PipelineError | None]] = {}
        self.cancelled: set[Request] = set()
        self.deadly: set[Request] = set()
        self.deaths: Counter[Request] = Counter()  # workers that died while they had it
        self.ready: set[str] = set()
        self.retired: set[str] = set()
        self.left = 0.0  # when a worker that took requests went, or gave a version up
        self.holders: dict[ModelKey, set[str]] = {}  # of versions that not everybody has
        self.out: dict[str, list[Batch]] = {}  # batches at each worker that is still there
        self.lost: list[Batch] = []  # batches whose worker is not
        self.awake: set[str] = set()  # workers with a batch loop that is going to look again

    @initialize(queue_max=st.integers(1, 30), max_batch=st.integers(1, 9), workers=st.integers(0, 3))
    def open(self, queue_max: int, max_batch: int, workers: int) -> None:
        self.scheduler = Scheduler(queue_max=queue_max, max_batch=max_batch, worker_wait=WORKER_WAIT)
        for worker in WORKERS[:workers]:
            self.bring_in(worker, slots=2)

    # --- doors

    @rule(key=keys, rows=st.lists(rows, min_size=1, max_size=8), route=routes, timeout=timeouts, deadly=pick)
    def submit(self, key: ModelKey, rows: list[int], route: int | None, timeout: float, deadly: int) -> None:
        for n, each in enumerate(rows):
            self.submit_one(key, each, route, timeout, deadly=deadly % 20 == n)

    def submit_one(
        self, key: ModelKey, rows: int, route: int | None, timeout: float, *, deadly: bool
    ) -> None:
        request = Request(
            key, vector_spec(1), (b"",), rows, admitted=self.now, deadline=self.now + timeout, route=route,
            reply=lambda answer: None,
        )  # fmt: skip
        if self.scheduler.waiting >= self.scheduler.queue_max:
            with pytest.raises(QueueFull):
                self.scheduler.submit(request)
            self.scheduler.cancel(request)
            assert request.stage is Stage.NEW
            return
        chosen = self.scheduler._loads.choose(request)
        if chosen is not None and not self.scheduler._lanes[chosen].has_time_for(request):
            # Its deadline would pass in the queue: only a row that a cache is thought to know may go ahead.
            try:
                woken = self.scheduler.submit(request)
            except QueueFull:
                self.scheduler.cancel(request)
                assert request.stage is Stage.NEW
                return
            assert request in self.scheduler.known_rows
        else:
            woken = self.scheduler.submit(request)
        self.requests.append(request)
        self.answers[request] = []
        if deadly:
            self.deadly.add(request)
        assert (woken is None) is (not self.able(key))
        if woken is not None:
            self.wake([woken])

    @precondition(lambda self: self.requests)
    @rule(n=pick)
    def cancel(self, n: int) -> None:
        request = self.requests[n % len(self.requests)]
        if request.stage is not Stage.OVER:
            self.cancelled.add(request)
        self.scheduler.cancel(request)

    # --- batch loops

    @precondition(lambda self: self.out)
    @rule(n=pick)
    def take(self, n: int) -> None:
        self.look(sorted(self.out)[n % len(self.out)])

    @precondition(lambda self: self.out)
    @rule()
    def take_all(self) -> None:
        for worker in sorted(self.out):
            while self.look(worker):
                pass

    @rule(key=keys, infer=st.sampled_from([0.0, 0.001, 1.0]), hits=st.integers(0, 4))
    def learn(self, key: ModelKey, infer: float, hits: int) -> None:
        """From now on a version's rows are looked up first, or not."""
        self.scheduler.lookups.note(key, infer, hits, 4)

    def look(self, worker: str) -> Batch | None:
        batch = self.scheduler.take(worker, self.now)
        if batch is None:
            self.awake.discard(worker)
            return None
        assert batch.worker == worker in self.ready
        assert {request.key for request in batch.requests} == {batch.key}
        most = LOOKUP_ROWS if batch.is_lookup else self.scheduler.default.max_batch
        assert batch.rows <= most or len(batch.requests) == 1
        assert all(request.sent == self.now for request in batch.requests)
        self.out[worker].append(batch)
        self.awake.add(worker)  # whoever took one looks again, or wakes another to look
        return batch

    @precondition(lambda self: any(self.out.values()))
    @rule(n=pick)
    def come_back(self, n: int) -> None:
        batches = [batch for worker in sorted(self.out) for batch in self.out[worker]]
        self.bring_back(batches[n % len(batches)])

    def bring_back(self, batch: Batch) -> None:
        """The batch's answer comes, or its worker dies of it."""
        if not (batch.is_lookup or self.deadly.isdisjoint(batch.requests)):
            self.remove(batch.worker, strike=True)
            return
        self.out[batch.worker].remove(batch)
        wanted = [request for request in batch.requests if request.stage is not Stage.OVER]
        if batch.is_lookup:
            unknown = [request for request in wanted if request.rows % 2]
            wanted = [request for request in wanted if not request.rows % 2]
            known, woken = self.scheduler.look_further(batch, unknown)
            assert known == wanted
            self.wake(woken)
        else:
            assert self.scheduler.finish(batch) == wanted
        for request in wanted:
            self.answers[request].append(None)
        self.awake.add(batch.worker)

    @precondition(lambda self: any(self.out.values()))
    @rule(n=pick)
    def give_back(self, n: int) -> None:
        batches = [batch for worker in sorted(self.out) for batch in self.out[worker]]
        batch = batches[n % len(batches)]
        self.out[batch.worker].remove(batch)
        self.wake(self.scheduler.give_back(batch))
        self.awake.add(batch.worker)

    @precondition(lambda self: self.lost)
    @rule(n=pick, again=st.booleans())
    def come_back_from_nowhere(self, n: int, again: bool) -> None:
        batch = self.lost[n % len(self.lost)]
        assert (self.scheduler.give_back(batch) if again else self.scheduler.finish(batch)) == []
        assert self.scheduler.look_further(batch, batch.requests) == ([], [])

    # --- the fleet

    @precondition(lambda self: len(self.out) < len(WORKERS))
    @rule(n=pick, slots=st.integers(1, 4))
    def add(self, n: int, slots: int) -> None:
        free = [worker for worker in WORKERS if worker not in self.out]
        worker = free[n % len(free)]
        self.bring_in(worker, slots)

    def bring_in(self, worker: str, slots: int) -> None:
        self.ready.add(worker)
        self.out[worker] = []
        self.wake(self.scheduler.add_worker(worker, slots=slots))
        self.awake.add(worker)

    @precondition(lambda self: self.out)
    @rule(n=pick)
    def go(self, n: int) -> None:
        """A worker retires, or leaves: mostly one that has retired."""
        worker = sorted(self.out)[n % len(self.out)]
        if worker in self.retired or n % 5 == 0:
            self.remove(worker, strike=False)
        else:
            self.close_to_new(worker)
            self.retired.add(worker)
            self.wake(self.scheduler.retire_worker(worker, self.now))

    @precondition(lambda self: any(self.out.values()))
    @rule(n=pick)
    def die(self, n: int) -> None:
        busy = sorted(worker for worker, batches in self.out.items() if batches)
        self.remove(busy[n % len(busy)], strike=True)

    def remove(self, worker: str, *, strike: bool) -> None:
        self.close_to_new(worker)
        self.retired.discard(worker)
        self.awake.discard(worker)
        batches = self.out.pop(worker)
        self.lost += batches
        if strike:
            self.deaths.update(
                request for batch in batches for request in batch.requests if request.stage is Stage.FLYING
            )
        poisoned, woken = self.scheduler.remove_worker(worker, self.now, strike=strike)
        for request, error in poisoned:
            assert type(error) is Poisoned
            self.answers[request].append(error)
        self.wake(woken)

    def close_to_new(self, worker: str) -> None:
        if worker in self.ready:
            self.left = self.now
        self.ready.discard(worker)

    @rule(key=keys, workers=st.none() | st.sets(st.sampled_from(WORKERS)))
    def place(self, key: ModelKey, workers: set[str] | None) -> None:
        before = self.holders.get(key)
        if workers is not None and (before is None or not before <= workers):
            self.left = self.now
        if workers is None:
            self.holders.pop(key, None)
        else:
            self.holders[key] = workers
        self.wake(self.scheduler.place(key, workers, self.now))

    def able(self, key: ModelKey) -> set[str]:
        """The workers that take requests of this version."""
        return self.ready & self.holders.get(key, self.ready)

    def wake(self, workers: list[str]) -> None:
        assert set(workers) <= self.ready
        self.awake.update(workers)

    # --- time

    @rule(seconds=st.floats(0, 2))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        unrouted = {request for request in self.requests if self.is_unrouted(request)}
        for request, error in self.scheduler.expire(self.now):
            self.answers[request].append(error)
            assert type(error) is (NoWorker if request in unrouted else DeadlineExceeded)
            assert request.deadline <= self.now or (request in unrouted and self.is_hopeless(request))
        for request in self.live():
            assert request.deadline > self.now - TICK
            assert not (self.is_unrouted(request) and self.is_hopeless(request))

    def is_hopeless(self, request: Request) -> bool:
        return self.now - max(request.admitted, self.left) >= WORKER_WAIT

    def is_unrouted(self, request: Request) -> bool:
        return request.stage is Stage.WAITING and request.worker is None

    # --- what always holds

    def live(self) -> list[Request]:
        return [request for request in self.requests if request.stage is not Stage.OVER]

    @invariant()
    def a_request_is_in_one_place_at_a_time(self) -> None:
        books = self.scheduler
        places: Counter[Request] = Counter(list(books.unrouted))
        for name, lane in books._lanes.items():
            assert all(r.route is not None for queue in lane.lookups.values() for r in queue)
            for key, queue in [*lane.queues.items(), *lane.lookups.items()]:
                assert queue, "an empty queue would be taken from"
                assert all((r.key, r.worker, r.strikes) == (key, name, 0) for r in queue)
                places.update(list(queue))
            assert all(r.worker == name and r.strikes for r in lane.struck)
            places.update(list(lane.struck))
        waiting = [request for request in self.requests if request.stage is Stage.WAITING]
        assert places == Counter(waiting)
        assert books.waiting == len(waiting)
        flying = Counter(
            request for batches in self.out.values() for batch in batches for request in batch.wanted()
        )
        assert flying == Counter(request for request in self.requests if request.stage is Stage.FLYING)

    @invariant()
    def a_request_waits_for_a_worker_that_holds_its_version_or_for_one_to_come(self) -> None:
        for request in self.requests:
            if request.stage is Stage.WAITING:
                able = self.able(request.key)
                assert request.worker in able if able else request.worker is None

    @invariant()
    def the_counters_say_what_is_there(self) -> None:
        books, live = self.scheduler, self.live()
        assert books.unfinished == len(live)
        for key in KEYS:
            assert books.live(key) == sum(request.key == key for request in live)
        assert (books.next_expiry(self.now) < math.inf) is bool(live)
        for worker, batches in self.out.items():
            assert books.in_flight(worker) == sum(batch.rows for batch in batches)
        assert books._loads.rows == {
            worker: books.in_flight(worker)
            + sum(r.rows for r in live if r.stage is Stage.WAITING and r.worker == worker)
            for worker in self.ready
        }
        assert books._loads.total == sum(books._loads.rows.values())

    @invariant()
    def slots_are_as_full_as_batches_are_out(self) -> None:
        assert self.scheduler._lanes.keys() == self.out.keys()
        for worker, batches in self.out.items():
            assert list(self.scheduler._lanes[worker].flying.values()) == batches
            lookups = [batch for batch in batches if batch.is_lookup]
            assert lookups in ([], [self.scheduler._lanes[worker].lookup])
            assert len(batches) - len(lookups) <= self.scheduler._lanes[worker].slots
            assert worker not in self.retired or not self.scheduler.has_waiting(worker)

    @invariant()
    def whoever_saw_a_worker_die_travels_alone(self) -> None:
        for batches in self.out.values():
            if any(request.strikes for batch in batches for request in batch.wanted()):
                assert [len(batch.requests) for batch in batches] == [1]
                assert batches[0].alone

    @invariant()
    def requests_are_poisoned_by_their_second_death_and_no_other(self) -> None:
        for request in self.requests:
            assert request.strikes == self.deaths[request] <= 2
            is_poisoned = any(isinstance(answer, Poisoned) for answer in self.answers[request])
            assert is_poisoned is (request.strikes == 2)

    @invariant()
    def whoever_is_over_was_answered_once_or_had_gone(self) -> None:
        for request in self.requests:
            expected = request.stage is Stage.OVER and request not in self.cancelled
            assert len(self.answers[request]) == expected

    @invariant()
    def nobody_waits_for_a_worker_that_sleeps(self) -> None:
        for worker in self.out:
            assert worker in self.awake or self.out[worker] or not self.scheduler.has_waiting(worker)

    def teardown(self) -> None:
        """Given workers and time to work, everything ends and nothing is left over."""
        if not hasattr(self, "scheduler"):
            return
        for key in KEYS:
            self.place(key, None)
        for _ in range(4 * len(self.requests) + 4):
            if not self.ready:
                spare = next(worker for worker in [*WORKERS, "e"] if worker not in self.out)
                self.bring_in(spare, slots=1)
            for worker in list(self.out):
                while worker in self.awake and self.look(worker):
                    pass
                for batch in list(self.out.get(worker, ())):
                    if worker in self.out:
                        self.bring_back(batch)
            self.check_invariants_now()
        assert self.live() == []
        assert not any(self.out.values())
        assert self.scheduler.waiting == self.scheduler.unfinished == self.scheduler._loads.total == 0
        assert self.scheduler.next_expiry(0.0) == math.inf
        assert not self.scheduler.live_by_version

    def check_invariants_now(self) -> None:
        self.a_request_is_in_one_place_at_a_time()
        self.the_counters_say_what_is_there()
        self.slots_are_as_full_as_batches_are_out()
        self.whoever_saw_a_worker_die_travels_alone()
        self.requests_are_poisoned_by_their_second_death_and_no_other()
        self.whoever_is_over_was_answered_once_or_had_gone()
        self.nobody_waits_for_a_worker_that_sleeps()


class DeadlyRequests(AnyOrder):
    """Workers die of deadly requests alone."""

    die = None  # type: ignore[assignment]

    @invariant()
    def nobody_innocent_is_poisoned(self) -> None:
        for request in self.requests:
            if any(isinstance(answer, Poisoned) for answer in self.answers[request]):
                assert request in self.deadly


moderate = settings(max_examples=100, stateful_step_count=50, deadline=None)

TestAnythingInAnyOrderLosesAndDoublesNothing = AnyOrder.TestCase
TestAnythingInAnyOrderLosesAndDoublesNothing.settings = moderate
TestADeadlyRequestNeverConvictsAnInnocentOne = DeadlyRequests.TestCase
TestADeadlyRequestNeverConvictsAnInnocentOne.settings = moderate
