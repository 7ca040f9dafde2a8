"""What waits for one worker, and when it should go. Pure."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from typing import NamedTuple

from common.wire import MAX_BATCH_BYTES
from gateway.scheduling.admission import Pace
from gateway.scheduling.fairness import FairQueue
from gateway.scheduling.requests import Batch, ModelKey, Request, Stage


class Queue(OrderedDict[Request, None]):
    """Requests that wait, in order. Invariant: `rows` is how many they have."""

    rows = 0

    def put(self, request: Request, *, first: bool = False) -> None:
        """It waits, behind all others or before them."""
        self[request] = None
        self.rows += request.rows
        if first:
            self.move_to_end(request, last=False)

    def take_out(self, request: Request) -> None:
        """It waits no more."""
        del self[request]
        self.rows -= request.rows

    def ahead_of(self, request: Request) -> int:
        """The rows that go before those of a request that would be put here now."""
        return self.rows


AnyQueue = Queue | FairQueue


class Limits(NamedTuple):
    """How the requests of one model are queued: rows in a batch, seconds that the first of them may wait for
    others, and how many may wait at all."""

    max_batch: int
    max_wait: float = 0.0
    queue_max: int | None = None


class Lane:
    """One ready worker's queues and what it has in flight. No queue in it is empty. What is to be looked up
    has queues of its own, and of look-ups there is at most one in flight, beside the slots."""

    def __init__(self, worker: str, slots: int) -> None:
        self.worker = worker
        self.slots = slots
        self.queues: OrderedDict[ModelKey, AnyQueue] = OrderedDict()
        self.lookups: OrderedDict[ModelKey, AnyQueue] = OrderedDict()
        self.lookup: Batch | None = None  # the one in flight
        self.struck = Queue()  # those that have seen a worker die: each travels alone
        self.flying: dict[int, Batch] = {}
        self.paces: defaultdict[ModelKey, Pace] = defaultdict(Pace)
        self.pressed = 0  # batches that may come back until nobody was turned away for so long

    def has_time_for(self, request: Request) -> bool:
        """Whether a new request is likely to be answered here before its deadline."""
        queue = self.queues.get(request.key)
        if queue is None:
            return True
        flying = sum(
            [batch.rows for batch in self.flying.values() if batch.key == request.key and not batch.is_lookup]
        )
        return self.paces[request.key].is_enough(queue.ahead_of(request) + flying, request)

    def waiting(self, key: ModelKey | None = None) -> list[Request]:
        """What is in the queues, of one model version or of all."""
        found = list(self.struck)
        for queues in (self.lookups, self.queues):
            found += [request for queue in queues.values() for request in queue]
        return found if key is None else [request for request in found if request.key == key]

    def newest(self, rows: int) -> list[Request]:
        """The last of what is in the queues, in order, of so many rows at most."""
        found: list[Request] = []
        for queue in [*reversed(self.lookups.values()), *reversed(self.queues.values())]:
            for request in reversed(queue):
                rows -= request.rows
                if rows < 0:
                    return found[::-1]
                found.append(request)
        return found[::-1]

    def in_flight(self) -> list[Request]:
        """What is in batches and still wants an answer."""
        return [request for batch in self.flying.values() for request in batch.wanted()]

    @property
    def has_slot(self) -> bool:
        """Whether another batch may go to its model."""
        return len(self.flying) - (self.lookup is not None) < self.slots

    def land(self, batch: Batch) -> bool:
        """The batch is not in flight any more; whether it was."""
        if self.flying.pop(batch.id, None) is None:
            return False
        if self.lookup is batch:
            self.lookup = None
        return True

    def launch(
        self, key: ModelKey, queue: AnyQueue, limit: int, now: float, *,
        alone: bool = False, is_lookup: bool = False,
    ) -> Batch:  # fmt: skip
        """Move the first requests of one of its queues, up to `limit` rows and what a frame holds, and at
        least one, into a batch in flight; the first one only if it is to be `alone`."""
        requests: list[Request] = []
        rows = size = 0
        while queue:
            request = next(iter(queue))
            is_full = rows + request.rows > limit or size + request.size > MAX_BATCH_BYTES
            if requests and (alone or is_full):
                break
            queue.take_out(request)
            request.stage = Stage.FLYING
            request.sent = now
            requests.append(request)
            rows += request.rows
            size += request.size
        if not queue and not alone:
            del (self.lookups if is_lookup else self.queues)[key]
        if not alone and not is_lookup:
            self.paces[key].left(rows, now, is_more=bool(queue))
        batch = Batch(self.worker, key, requests, alone=alone, is_lookup=is_lookup)
        self.flying[batch.id] = batch
        if is_lookup:
            self.lookup = batch
        return batch


def due(queue: AnyQueue, limits: Limits) -> float:
    """When a queue's first batch should go: as its first request came, unless it is to wait for others and
    they do not fill a batch yet."""
    first = next(iter(queue))
    if not limits.max_wait:
        return first.admitted
    if queue.rows >= limits.max_batch:
        return first.admitted
    # Where clients take turns, who goes first need not have come first.
    return min([request.admitted for request in queue]) + limits.max_wait
