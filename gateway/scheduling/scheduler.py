"""Which request goes to which worker, when, and in which batch. Pure: no clock, no sockets.

The life of a request:

1. `submit` puts it into the queue of one ready worker (`loads` chooses it), or with the `unrouted` when there
   is none.
2. `take` hands a worker with a free slot everything queued for one model version, up to `max_batch` rows;
   a model's limits may ask to wait a moment for more. Where a model is slow and its cache knows many rows
   (`lookups`), what is new is looked up before that, beside the slots; `look_further` has the rest wait.
3. `finish` frees the slot. The caller has answered the requests.
4. A worker that goes away gives back what it had. What only waited is routed again. What was in a batch
   gets a strike and is tried again alone, on a worker with nothing else in flight, so that the next death
   convicts nobody innocent. At two strikes it is answered with `Poisoned`.
5. `cancel` and `expire` end a request early wherever it is. A batch already sent keeps its slot till its end.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable

from common.errors import DeadlineExceeded, NoWorker, PipelineError, Poisoned, QueueFull
from gateway.scheduling.admission import KnownRows
from gateway.scheduling.deadlines import DeadlineWheel
from gateway.scheduling.loads import Loads
from gateway.scheduling.lookups import LOOKUP_ROWS, Lookups
from gateway.scheduling.queues import AnyQueue, Lane, Limits, Queue, due
from gateway.scheduling.requests import Batch, ModelKey, Request, Stage
from gateway.scheduling.unrouted import Unrouted

SLOTS = 2  # batches at a worker at once: the next is there when it finishes one
MAX_STRIKES = 2
PRESSED = 8  # batches after somebody was turned away, whose rows are remembered
HOPE_TICK = 0.02  # between two looks for who has waited too long for any worker

Ending = tuple[Request, PipelineError]


class Scheduler:
    """Invariant: every request it knows is in exactly one queue or one batch, and counted once."""

    def __init__(self, *, queue_max: int, max_batch: int, worker_wait: float) -> None:
        self.queue_max = queue_max
        self.default = Limits(max_batch)
        self.limits: dict[str, Limits] = {}  # by model, where they are not the default
        self.unrouted = Unrouted(worker_wait)
        self.waiting = self.waiting_rows = 0
        self.known_rows = KnownRows()
        self.retries = 0  # requests that go to another worker, as theirs was lost with them
        self.lookups = Lookups()
        self._lanes: dict[str, Lane] = {}
        self._loads = Loads()
        self._deadlines: DeadlineWheel[Request] = DeadlineWheel()
        self.live_by_version: Counter[ModelKey] = Counter()
        self.waiting_by_model: Counter[str] = Counter()  # requests that wait, by model
        self.new_queue: Callable[[], AnyQueue] = Queue  # `FairQueue` where clients are told apart

    # --- what a door does

    def submit(self, request: Request) -> str | None:
        """Queue a new request; the worker to wake, if any. Raises `QueueFull`, also where the queue is so
        long that its deadline would pass there. A row that a cache is thought to know goes ahead then."""
        model = request.key.model
        room, queue_max = self.queue_max - self.waiting, self.limits_of(model).queue_max
        room_of_model = room if queue_max is None else queue_max - self.waiting_by_model[model]
        if room <= 0 or room_of_model <= 0:
            raise QueueFull("Server is busy")
        worker = self._loads.choose(request)
        is_late = worker is not None and self._would_be_late(request, self._lanes[worker])
        if is_late and request not in self.known_rows:
            raise QueueFull("Server is busy")
        if request.client is not None:
            request.client.admit(model, room, room_of_model)
        self.live_by_version[request.key] += 1
        self._deadlines.add(request, request.deadline)
        return self._put(request, worker, first=is_late)

    def cancel(self, request: Request) -> None:
        """The client has gone: forget the request, and never run it if it still waits."""
        if request.stage is Stage.WAITING:
            self._unqueue(request)
        if request.stage is not Stage.NEW:  # the queue was full: it was never here
            self._end(request)

    # --- what a batch loop does

    def take(self, worker: str, now: float) -> Batch | None:
        """The next batch for a worker that has a free slot; None when it should wait to be woken."""
        lane = self._lanes.get(worker)
        if lane is None or any(batch.alone for batch in lane.flying.values()):
            return None
        if lane.struck:
            if lane.flying:
                return None  # it empties first: what has seen a worker die travels alone
            request = next(iter(lane.struck))
            return self._launched(lane.launch(request.key, lane.struck, 1, now, alone=True))
        if lane.lookups and lane.lookup is None:
            key, queue = next(iter(lane.lookups.items()))
            return self._launched(lane.launch(key, queue, LOOKUP_ROWS, now, is_lookup=True))
        if not lane.has_slot:
            return None
        for key, queue in lane.queues.items():
            limits = self.limits_of(key.model)
            if due(queue, limits) <= now:
                lane.queues.move_to_end(key)  # model versions take turns
                return self._launched(lane.launch(key, queue, limits.max_batch, now))
        return None

    def next_due(self, worker: str, now: float) -> float:
        """When to ask `take` again though nobody wakes the worker: something waits for company until then."""
        lane = self._lanes.get(worker)
        queues = lane.queues.items() if lane is not None else ()
        times = [due(queue, self.limits_of(key.model)) for key, queue in queues]
        return min((time for time in times if time > now), default=math.inf)

    def finish(self, batch: Batch) -> list[Request]:
        """The batch came back: free its slot. Its requests that still want an answer are over now."""
        wanted = self._land(batch)
        self._remember(batch.worker, wanted)
        for request in wanted:
            self._end(request)
        return wanted

    def look_further(self, batch: Batch, unknown: Collection[Request]) -> tuple[list[Request], list[str]]:
        """A look-up came back, to which these requests are unknown: (those of the others that still want an
        answer and are over now, workers to wake)."""
        known, moving = [], []
        for request in self._land(batch):
            if request in unknown:
                request.is_unknown = True
                moving.append(request)
            else:
                self._end(request)
                known.append(request)
        return known, self._route_all(moving)

    # --- what the fleet does

    def add_worker(self, worker: str, *, slots: int = SLOTS) -> list[str]:
        """A worker is ready, and takes its share of what waits; the workers to wake."""
        self._lanes[worker] = Lane(worker, slots)
        self._loads.open(worker)
        share = math.ceil(self._loads.total / len(self._loads.rows))
        moving = [
            request
            for lane in self._lanes.values()
            for request in lane.newest(self._loads.rows.get(lane.worker, 0) - share)
        ]
        return self._route_all(self._take_out([*self.unrouted, *moving]))

    def place(self, key: ModelKey, workers: Collection[str] | None, now: float) -> list[str]:
        """Only these workers have a model version from now on (None: every one has); the workers to wake.

        What waits for another worker moves on; what another has in flight comes back as it will.
        """
        if self._loads.place(key, workers):
            self.unrouted.last_left = now
        moving = self.unrouted.of(key)
        for lane in self._lanes.values():
            if workers is not None and lane.worker not in workers:
                moving += lane.waiting(key)
        return self._route_all(self._take_out(moving))

    def forget(self, key: ModelKey, now: float) -> list[str]:
        """A version serves no more: what was measured of it goes; the workers to wake."""
        for lane in self._lanes.values():
            lane.paces.pop(key, None)
        return self.place(key, None, now)

    def give_up(self, key: ModelKey) -> list[Request]:
        """There will be no worker for a version: the requests to answer with an error."""
        requests = self._take_out(self.unrouted.of(key))
        for request in requests:
            self._end(request)
        return requests

    def retire_worker(self, worker: str, now: float) -> list[str]:
        """A worker takes nothing new: what waits for it moves on, what it has it finishes; whom to wake."""
        lane = self._lanes.get(worker)
        if lane is None or not self._close_to_new(worker, now):
            return []
        return self._route_all(self._take_out(lane.waiting()))

    def remove_worker(self, worker: str, now: float, *, strike: bool) -> tuple[list[Ending], list[str]]:
        """A worker is gone: (requests to answer with an error, workers to wake).

        `strike` says that it died or fell silent with its batches in hand, rather than left in good order.
        """
        lane = self._lanes.get(worker)
        if lane is None:
            return [], []
        self._close_to_new(worker, now)
        moving = self._take_out(lane.waiting())
        del self._lanes[worker]
        poisoned: list[Ending] = []
        for request in lane.in_flight():
            request.strikes += strike
            request.shunned = worker if strike else request.shunned
            if request.strikes >= MAX_STRIKES:
                self._end(request)
                poisoned.append((request, Poisoned(f"the request was on {MAX_STRIKES} workers as they died")))
            else:
                self.retries += 1
                moving.append(request)
        return poisoned, self._route_all(moving)

    def give_back(self, batch: Batch) -> list[str]:
        """The batch certainly never ran: queue its requests again without a strike; the workers to wake."""
        return self._route_all(self._land(batch))

    def expire(self, now: float) -> list[Ending]:
        """End every request whose deadline has passed, or that has waited too long for any worker at all."""
        endings: list[Ending] = []
        for request in self._deadlines.expire(now):
            unserved = request in self.unrouted and not self.unrouted.is_expected(request.key)
            if request.stage is Stage.WAITING:
                self._unqueue(request)
            self._end(request)
            late = NoWorker("No live worker") if unserved else DeadlineExceeded("Deadline exceeded")
            endings.append((request, late))
        for request in self._take_out(self.unrouted.hopeless(now)):
            self._end(request)
            endings.append((request, NoWorker("No live worker")))
        return endings

    # --- what others ask

    def limits_of(self, model: str) -> Limits:
        """How a model's requests are queued."""
        return self.limits.get(model, self.default)

    def live(self, key: ModelKey) -> int:
        """Requests admitted under a model version and not over yet."""
        return self.live_by_version[key]

    def waiting_by_version(self) -> Counter[ModelKey]:
        """Requests that wait, counted one by one."""
        lanes = (request.key for lane in self._lanes.values() for request in lane.waiting())
        return Counter(itertools.chain(lanes, (request.key for request in self.unrouted)))

    def in_flight(self, worker: str, key: ModelKey | None = None) -> int:
        """Rows that a worker has in batches now, of one model version or of all."""
        lane = self._lanes.get(worker)
        flying = lane.flying.values() if lane else ()
        return sum(batch.rows for batch in flying if key is None or batch.key == key)

    def bytes_in_flight(self, worker: str) -> int:
        """Bytes of the rows that a worker has in batches now."""
        lane = self._lanes.get(worker)
        flying = lane.flying.values() if lane else ()
        return sum(request.size for batch in flying for request in batch.requests)

    def has_waiting(self, worker: str) -> bool:
        """Whether something waits for this worker."""
        lane = self._lanes.get(worker)
        return lane is not None and bool(lane.queues or lane.struck or lane.lookups)

    @property
    def unfinished(self) -> int:
        """Requests that are not over yet."""
        return self.live_by_version.total()

    def next_expiry(self, now: float) -> float:
        """When `expire` may have something to do; never, if no request is unfinished. How long there is hope
        for who has no worker changes from one moment to the next: for them it is soon."""
        earliest = self._deadlines.earliest()
        return min(earliest, now + HOPE_TICK) if self.unrouted.versions() else earliest

    # --- inside

    def _would_be_late(self, request: Request, lane: Lane) -> bool:
        """Whether what waits there is too long for a new request, and no worker is expected that may come in
        time to take its share."""
        is_patient = request.deadline - request.admitted > self.unrouted.worker_wait
        if lane.has_time_for(request) or (is_patient and self.unrouted.has_hope(request.key)):
            return False
        lane.pressed = PRESSED
        return True

    def _route(self, request: Request) -> str | None:
        """Put a request into a queue; the worker to wake."""
        return self._put(request, self._loads.choose(request))

    def _put(self, request: Request, worker: str | None, *, first: bool = False) -> str | None:
        """Put a request into this worker's queue; the worker to wake."""
        request.stage = Stage.WAITING
        self.waiting += 1
        self.waiting_rows += request.rows
        self.waiting_by_model[request.key.model] += 1
        if request.client is not None:
            request.client.queued(request.key.model)
        request.worker = worker
        if worker is None:
            self.unrouted.add(request)
            return None
        lane = self._lanes[worker]
        if request.strikes:
            lane.struck.put(request)
        else:
            is_new = request.route is not None and not request.is_unknown
            queues = lane.lookups if is_new and self.lookups.are_wanted(request.key) else lane.queues
            queue = queues.get(request.key)
            if queue is None:
                queue = queues[request.key] = self.new_queue()
            queue.put(request, first=first)
        self._loads.add(worker, request.rows)
        return worker

    def _route_all(self, requests: Iterable[Request]) -> list[str]:
        return sorted({worker for request in requests if (worker := self._route(request)) is not None})

    def _take_out(self, requests: list[Request]) -> list[Request]:
        """Take waiting requests out of their queues."""
        for request in requests:
            self._unqueue(request)
        return requests

    def _unqueue(self, request: Request) -> None:
        """Take a waiting request out of its queue."""
        self._count_out(request.key.model, (request,), request.rows)
        if request.worker is None:
            self.unrouted.remove(request)
            return
        lane = self._lanes[request.worker]
        if request.strikes:
            lane.struck.take_out(request)
        else:
            queues = lane.queues
            if request not in queues.get(request.key, ()):
                queues = lane.lookups
            queue = queues[request.key]
            queue.take_out(request)
            if not queue:
                del queues[request.key]
        self._loads.add(request.worker, -request.rows)

    def _launched(self, batch: Batch) -> Batch:
        self._count_out(batch.key.model, batch.requests, batch.rows)
        return batch

    def _remember(self, worker: str, answered: list[Request]) -> None:
        """After somebody was turned away: rows that its cache knows now need not be."""
        lane = self._lanes.get(worker)
        if lane is not None and lane.pressed:
            lane.pressed -= 1
            for request in answered:
                self.known_rows.note(request)

    def _land(self, batch: Batch) -> list[Request]:
        """The batch is in flight no more: its requests that are still in its hands, and want an answer. None
        where its worker was given up meanwhile, and they moved on."""
        lane = self._lanes.get(batch.worker)
        if lane is None or not lane.land(batch):
            return []
        self._loads.add(batch.worker, -batch.rows)
        return batch.wanted()

    def _close_to_new(self, worker: str, now: float) -> bool:
        """Whether it took new ones before: it may have retired."""
        was_open = self._loads.close(worker)
        if was_open:
            self.unrouted.last_left = now
        return was_open

    def _count_out(self, model: str, requests: Collection[Request], rows: int) -> None:
        """Requests of a model wait no more."""
        self.waiting -= len(requests)
        self.waiting_rows -= rows
        self.waiting_by_model[model] -= len(requests)
        if not self.waiting_by_model[model]:
            del self.waiting_by_model[model]
        if self.new_queue is not Queue:
            for request in requests:
                if request.client is not None:
                    request.client.unqueued(model)

    def _end(self, request: Request) -> None:
        if request.stage is Stage.OVER:
            return
        request.stage = Stage.OVER
        request.buffers = ()
        if request.client is not None:
            request.client.ended()
        self._deadlines.remove(request, request.deadline)
        self.live_by_version[request.key] -= 1
        if not self.live_by_version[request.key]:
            del self.live_by_version[request.key]
