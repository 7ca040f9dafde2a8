"""MLPool: models in worker processes, jobs from threads, asyncio and trio.

    with MLPool({"iris": load_iris}, nb_workers=4) as pool:
        prediction = pool.submit(score, "iris", features).result()      # or: await pool.submit(…)

Everything that waits is in `dispatcher`; this is the surface, and what is checked before a job is accepted.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import uuid
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from concurrent.futures import TimeoutError as FutureTimeoutError
from functools import partial
from types import TracebackType
from typing import Any

from ml_pool.awaiting import in_thread, wait
from ml_pool.dispatcher import Dispatcher
from ml_pool.exceptions import JobWithSuchIDDoesntExistError
from ml_pool.jobs import Job, JobFuture, OnProgress, next_number
from ml_pool.launchers import START_METHODS, make_launcher
from ml_pool.mapping import map_in_order
from ml_pool.payload import Encoded
from ml_pool.schedule import Schedule
from ml_pool.sending import Calls, Load, Score, configure

_dispatchers: weakref.WeakSet[Dispatcher] = weakref.WeakSet()


# What a fork of the program inherits is its parent's.
os.register_at_fork(after_in_child=_dispatchers.clear)


@atexit.register
def _stop_all() -> None:
    for dispatcher in list(_dispatchers):
        dispatcher.stop(0.0)


class MLPool:
    """Thread-safe. The constructor returns when every worker has loaded every model.

    `models_to_load`: functions without arguments, each called once in each worker; with `share_models`,
    once for all, before the workers are forked from the process that did. `nb_workers`: the cores but one.
    At most `message_queue_size` jobs that were created wait for a worker. A result that nobody fetches is
    forgotten after `result_ttl` seconds. `retries`: how often a job is run again whose worker died.
    `threads_per_worker` bounds the threads of torch, OpenMP and BLAS. `start_method`: `forkserver`, `fork`
    or `spawn`. `preload`: modules to import before workers are forked, beside those of `__main__` and of
    the functions that load.

    Raises `UserProvidedCallableError` for what cannot be called, `CallableCannotBeSent` (a `ValueError`)
    for what cannot be pickled, and `MLWorkerFailedBecauseOfUserProvidedCodeError` where a model does not
    load.
    """

    def __init__(
        self,
        models_to_load: Mapping[str, Load],
        nb_workers: int | None = None,
        message_queue_size: int = 100,
        result_ttl: float = 300.0,
        *,
        retries: int = 0,
        threads_per_worker: int = 1,
        share_models: bool = False,
        start_method: str = "forkserver",
        preload: Sequence[str] = (),
    ) -> None:
        if nb_workers is None:
            nb_workers = (os.cpu_count() or 1) - 1
        _check_settings(nb_workers, message_queue_size, result_ttl, retries, threads_per_worker, start_method)
        self._retries = retries
        self._pid = os.getpid()
        self._calls = Calls(models_to_load, start_method)
        config, modules = configure(dict(models_to_load), start_method, threads_per_worker, share_models)
        make = partial(make_launcher, start_method, config, modules | set(preload))
        self._dispatcher = Dispatcher(max(1, nb_workers), Schedule(message_queue_size, result_ttl), make)
        self._work = self._dispatcher.work
        _dispatchers.add(self._dispatcher)
        self._finalizer = weakref.finalize(self, self._dispatcher.abandon)
        self._finalizer.atexit = False
        self._dispatcher.start()

    # --- jobs that are fetched by their ids, as in MLPool 0.1.0

    def create_job(
        self,
        score_model_function: Score,
        model_name: str,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        *,
        wait_if_full: bool = True,
        timeout: float | None = None,
        retries: int | None = None,
        on_progress: OnProgress | None = None,
    ) -> uuid.UUID | None:
        """Have `score_model_function(model, *args, **kwargs)` called in a worker; the id to fetch its
        result by.

        Where the queue is full this waits for room, or returns None with `wait_if_full=False`. `timeout`:
        how many seconds after this call the job has to have ended; then it fails with `JobTimedOut`.
        `retries`: see the constructor. `on_progress` is called in a thread of the pool with what the
        function gives to `ml_pool.report`. `ValueError` for an unknown model, and for what cannot be sent.
        """
        encoded = self._encode(score_model_function, model_name, args, kwargs)
        if not wait_if_full and self._work.schedule.is_full:
            return None
        job = self._make_job(encoded, model_name, timeout, retries, on_progress, fetched_by_id=True)
        if not self._work.add(job, wait_if_full=wait_if_full):
            return None
        if job.waiting_for_room is not None:
            try:
                job.waiting_for_room.result()
            except BaseException:
                self.cancel_job(job.id)
                raise
            self._check_entered(job)
        return job.id

    async def create_job_async(
        self,
        score_model_function: Score,
        model_name: str,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        *,
        wait_if_full: bool = True,
        timeout: float | None = None,
        retries: int | None = None,
        on_progress: OnProgress | None = None,
    ) -> uuid.UUID | None:
        """As `create_job`, for asyncio and trio: nobody else waits while this waits for room, nor while a
        large argument is copied."""
        encoded = self._encode(score_model_function, model_name, args, kwargs)
        if not wait_if_full and self._work.schedule.is_full:
            return None
        make = partial(self._make_job, encoded, model_name, timeout, retries, on_progress, fetched_by_id=True)
        job = await _make_in_thread(make) if encoded[1].is_large else make()
        if not self._work.add(job, wait_if_full=wait_if_full):
            return None
        if job.waiting_for_room is not None:
            try:
                await wait(job.waiting_for_room)
            except BaseException:
                self.cancel_job(job.id)
                raise
            self._check_entered(job)
        return job.id

    def get_result(
        self, job_id: uuid.UUID, *, wait_if_unavailable: bool = True, timeout: float | None = None
    ) -> Any:
        """A job's result, once: after that its id is unknown. What the job failed with is raised.

        While it has not ended this waits, at most `timeout` seconds (`TimeoutError`), or returns None with
        `wait_if_unavailable=False`. `JobWithSuchIDDoesntExistError` for an unknown id.
        """
        job = self._find(job_id)
        if not wait_if_unavailable and not job.has_ended:
            return None
        try:
            with contextlib.suppress(CancelledError):
                job.future.exception(timeout)
        except FutureTimeoutError:
            raise TimeoutError(f"job {job_id} has not ended within {timeout} s") from None
        return self._fetch(job)

    async def get_result_async(self, job_id: uuid.UUID) -> Any:
        """As `get_result`, for asyncio and trio. Where this is cancelled, the job goes on, and can be fetched
        later."""
        job = self._find(job_id)
        with contextlib.suppress(Exception):
            await wait(job.future)
        return self._fetch(job)

    def cancel_job(self, job_id: uuid.UUID) -> bool:
        """Whether the job had not ended: it is not run, or is ended with its worker, which is replaced. Its
        id, and its result where there is one, are forgotten. An unknown id is no error."""
        self._check_process()
        with self._work.lock:
            job = self._work.schedule.forget(job_id)
        return job is not None and self._work.cancel(job)

    # --- jobs that are futures

    def submit(
        self,
        fn: Score,
        model_name: str,
        /,
        *args: Any,
        timeout: float | None = None,
        retries: int | None = None,
        on_progress: OnProgress | None = None,
        **kwargs: Any,
    ) -> JobFuture:
        """Have `fn(model, *args, **kwargs)` called in a worker; a `concurrent.futures.Future` that asyncio
        and trio can await.

        It never waits: what is over the queue's size waits beside it. `timeout`, `retries` and
        `on_progress` as in `create_job`; where `fn` has parameters of these names, use that.
        """
        encoded = self._encode(fn, model_name, args, kwargs)
        job = self._make_job(encoded, model_name, timeout, retries, on_progress, fetched_by_id=False)
        future = job.future
        self._work.add(job)
        return future

    def map(
        self,
        fn: Score,
        model_name: str,
        values: Iterable[Any],
        *,
        window: int | None = None,
        timeout: float | None = None,
        retries: int | None = None,
        on_progress: Callable[[int, int | None], object] | None = None,
    ) -> Iterator[Any]:
        """`fn(model, value)` of each value, in order, as they become ready.

        At most `window` of them (four for each worker) are under way or wait to be taken. `on_progress` is
        called in this thread with how many were taken and how many there are (None where `values` has no
        length). What a job failed with is raised when its turn comes; whoever stops early cancels the rest.
        """
        size = window if window is not None else 4 * self._dispatcher.nb_workers
        if size < 1:
            raise ValueError(f"a window holds at least one job, not {size}")
        submit = partial(self.submit, fn, model_name, timeout=timeout, retries=retries)
        return map_in_order(submit, values, size, on_progress)

    # --- the pool itself

    def statistics(self) -> dict[str, Any]:
        """`queued`, `running`, `kept` (jobs that are known by their ids); since the start `done`, `failed`,
        `cancelled`, `timed_out` (of the failed), `retried`, `restarts` of workers; `waited` and `ran`, each
        with `count`, `mean`, `p50`, `p95`, `p99`, `max` in seconds; and for each of the `workers` its
        `pid`, `state` and number of `jobs`."""
        return self._work.snapshot()

    def shutdown(self, timeout: float = 5.0) -> None:
        """End the pool: jobs that have not ended fail with `PoolIsShutDown`; workers are asked to end, and
        killed after `timeout` seconds. Returns when all of them are gone. Calling it again does nothing."""
        if self._pid == os.getpid():
            self._dispatcher.stop(timeout)

    def __enter__(self) -> MLPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()

    async def __aenter__(self) -> MLPool:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._dispatcher.begin_stop(5.0)
        await in_thread(self.shutdown)

    # --- inside

    def _encode(
        self,
        function: Score,
        model_name: str,
        args: Sequence[Any] | None,
        kwargs: Mapping[str, Any] | None,
    ) -> tuple[int, Encoded]:
        self._check_process()
        self._work.check()
        number = next_number()
        return number, self._calls.encode(number, function, model_name, args, kwargs)

    def _make_job(
        self,
        encoded: tuple[int, Encoded],
        model_name: str,
        timeout: float | None,
        retries: int | None,
        on_progress: OnProgress | None,
        *,
        fetched_by_id: bool,
    ) -> Job:
        if timeout is not None and not timeout > 0:
            raise ValueError(f"a job's timeout is a number of seconds above 0, not {timeout!r}")
        if retries is not None and retries < 0:
            raise ValueError(f"a job is tried again 0 times or more, not {retries}")
        number, content = encoded
        return Job(
            number,
            content.pack(),
            model_name,
            JobFuture(self._work),
            timeout=timeout,
            retries=self._retries if retries is None else retries,
            on_progress=on_progress,
            fetched_by_id=fetched_by_id,
        )

    def _check_entered(self, job: Job) -> None:
        if job.has_ended:
            self._work.check()

    def _find(self, job_id: uuid.UUID) -> Job:
        self._check_process()
        with self._work.lock:
            job = self._work.schedule.find(job_id)
        if job is None:
            self._work.check()
            raise _unknown(job_id)
        return job

    def _fetch(self, job: Job) -> Any:
        """The result of a job that has ended; also where it expired while its caller woke up."""
        with self._work.lock:
            self._work.schedule.forget(job.id)
            is_fetched, job.is_fetched = job.is_fetched, True
        if is_fetched or job.future.cancelled():
            raise _unknown(job.id)
        return job.future.result()

    def _check_process(self) -> None:
        if self._pid != os.getpid():
            raise RuntimeError(f"this pool belongs to process {self._pid}: make one after the fork")


async def _make_in_thread(make: Callable[[], Job]) -> Job:
    made: list[Job] = []
    try:
        await in_thread(lambda: made.append(make()))
    except BaseException:  # cancelled, while the thread went on
        for job in made:
            job.packed.close()
        raise
    return made[0]


def _unknown(job_id: uuid.UUID) -> JobWithSuchIDDoesntExistError:
    return JobWithSuchIDDoesntExistError(
        f"there is no job {job_id}: it was never created, or is fetched, cancelled or expired"
    )


def _check_settings(
    nb_workers: int, size: int, result_ttl: float, retries: int, threads: int, start_method: str
) -> None:
    if nb_workers < 0:
        raise ValueError(f"a pool has at least one worker, not {nb_workers}")
    if size < 1:
        raise ValueError(f"a queue has room for at least one job, not {size}")
    if not result_ttl > 0:
        raise ValueError(f"results are kept for more than 0 seconds, not {result_ttl}")
    if retries < 0:
        raise ValueError(f"a job is tried again 0 times or more, not {retries}")
    if threads < 1:
        raise ValueError(f"a worker has at least one thread, not {threads}")
    if start_method not in START_METHODS:
        raise ValueError(f"start_method is one of {', '.join(START_METHODS)}, not {start_method!r}")
