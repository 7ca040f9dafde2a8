"""Where jobs and workers meet: what any thread may do, under one lock.

No waiting, and nothing that starts or hears a process: that is the dispatcher's. Futures are set after the
lock was let go, by whoever found that the job has ended.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from ml_pool.answers import Answer
from ml_pool.exceptions import JobTimedOut, MLPoolError
from ml_pool.figures import Figures
from ml_pool.jobs import Job
from ml_pool.schedule import Schedule
from ml_pool.workers import State, Worker


class Work:
    """The schedule's jobs on the pool's workers; `wake` has the dispatcher look at everything again.

    Invariant: under the lock, an idle worker and a waiting job are never there at the same time.
    """

    def __init__(self, schedule: Schedule, wake: Callable[[], None]) -> None:
        self.schedule = schedule
        self.figures = Figures()
        self.lock = threading.Lock()
        self.error: MLPoolError | None = None  # once set, nothing is accepted any more
        self.stop_by = 0.0  # then: when the workers that are left are killed
        self.workers: dict[int, Worker] = {}
        self._idle: list[Worker] = []
        self._wakes_at = 0.0
        self._wake = wake

    # --- for callers

    def add(self, job: Job, *, wait_if_full: bool = True) -> bool:
        """Queue a job, or hand it to an idle worker right away; False where it would have to wait for room
        and shall not. Raises what ended the pool."""
        with self.lock:
            if self.error is not None or (self.schedule.is_full and not wait_if_full):
                job.packed.close()
                self.check()
                return False
            self.schedule.add(job)
            self._assign()
            is_sooner = job.deadline is not None and job.deadline < self._wakes_at
        if is_sooner:
            self._wake()
        return True

    def cancel(self, job: Job) -> bool:
        """Whether the job had not ended: it is not run, or its worker is killed, and another one started."""
        with self.lock:
            if not self._withdraw(job):
                return False
            self.figures.cancelled += 1
        self._wake()
        job.future.set_cancelled()
        return True

    def check(self) -> None:
        """Raise what ended the pool, if anything did."""
        if self.error is not None:
            raise self._why_not()

    def snapshot(self) -> dict[str, Any]:
        """The figures of this moment."""
        with self.lock:
            workers = [worker for worker in self.workers.values() if worker.state is not State.ENDING]
            return {
                "queued": self.schedule.waiting,
                "running": len(self.schedule.running),
                "kept": self.schedule.kept,
                **self.figures.snapshot(),
                "workers": [
                    {"pid": worker.pid, "state": worker.state.value, "jobs": worker.jobs}
                    for worker in workers
                ],
            }

    def stop(self, error: MLPoolError, timeout: float) -> None:
        """Accept nothing more, end all jobs with this error, and ask the workers to end within the time."""
        with self.lock:
            stop_by = time.monotonic() + timeout
            is_first = self.error is None
            self.stop_by = stop_by if is_first else min(self.stop_by, stop_by)
            jobs: list[Job] = []
            if is_first:
                self.error = error
                jobs = [job for job in self.schedule.unfinished() if self._end(job)]
                self._idle.clear()
                for worker in self.workers.values():
                    worker.stop()
        self._wake()
        for job in jobs:
            Answer(None, self._why_not()).give_to(job)

    # --- for the dispatcher

    def sleep_until(self, also: float | None) -> float | None:
        """When the dispatcher has to look again, at the latest; from now on, who needs it sooner wakes it."""
        with self.lock:
            times = [also, self.schedule.next_time(), self.stop_by if self.error is not None else None]
            known = [when for when in times if when is not None]
            self._wakes_at = min(known, default=float("inf"))
            return min(known, default=None)

    def on_time(self, now: float) -> None:
        """End what is overdue, and forget what has expired."""
        with self.lock:
            self.schedule.expire(now)
            jobs = [job for job in self.schedule.overdue(now) if self._withdraw(job)]
            self.figures.timed_out += len(jobs)
            self.figures.failed += len(jobs)
            if self.error is not None and now >= self.stop_by:
                for worker in self.workers.values():
                    worker.kill()
                self.stop_by = now + 1.0
        for job in jobs:
            error = JobTimedOut(f"the job had not ended {now - job.created:.3g} s after it was created")
            Answer(None, error).give_to(job)

    def missing(self, wanted: int) -> int:
        """How many workers are to be started, so that there are as many."""
        with self.lock:
            if self.error is not None:
                return 0
            return wanted - sum(worker.state is not State.ENDING for worker in self.workers.values())

    def add_worker(self, worker: Worker) -> None:
        """A worker was started."""
        with self.lock:
            self.workers[worker.number] = worker
            if self.error is not None:  # since it was asked how many are missing
                worker.stop()

    def on_hello(self, worker: Worker, pid: int, pidfd: int | None) -> None:
        """A worker has said who it is."""
        with self.lock:
            worker.pid, worker.pidfd = pid, pidfd
            if worker.state is State.ENDING:
                worker.kill()

    def on_ready(self, worker: Worker) -> bool:
        """A worker has its models; whether all of them have."""
        with self.lock:
            if worker.state is not State.LOADING:
                return False
            self._have_idle(worker)
            return all(each.state is not State.LOADING for each in self.workers.values())

    def job_of(self, worker: Worker) -> Job | None:
        """The job that a worker has."""
        with self.lock:  # who gave it one may not have noted that yet
            return worker.job

    def on_answer(self, worker: Worker) -> Job | None:
        """A worker has answered: the job, which has ended, unless it had ended before."""
        now = time.monotonic()
        with self.lock:
            job = worker.take_job()
            if job is None:
                return None
            self.figures.record(job, now)
            self._end(job)
            worker.jobs += 1
            self._have_idle(worker)
            return job

    def on_end(self, worker: Worker) -> Job | None:
        """A worker is gone: the job that is lost with it, if there is one and it is not tried again."""
        with self.lock:
            del self.workers[worker.number]
            if worker in self._idle:
                self._idle.remove(worker)
            if self.error is None:
                self.figures.restarts += 1
            job = worker.take_job()
            is_lost = job is not None and not self._try_again(job, worker) and self._end(job)
            self.figures.failed += is_lost
            worker.kill()  # it may only have closed its socket
            worker.close()
            self._assign()
            return job if is_lost else None

    def kill_all(self) -> None:
        """Have every worker end that has no job; one that has is left to be found dead with it."""
        with self.lock:
            self._idle.clear()
            for worker in self.workers.values():
                if worker.job is None:
                    worker.kill()

    # --- under the lock

    def _have_idle(self, worker: Worker) -> None:
        worker.state = State.IDLE
        self._idle.append(worker)
        self._assign()

    def _assign(self) -> None:
        while self._idle and (job := self.schedule.take(time.monotonic())) is not None:
            worker = self._idle.pop()
            try:
                worker.send(job)
            except OSError:  # it has just died, as will be seen; the job has not begun
                self.schedule.put_back(job)
                worker.kill()

    def _withdraw(self, job: Job) -> bool:
        """End a job from our side; the worker that runs it goes."""
        if not self._end(job):
            return False
        for worker in self.workers.values():
            if worker.job is job:
                worker.kill()
        return True

    def _end(self, job: Job) -> bool:
        if not self.schedule.end(job, time.monotonic()):
            return False
        job.packed.close()
        return True

    def _try_again(self, job: Job, worker: Worker) -> bool:
        """Whether a job whose worker died may run again: it had not begun, or its caller said so."""
        if not worker.channel.was_reset:
            if not job.retries:
                return False
            job.retries -= 1
            self.figures.retried += 1
        self.schedule.put_back(job)
        return True

    def _why_not(self) -> MLPoolError:
        assert self.error is not None
        again: MLPoolError = type(self.error)(*self.error.args)  # each caller's traceback is its own
        again.__cause__ = self.error.__cause__
        return again
