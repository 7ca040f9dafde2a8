"""end to end: the names of MLPool 0.1.0 and what they promise, on real workers."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from ml_pool import MLPool
from ml_pool.exceptions import (
    JobTimedOut,
    JobWithSuchIDDoesntExistError,
    MLPoolError,
    MLWorkerFailedBecauseOfUserProvidedCodeError,
    UserProvidedCallableError,
    UserProvidedCallableFailedError,
)
from tests.ml_pool import functions
from tests.ml_pool.conftest import WAIT, begin, until


def create(pool: MLPool, *arguments: Any, **how: Any) -> uuid.UUID:
    job_id = pool.create_job(*arguments, **how)
    assert job_id is not None
    return job_id


def test_a_job_is_created_and_its_result_fetched_once(pool: MLPool) -> None:
    job_id = create(pool, functions.add, "adder", args=(2,), kwargs={"twice": True})
    assert isinstance(job_id, uuid.UUID)
    assert pool.get_result(job_id) == 4.0
    with pytest.raises(JobWithSuchIDDoesntExistError, match=f"no job {job_id}"):
        pool.get_result(job_id)


def test_models_are_what_their_functions_returned() -> None:
    loaders = {"one": functions.load_adder, "ten": partial(functions.load_adder, 10.0)}
    with MLPool(models_to_load=loaders, nb_workers=1) as pool:
        assert pool.get_result(create(pool, functions.add, "one", (1,))) == 2.0
        assert pool.get_result(create(pool, functions.add, "ten", [1])) == 11.0


def test_a_result_that_is_not_there_is_none_to_who_does_not_wait(pool: MLPool) -> None:
    job_id = create(pool, functions.block, "adder")
    assert pool.get_result(job_id, wait_if_unavailable=False) is None
    with pytest.raises(TimeoutError, match="has not ended within"):
        pool.get_result(job_id, timeout=0.01)
    assert pool.cancel_job(job_id)


def test_a_full_queue_takes_no_job_of_who_does_not_wait(lone: MLPool) -> None:
    begin(lone)
    queued = [create(lone, functions.add, "adder", (n,)) for n in range(3)]
    assert lone.create_job(functions.add, "adder", (9,), wait_if_full=False) is None
    assert lone.cancel_job(queued[0])
    assert lone.create_job(functions.add, "adder", (9,), wait_if_full=False) is not None


def test_who_waits_for_room_gets_it_in_the_order_of_coming(lone: MLPool) -> None:
    blocking = begin(lone)
    entered: list[float] = []
    results: list[float] = []

    def call(value: float) -> None:
        job_id = create(lone, functions.add, "adder", (value,))
        entered.append(value)
        results.append(lone.get_result(job_id))

    threads = []
    for count in range(1, 10):
        threads.append(threading.Thread(target=call, args=(count,)))
        threads[-1].start()
        until(lambda count=count: lone.statistics()["queued"] >= count)
    assert sorted(entered) == [1, 2, 3]
    blocking.cancel()
    for thread in threads:
        thread.join(WAIT)
    assert sorted(results) == [float(n + 1) for n in range(1, 10)]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ((functions.add, "nobody"), "there is no model 'nobody'; the pool has 'adder'"),
        (("add", "adder"), "a scoring function can be called, 'add' cannot"),
        ((lambda model: 1, "adder"), "cannot be sent to a worker .* no lambda"),
        (
            (functions.add, "adder", (threading.Lock(),)),
            "an argument cannot be sent to a worker: cannot pickle",
        ),
    ],
)
def test_what_no_worker_could_run_is_a_value_error(pool: MLPool, arguments: Any, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        pool.create_job(*arguments)


def test_a_coroutine_function_is_refused(pool: MLPool) -> None:
    async def score(model: Any) -> None: ...

    with pytest.raises(ValueError, match="is a coroutine function"):
        pool.create_job(score, "adder")


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"nb_workers": -1}, "at least one worker, not -1"),
        ({"message_queue_size": 0}, "room for at least one job, not 0"),
        ({"result_ttl": 0}, "more than 0 seconds, not 0"),
        ({"retries": -1}, "0 times or more, not -1"),
        ({"threads_per_worker": 0}, "at least one thread, not 0"),
        ({"start_method": "thread"}, "one of forkserver, fork, spawn, not 'thread'"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        MLPool({"adder": functions.load_adder}, **settings)


def test_a_timeout_or_a_window_that_makes_no_sense_is_refused(pool: MLPool) -> None:
    with pytest.raises(ValueError, match="above 0, not 0"):
        pool.submit(functions.add, "adder", 1, timeout=0)
    with pytest.raises(ValueError, match="at least one job, not 0"):
        pool.map(functions.add, "adder", [1], window=0)


def test_what_cannot_be_called_or_sent_loads_nothing() -> None:
    loader: Any = "no function"
    with pytest.raises(UserProvidedCallableError, match="model 'adder' cannot be called: 'no function'"):
        MLPool({"adder": loader})
    with pytest.raises(UserProvidedCallableError, match="no lambda"):
        MLPool({"adder": lambda: 1})
    with pytest.raises(ValueError, match="no lambda"):
        MLPool({"adder": lambda: 1})


@pytest.mark.parametrize("share_models", [False, True])
@pytest.mark.parametrize(
    ("load", "problem"),
    [
        (functions.load_and_raise, "model 'bad' cannot be loaded: ValueError: the weights are gone"),
        (functions.load_nothing, "model 'bad' cannot be loaded: .* returned None"),
        (functions.load_and_crash, "killed before|while it loaded the models"),
        (partial(functions.load_if_there, "/nowhere"), "model 'bad' cannot be loaded: FileNotFoundError"),
    ],
)
def test_a_model_that_does_not_load_is_said_by_the_constructor(
    nothing_left: None, load: Any, problem: str, share_models: bool
) -> None:
    with pytest.raises(MLWorkerFailedBecauseOfUserProvidedCodeError, match=problem) as raised:
        MLPool({"good": functions.load_adder, "bad": load}, 2, share_models=share_models)
    assert isinstance(raised.value, UserProvidedCallableFailedError)
    if load is functions.load_and_raise:
        assert 'raise ValueError("the weights are gone")' in raised.value.traceback
    raised.value.__traceback__ = None


def test_a_function_that_raises_fails_its_own_job_only(pool: MLPool) -> None:
    before = pool.statistics()["workers"]
    jobs = [create(pool, functions.divide, "adder", (n % 2,)) for n in range(10)]
    for n, job_id in enumerate(jobs):
        if n % 2:
            assert pool.get_result(job_id) == 1.0
            continue
        with pytest.raises(UserProvidedCallableFailedError) as raised:
            pool.get_result(job_id)
        assert str(raised.value).startswith("ZeroDivisionError: division by zero\n\nTraceback")
        assert "return 1 / by" in raised.value.traceback
        assert isinstance(raised.value.__cause__, ZeroDivisionError)
    assert [each["pid"] for each in before] == [each["pid"] for each in pool.statistics()["workers"]]


@pytest.mark.parametrize(
    ("function", "problem"),
    [
        (functions.raise_unpicklable, "Unpicklable: unpicklable"),
        (functions.raise_system_exit, "SystemExit: 3"),
        (functions.return_unpicklable, "what the function returned cannot be sent back: cannot pickle"),
        (functions.return_poison, "what the job returned cannot be read: RuntimeError"),
    ],
)
def test_odd_ends_of_a_function_are_the_jobs_failure(pool: MLPool, function: Any, problem: str) -> None:
    before = [each["pid"] for each in pool.statistics()["workers"]]
    with pytest.raises(UserProvidedCallableFailedError, match=problem):
        pool.get_result(create(pool, function, "adder"))
    assert [each["pid"] for each in pool.statistics()["workers"]] == before


def test_a_result_expires_and_its_memory_goes(nothing_left: None) -> None:
    with MLPool({"adder": functions.load_adder}, 1, result_ttl=0.05) as pool:
        ended = threading.Event()
        job_id = create(pool, functions.zeros, "adder", (30_000_000,))
        future = pool._work.schedule.find(job_id)
        assert future is not None
        future.future.add_done_callback(lambda _: ended.set())
        del future
        assert ended.wait(WAIT)
        until(lambda: pool.statistics()["kept"] == 0)
        with pytest.raises(JobWithSuchIDDoesntExistError):
            pool.get_result(job_id)


def test_a_job_past_its_timeout_fails_whether_it_runs_or_waits(lone: MLPool) -> None:
    first = lone.submit(functions.block, "adder", timeout=0.1)
    second = lone.submit(functions.add, "adder", 1, timeout=0.05)
    with pytest.raises(JobTimedOut, match="had not ended"):
        second.result(WAIT)
    assert not first.done()
    with pytest.raises(TimeoutError):
        first.result(WAIT)
    assert lone.submit(functions.add, "adder", 1, timeout=WAIT).result(WAIT) == 2.0
    assert lone.statistics()["timed_out"] == 2


def test_progress_is_reported_to_its_own_job(pool: MLPool) -> None:
    steps: list[float] = []
    assert pool.submit(functions.report_steps, "adder", 4, on_progress=steps.append).result(WAIT) == "done"
    assert steps == [0.25, 0.5, 0.75, 1.0]
    assert pool.submit(functions.report_steps, "adder", 4).result(WAIT) == "done"


def test_a_callback_that_raises_harms_nobody(pool: MLPool, caplog: pytest.LogCaptureFixture) -> None:
    def refuse(_: float) -> None:
        raise ValueError("not today")

    assert pool.submit(functions.report_steps, "adder", 2, on_progress=refuse).result(WAIT) == "done"
    assert "on_progress of a job failed" in caplog.text


def test_map_keeps_the_order_and_its_window(pool: MLPool) -> None:
    asked: list[int] = []
    progress: list[tuple[int, int | None]] = []

    def values() -> Iterator[int]:
        for n in range(50):
            asked.append(n)
            yield n

    results = pool.map(
        functions.add, "adder", values(), window=5, on_progress=lambda *at: progress.append(at)
    )
    assert next(results) == 1.0
    assert len(asked) == 5
    assert list(results) == [n + 1.0 for n in range(1, 50)]
    assert progress == [(n, None) for n in range(1, 51)]
    assert list(pool.map(functions.add, "adder", [])) == []


def test_map_that_is_left_early_cancels_the_rest(pool: MLPool) -> None:
    results = pool.map(functions.divide, "adder", [1, 0, *range(2, 500)], window=100)
    assert next(results) == 1.0
    with pytest.raises(UserProvidedCallableFailedError, match="division by zero"):
        next(results)
    assert pool.submit(functions.add, "adder", 1).result(WAIT) == 2.0
    assert pool.statistics()["queued"] == 0


def test_statistics_count_what_happened(lone: MLPool) -> None:
    begin(lone).cancel()
    lone.submit(functions.add, "adder", 1).result(WAIT)
    lone.submit(functions.divide, "adder", 0).exception(WAIT)
    lone.submit(functions.crash, "adder").exception(WAIT)
    job_id = create(lone, functions.pid, "adder")
    worker_pid = lone.get_result(job_id)
    figures = lone.statistics()
    counted = {name: figures[name] for name in ("queued", "running", "kept", "done", "failed", "cancelled")}
    assert counted == {"queued": 0, "running": 0, "kept": 0, "done": 2, "failed": 2, "cancelled": 1}
    assert figures["restarts"] == 2
    assert figures["ran"]["count"] == 3
    assert figures["workers"] == [{"pid": worker_pid, "state": "idle", "jobs": 1}]


def test_many_threads_share_a_pool(pool: MLPool) -> None:
    wrong: list[Any] = []

    def call(base: int) -> None:
        for n in range(base, base + 50):
            job_id = create(pool, functions.add, "adder", (n,))
            if (result := pool.get_result(job_id)) != n + 1.0:
                wrong.append((n, result))

    threads = [threading.Thread(target=call, args=(1000 * index,)) for index in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
    assert wrong == []


def test_every_error_is_a_pool_error() -> None:
    for error in (JobTimedOut, JobWithSuchIDDoesntExistError, UserProvidedCallableError):
        assert issubclass(error, MLPoolError)
    assert issubclass(MLWorkerFailedBecauseOfUserProvidedCodeError, MLPoolError)
