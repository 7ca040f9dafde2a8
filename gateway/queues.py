"""What waits for one worker, and when it should go. Pure."""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

from common.wire import MAX_BATCH_BYTES
from gateway.fairness import FairQueue
from gateway.requests import Batch, ModelKey, Request, Stage

Queue = OrderedDict[Request, None] | FairQueue


class Limits(NamedTuple):
    """How the requests of one model are queued: rows in a batch, seconds that the first of them may wait for
    others, and how many may wait at all."""

    max_batch: int
    max_wait: float = 0.0
    queue_max: int | None = None


class Lane:
    """One ready worker's queues and what it has in flight. No queue in it is empty."""

    def __init__(self, worker: str, slots: int) -> None:
        self.worker = worker
        self.slots = slots
        self.queues: OrderedDict[ModelKey, Queue] = OrderedDict()
        self.struck: Queue = OrderedDict()  # those that have seen a worker die: each travels alone
        self.flying: dict[int, Batch] = {}

    def waiting(self, key: ModelKey | None = None) -> list[Request]:
        """What is in the queues, of one model version or of all."""
        queues = self.queues.values() if key is None else [self.queues.get(key, OrderedDict())]
        struck = [request for request in self.struck if key is None or request.key == key]
        return struck + [request for queue in queues for request in queue]

    def newest(self, rows: int) -> list[Request]:
        """The last of what is in the queues, in order, of so many rows at most."""
        found: list[Request] = []
        for queue in reversed(self.queues.values()):
            for request in reversed(queue):
                rows -= request.rows
                if rows < 0:
                    return found[::-1]
                found.append(request)
        return found[::-1]

    def in_flight(self) -> list[Request]:
        """What is in batches and still wants an answer."""
        return [request for batch in self.flying.values() for request in batch.wanted()]

    def launch(self, key: ModelKey, queue: Queue, limit: int, now: float, *, alone: bool) -> Batch:
        """Move the first requests of one of its queues, up to `limit` rows and what a frame holds, and at
        least one, into a batch in flight; the first one only if it is to be `alone`."""
        requests: list[Request] = []
        rows = size = 0
        while queue:
            request = next(iter(queue))
            is_full = rows + request.rows > limit or size + request.size > MAX_BATCH_BYTES
            if requests and (alone or is_full):
                break
            del queue[request]
            request.stage = Stage.FLYING
            request.sent = now
            requests.append(request)
            rows += request.rows
            size += request.size
        if not queue and not alone:
            del self.queues[key]
        batch = Batch(self.worker, key, requests, alone=alone)
        self.flying[batch.id] = batch
        return batch


def due(queue: Queue, limits: Limits) -> float:
    """When a queue's first batch should go: as its first request came, unless it is to wait for others and
    they do not fill a batch yet."""
    first = next(iter(queue))
    if not limits.max_wait:
        return first.admitted
    rows, oldest = 0, first.admitted
    for request in queue:
        rows += request.rows
        if rows >= limits.max_batch:
            return first.admitted
        oldest = min(oldest, request.admitted)  # where clients take turns it may not be the first
    return oldest + limits.max_wait
