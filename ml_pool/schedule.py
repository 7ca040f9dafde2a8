"""Which jobs wait, which run, and which results are kept for how long. Pure: no clock, no thread, no process.

Invariant: a job that has not ended is in the queue, among those that wait for room in it, or running; its
id is known from the moment it is added until its result is fetched or forgotten.
"""

from __future__ import annotations

import heapq
import uuid
from concurrent.futures import Future

from ml_pool.jobs import Job


class Schedule:
    """`size` jobs are in the queue at most; the others wait for room, in the order they came."""

    def __init__(self, size: int, result_ttl: float) -> None:
        self.size = size
        self.result_ttl = result_ttl
        self.running: dict[Job, None] = {}
        self._queue: dict[Job, None] = {}  # dicts, because jobs leave from the middle, too
        self._outside: dict[Job, None] = {}
        self._again: dict[Job, None] = {}  # their worker died: they come first
        self._by_id: dict[uuid.UUID, Job] = {}
        self._deadlines: list[tuple[float, int, Job]] = []
        self._ended_with_deadline = 0  # that are in `_deadlines` still, and hold their results
        self._expiries: dict[uuid.UUID, float] = {}  # in the order of time

    @property
    def waiting(self) -> int:
        """How many jobs no worker has yet."""
        return len(self._queue) + len(self._outside) + len(self._again)

    @property
    def kept(self) -> int:
        """How many jobs are known by their ids."""
        return len(self._by_id)

    @property
    def is_full(self) -> bool:
        """Whether another job would have to wait for room."""
        return len(self._queue) >= self.size or bool(self._outside)

    def add(self, job: Job) -> None:
        """Queue a job; where there is no room, `job.waiting_for_room` is a future that is done when there
        is."""
        if self.is_full:
            job.waiting_for_room = Future()
            self._outside[job] = None
        else:
            self._queue[job] = None
        if job.fetched_by_id:
            self._by_id[job.id] = job
        if job.deadline is not None:
            heapq.heappush(self._deadlines, (job.deadline, job.number, job))

    def take(self, now: float) -> Job | None:
        """The next job to run."""
        queue = self._again or self._queue
        if not queue:
            return None
        job = next(iter(queue))
        del queue[job]
        job.is_running = True
        job.started = now
        self.running[job] = None
        self._let_in()
        return job

    def put_back(self, job: Job) -> None:
        """Have a job that was taken run again, before those that wait."""
        del self.running[job]
        job.is_running = False
        self._again[job] = None

    def end(self, job: Job, now: float) -> bool:
        """Whether the job had not ended; it has now, and its result is kept from now on."""
        if job.has_ended:
            return False
        job.has_ended = True
        job.is_running = False
        for jobs in (self.running, self._again, self._queue, self._outside):
            if jobs.pop(job, job) is None:
                break
        if job.waiting_for_room is not None and not job.waiting_for_room.done():
            job.waiting_for_room.set_result(None)
        self._let_in()
        if job.fetched_by_id:
            self._expiries[job.id] = now + self.result_ttl
        if job.deadline is not None:
            self._ended_with_deadline += 1
            self._sweep()
        return True

    def unfinished(self) -> list[Job]:
        """All jobs that have not ended."""
        return [*self.running, *self._again, *self._queue, *self._outside]

    def overdue(self, now: float) -> list[Job]:
        """The jobs whose deadline has passed; each is said once."""
        found = []
        while self._deadlines and (self._deadlines[0][0] <= now or self._deadlines[0][2].has_ended):
            job = heapq.heappop(self._deadlines)[2]
            if job.has_ended:
                self._ended_with_deadline -= 1
            else:
                found.append(job)
        return found

    def find(self, job_id: uuid.UUID) -> Job | None:
        """The job of an id, unless it was forgotten."""
        return self._by_id.get(job_id)

    def forget(self, job_id: uuid.UUID) -> Job | None:
        """Know the id no more; the job, if it was known."""
        self._expiries.pop(job_id, None)
        return self._by_id.pop(job_id, None)

    def expire(self, now: float) -> None:
        """Forget the results that nobody fetched in time."""
        while self._expiries:
            job_id, time = next(iter(self._expiries.items()))
            if time > now:
                break
            self.forget(job_id)

    def next_time(self) -> float | None:
        """When `overdue` or `expire` will have something to do, as far as is known now."""
        times = [self._deadlines[0][0]] if self._deadlines else []
        times += [next(iter(self._expiries.values()))] if self._expiries else []
        return min(times, default=None)

    def _sweep(self) -> None:
        """Drop ended jobs from among the deadlines, once they are most of it."""
        if 2 * self._ended_with_deadline > len(self._deadlines) + 32:
            self._deadlines = [entry for entry in self._deadlines if not entry[2].has_ended]
            heapq.heapify(self._deadlines)
            self._ended_with_deadline = 0

    def _let_in(self) -> None:
        while self._outside and len(self._queue) < self.size:
            job = next(iter(self._outside))
            del self._outside[job]
            self._queue[job] = None
            if job.waiting_for_room is not None:
                job.waiting_for_room.set_result(None)
