"""The one thread of a pool: it starts workers, hears them, and keeps the time.

Nothing is shared with the workers but sockets, so none of them can hold a lock or spoil a queue as it dies.
What callers do, they do in `Work`, in their own threads; they hand jobs to idle workers themselves.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import selectors
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial

from common.channel import Channel, Frame
from ml_pool.answers import Answer, read_answer
from ml_pool.child import LoadFailed
from ml_pool.exceptions import MLWorkerFailedBecauseOfUserProvidedCodeError, PoolIsShutDown, WorkerDied
from ml_pool.kinds import Kind
from ml_pool.launchers import Launcher, load_failed, own_pair
from ml_pool.payload import decode
from ml_pool.schedule import Schedule
from ml_pool.segments import segments
from ml_pool.work import Work
from ml_pool.workers import State, Worker, describe_end

log = logging.getLogger("ml_pool")

STATUS_TIME = 0.03  # how long to wait for word of how a worker ended, which is there within a millisecond
LOADING_DEATHS = 3  # of new workers in a row, after which the pool gives up


class Dispatcher:
    """Keeps `nb_workers` workers at work."""

    def __init__(self, nb_workers: int, schedule: Schedule, make_launcher: Callable[[], Launcher]) -> None:
        self.work = Work(schedule, self.wake)
        self.nb_workers = nb_workers
        self._make_launcher = make_launcher
        self._launcher = make_launcher()
        self._numbers = itertools.count()
        self._ready: Future[None] = Future()
        self._has_served = False  # workers of this launcher
        self._loading_deaths = 0
        self._is_abandoned = False
        self._selector = selectors.DefaultSelector()
        self._woken, self._waker = own_pair()
        for end in (self._woken, self._waker):
            end.setblocking(False)
        self._thread = threading.Thread(target=self._run, name="ml_pool", daemon=True)

    # --- called in any thread

    def start(self) -> None:
        """Start the workers, and return when all of them have loaded their models."""
        self._selector.register(self._woken, selectors.EVENT_READ, self._on_wake)
        self._watch_launcher()
        segments.keepers.append(self.wake)
        self._thread.start()
        try:
            self._ready.result()
        except BaseException:
            self.stop(0.0)
            raise

    def wake(self) -> None:
        """Have the thread look at everything again."""
        with contextlib.suppress(OSError):
            self._waker.send(b"\0")

    def stop(self, timeout: float) -> None:
        """End all jobs, ask the workers to end, kill them after `timeout` seconds; returns when they are
        gone."""
        self.begin_stop(timeout)
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout + 10.0)

    def begin_stop(self, timeout: float) -> None:
        """The same, without waiting for them."""
        self.work.stop(PoolIsShutDown("the pool was shut down"), timeout)

    def abandon(self) -> None:
        """Have the thread end everything. Takes no lock, so a garbage collector may call it anywhere."""
        self._is_abandoned = True
        self.wake()

    # --- the thread

    def _run(self) -> None:
        try:
            while self.work.error is None or self.work.workers:
                self._step()
        except BaseException as error:  # a fault of ours: nobody may be left waiting
            log.exception("the pool's own thread failed")
            self._give_up(f"the pool failed: {error!r}")
        finally:
            self._close()

    def _step(self) -> None:
        while self.work.missing(self.nb_workers) > 0:
            self._start_worker()
        spare = segments.expire()
        until = self.work.sleep_until(None if spare is None else time.monotonic() + spare)
        for key, _ in self._selector.select(None if until is None else max(0.0, until - time.monotonic())):
            key.data()
        if self._is_abandoned:
            self.work.stop(PoolIsShutDown("the pool was forgotten, and so shut down"), 0.0)
        self.work.on_time(time.monotonic())

    def _on_wake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._woken.recv(4096)

    def _give_up(self, message: str, text: str = "") -> None:
        error = MLWorkerFailedBecauseOfUserProvidedCodeError(message, text)
        self.work.stop(error, 0.0)
        if not self._ready.done():
            self._ready.set_exception(error)

    def _close(self) -> None:
        segments.keepers.remove(self.wake)
        if not segments.keepers:
            segments.clear()
        for worker in self.work.workers.values():  # only after a fault of ours
            worker.kill()
            worker.close()
        self._close_launcher()
        self._selector.close()
        self._woken.close()
        self._waker.close()

    # --- workers

    def _start_worker(self) -> None:
        ours, theirs = own_pair()
        worker = Worker(next(self._numbers), Channel(ours))
        with theirs:
            try:
                self._launcher.start(worker.number, theirs, worker.channel)
            except OSError:
                worker.close()
                self._replace_launcher()
                return
        self.work.add_worker(worker)
        self._selector.register(worker.channel, selectors.EVENT_READ, partial(self._hear, worker))

    def _hear(self, worker: Worker) -> None:
        if worker.number in self.work.workers:  # else it has ended in this very step
            frames, is_open = worker.channel.receive_ready()
            for frame in frames:
                self._on_frame(worker, frame)
            if not is_open:
                self._on_end(worker)

    def _on_process_end(self, worker: Worker) -> None:
        """The process is gone, though some child of it may hold the socket open."""
        while worker.number in self.work.workers:
            frames, is_open = worker.channel.receive_ready()
            for frame in frames:
                self._on_frame(worker, frame)
            if not frames or not is_open:
                self._on_end(worker)

    def _on_frame(self, worker: Worker, frame: Frame) -> None:
        if frame.kind in (Kind.DONE, Kind.FAILED):
            self._on_answer(worker, frame)
        elif frame.kind == Kind.PROGRESS:
            self._on_progress(worker, frame)
        elif frame.kind == Kind.HELLO:
            self.work.on_hello(worker, int(frame.body), frame.fd)
            if frame.fd is not None:
                self._selector.register(frame.fd, selectors.EVENT_READ, partial(self._on_process_end, worker))
        elif frame.kind == Kind.READY:
            self._has_served = True
            self._loading_deaths = 0
            if self.work.on_ready(worker) and not self._ready.done():
                self._ready.set_result(None)
        elif frame.kind == Kind.LOAD_FAILED:
            self._on_load_failed(load_failed(frame))

    def _on_load_failed(self, error: LoadFailed) -> None:
        what = f"model {error.model_name!r} cannot be loaded" if error.model_name else "a worker cannot start"
        self._give_up(f"{what}: {error.text.strip().splitlines()[-1]}", error.text)

    def _on_answer(self, worker: Worker, frame: Frame) -> None:
        job = self.work.on_answer(worker)
        if job is None:  # it was cancelled meanwhile
            for fd in frame.fds:
                os.close(fd)
            return
        answer = read_answer(frame)
        self.work.figures.count(answer.error)
        answer.give_to(job)

    def _on_progress(self, worker: Worker, frame: Frame) -> None:
        job = self.work.job_of(worker)
        try:
            (number, value), _ = decode(frame.body, frame.fd)
            if job is not None and job.number == number and job.on_progress is not None:
                job.on_progress(value)
        except Exception:
            log.exception("on_progress of a job failed")

    def _on_end(self, worker: Worker) -> None:
        # Nobody asks how one ended that we have ended ourselves.
        how = describe_end(self._status(worker, 0.0 if worker.state is State.ENDING else STATUS_TIME))
        pid, was_loading = worker.pid, worker.state is State.LOADING
        self._selector.unregister(worker.channel)
        if worker.pidfd is not None:
            self._selector.unregister(worker.pidfd)
        job = self.work.on_end(worker)
        if job is not None:
            Answer(None, WorkerDied(f"the worker that ran the job (process {pid}) {how}")).give_to(job)
        if was_loading and self.work.error is None:
            self._loading_deaths += 1
            if not self._has_served or self._loading_deaths >= LOADING_DEATHS:
                self._give_up(f"a worker {how} while it loaded the models")

    def _status(self, worker: Worker, timeout: float) -> int | None:
        try:
            return self._launcher.exit_status(worker.number, timeout)
        except LoadFailed as error:
            self._on_load_failed(error)
            return None

    # --- the launcher

    def _watch_launcher(self) -> None:
        if self._launcher.channel is not None:
            self._selector.register(self._launcher.channel, selectors.EVENT_READ, self._hear_launcher)

    def _hear_launcher(self) -> None:
        try:
            is_open = self._launcher.hear()
        except LoadFailed as error:
            self._on_load_failed(error)
        else:
            if not is_open:
                self._replace_launcher()

    def _replace_launcher(self) -> None:
        """Start from a new template: the workers of one that was killed die with it."""
        self._close_launcher()
        if self.work.error is not None:
            return
        if not self._has_served:
            self._give_up("what workers are started from was killed before any had loaded its models")
            return
        self.work.kill_all()
        self._has_served = False  # should it die again before any worker is ready, that is all
        self._launcher = self._make_launcher()
        self._watch_launcher()

    def _close_launcher(self) -> None:
        if self._launcher.channel is not None:
            with contextlib.suppress(KeyError, ValueError):
                self._selector.unregister(self._launcher.channel)
        self._launcher.close(1.0)
