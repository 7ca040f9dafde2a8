"""A fleet and its autoscaler in simulated time: the gateway's own policy over made workers. Pure, and
deterministic.

A worker takes what waits as one batch whenever it has a slot free, as in the gateway. One queue stands for
those of all workers: a worker that comes takes its share of what waits.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from bench.arrivals import Arrival
from gateway.autoscaler.policy import Bounds, Decision, Parameters, Policy
from gateway.autoscaler.traffic import Batches, Observation

SLOTS = 2
TICK = 0.2


class Service(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker is like: a batch takes `fixed` and, for each row, `row` seconds, more or less by `jitter`
    of it; it is ready `start` seconds after it was ordered."""

    fixed: float = 0.02
    row: float = 0.0
    max_batch: int = 1
    start: float = 0.5
    jitter: float = 0.1


@dataclass
class Worker:
    """One worker; `free_at` is when it has done all it was given."""

    ready_at: float
    free_at: float = 0.0
    landed: float = 0.0
    rows: int = 0
    flying: int = 0
    leaves: bool = False


class Flight(NamedTuple):
    """A batch at a worker."""

    sent: float
    rows: int
    requests: list[Arrival]


class Sample(NamedTuple):
    """The fleet at one time."""

    at: float
    ready: int
    wanted: int
    waiting: int
    rate: float


@dataclass
class Run:
    """What happened: samples at every tick, (when it came, how long it took) of every request, what was
    decided, and how many seconds of workers it took."""

    samples: list[Sample] = field(default_factory=list)
    latencies: list[tuple[float, float]] = field(default_factory=list)
    decisions: list[tuple[float, Decision]] = field(default_factory=list)
    worker_seconds: float = 0.0

    def percentile(self, q: float) -> float:
        """Of all latencies, in seconds; 0 without any."""
        taken = sorted(each for _, each in self.latencies)
        return taken[min(len(taken) - 1, math.ceil(len(taken) * q / 100) - 1)] if taken else 0.0

    @property
    def most(self) -> int:
        """Workers at once."""
        return max((each.ready for each in self.samples), default=0)

    @property
    def changes(self) -> int:
        """How often what is wanted changed."""
        wanted = [decision.n for _, decision in self.decisions]
        return sum(a != b for a, b in itertools.pairwise(wanted))


class Simulation:
    """One run; made for it, and over with it."""

    def __init__(
        self, service: Service, parameters: Parameters, bounds: Bounds, *, first: int, seed: int
    ) -> None:
        self._service = service
        self._bounds = bounds
        self._policy = Policy(parameters)
        self._policy.note(0.0, first)
        self._random = random.Random(seed)
        self._queue: deque[Arrival] = deque()
        self._waiting = self._in_hand = self._arrived = 0
        self._batches = Batches()
        self._workers = [Worker(ready_at=0.0) for _ in range(first)]
        self._events: list[tuple[float, int, Worker | None, Flight | None]] = []
        self._order = itertools.count()
        self.run = Run()

    def go(self, arrivals: Iterable[Arrival], until: float) -> Run:
        """All of it: requests come until there are no more, and the fleet is looked at until then."""
        coming = iter(arrivals)
        following = next(coming, None)
        self._tick(0.0)
        while self._events:
            at = self._events[0][0]
            if following is not None and following.at < at:
                self._arrive(following)
                following = next(coming, None)
                continue
            at, _, worker, flight = heapq.heappop(self._events)
            if worker is not None:
                self._land(at, worker, flight)
            elif at <= until or following is not None or self._in_hand:
                self._tick(at)
        return self.run

    # --- what happens

    def _arrive(self, arrival: Arrival) -> None:
        self._queue.append(arrival)
        self._waiting += arrival.rows
        self._arrived += arrival.rows
        self._in_hand += 1
        open_ = [each for each in self._taking(arrival.at) if each.flying < SLOTS]
        if open_:
            self._take(arrival.at, min(open_, key=lambda each: (each.flying, each.rows)))

    def _take(self, now: float, worker: Worker) -> None:
        batch: list[Arrival] = []
        rows = 0
        while self._queue and (not batch or rows + self._queue[0].rows <= self._service.max_batch):
            batch.append(self._queue.popleft())
            rows += batch[-1].rows
        self._waiting -= rows
        worker.rows += rows
        worker.flying += 1
        takes = self._service.fixed + self._service.row * rows
        takes *= max(0.1, self._random.gauss(1.0, self._service.jitter)) if self._service.jitter else 1.0
        worker.free_at = max(now, worker.free_at) + takes
        self._push(worker.free_at, worker, Flight(now, rows, batch))

    def _land(self, now: float, worker: Worker, flight: Flight | None) -> None:
        """A batch came back; none says that its worker is ready."""
        if flight is not None:
            worker.flying -= 1
            worker.rows -= flight.rows
            self._in_hand -= len(flight.requests)
            seconds = now - max(worker.landed, flight.sent)
            self._batches.add(flight.rows, seconds, self._service.max_batch)
            worker.landed = now
            self.run.latencies += [(each.at, now - each.at) for each in flight.requests]
        while self._queue and worker.flying < SLOTS and not worker.leaves:
            self._take(now, worker)
        if worker.leaves and not worker.flying and worker in self._workers:
            self._workers.remove(worker)

    def _tick(self, now: float) -> None:
        self.run.worker_seconds += len(self._workers) * TICK
        ready = len(self._taking(now))
        seen = Observation(now, TICK, ready, self._in_hand, self._waiting, self._arrived, self._batches)
        decision = self._policy.desired(now, [seen], self._bounds)
        self.run.samples.append(Sample(now, ready, decision.n, self._waiting, self._arrived / TICK))
        self.run.decisions.append((now, decision))
        self._arrived, self._batches = 0, Batches()
        self._become(decision.n, now)
        self._push(now + TICK, None, None)

    # --- inside

    def _taking(self, now: float) -> list[Worker]:
        return [each for each in self._workers if each.ready_at <= now and not each.leaves]

    def _become(self, n: int, now: float) -> None:
        """Start and stop workers; those that are not ready yet, and then the youngest, go first."""
        staying = [each for each in self._workers if not each.leaves]
        for _ in range(n - len(staying)):
            worker = Worker(now + self._service.start)
            self._workers.append(worker)
            self._push(worker.ready_at, worker, None)
        for worker in staying[n:]:
            worker.leaves = True
            if not worker.flying:
                self._workers.remove(worker)

    def _push(self, at: float, worker: Worker | None, flight: Flight | None) -> None:
        heapq.heappush(self._events, (at, next(self._order), worker, flight))
