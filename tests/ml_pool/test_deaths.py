"""end to end: workers that die in the middle of things, and jobs that are cancelled."""

from __future__ import annotations

import os
import signal
import threading
from concurrent.futures import CancelledError, wait
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from ml_pool import MLPool
from ml_pool.exceptions import (
    JobWithSuchIDDoesntExistError,
    MLWorkerFailedBecauseOfUserProvidedCodeError,
    WorkerDied,
)
from tests.ml_pool import functions
from tests.ml_pool.conftest import WAIT, begin, until, worker_pids


@pytest.mark.parametrize("start_method", ["forkserver", "spawn"])
@pytest.mark.parametrize(
    ("function", "arguments", "how"),
    [
        (functions.die, (), "was killed by SIGKILL"),
        (functions.crash, (), "was killed by SIGSEGV"),
        (functions.leave, (), "ended with exit code 3"),
    ],
)
def test_a_worker_that_dies_fails_its_job_and_is_replaced(
    start_method: str, function: Any, arguments: Any, how: str
) -> None:
    with MLPool({"adder": functions.load_adder}, 1, start_method=start_method) as pool:
        (pid,) = worker_pids(pool)
        # On a machine that is busy, word of how it ended may come later than the pool waits for it.
        with pytest.raises(WorkerDied, match=rf"\(process {pid}\) ({how}|ended$)"):
            pool.submit(function, "adder", *arguments).result(WAIT)
        assert pool.submit(functions.pid, "adder").result(WAIT) != pid


def test_a_worker_that_is_killed_fails_only_the_job_it_had(lone: MLPool) -> None:
    running = begin(lone)
    queued = [lone.submit(functions.add, "adder", n) for n in range(10)]
    os.kill(worker_pids(lone)[0], signal.SIGKILL)
    with pytest.raises(WorkerDied):
        running.result(WAIT)
    assert [future.result(WAIT) for future in queued] == [n + 1.0 for n in range(10)]


def test_the_end_of_a_worker_is_seen_though_its_own_child_lives(lone: MLPool) -> None:
    running = begin(lone, functions.block_with_a_child)
    worker = psutil.Process(worker_pids(lone)[0])
    (child,) = worker.children()
    worker.kill()
    try:
        with pytest.raises(WorkerDied):
            running.result(5)
        assert child.is_running()
    finally:
        child.kill()


def test_a_worker_that_lost_its_socket_is_killed(lone: MLPool) -> None:
    (pid,) = worker_pids(lone)
    with pytest.raises(WorkerDied):
        lone.submit(functions.close_everything, "adder").result(5)
    until(lambda: not psutil.pid_exists(pid))


def test_jobs_created_while_workers_die_are_neither_lost_nor_hung(pool: MLPool) -> None:
    """A worker that dies idle has run nothing: no caller hears of it."""
    for round_ in range(30):
        for pid in worker_pids(pool):
            if pid:
                os.kill(pid, signal.SIGKILL)
        futures = [pool.submit(functions.add, "adder", n) for n in range(4)]
        for n, future in enumerate(futures):
            try:
                assert future.result(WAIT) == n + 1.0, round_
            except WorkerDied:  # it was killed as it ran it
                continue
    assert pool.submit(functions.add, "adder", 1).result(WAIT) == 2.0


def test_a_job_is_tried_again_as_often_as_its_caller_says(pool: MLPool, tmp_path: Path) -> None:
    assert (
        pool.submit(functions.die_once, "adder", str(tmp_path / "first"), retries=1).result(WAIT) == "alive"
    )
    with pytest.raises(WorkerDied):
        pool.submit(functions.die, "adder", retries=2).result(WAIT)
    assert pool.statistics()["retried"] == 3


def test_a_large_argument_is_there_again_for_another_try(pool: MLPool, tmp_path: Path) -> None:
    array = np.arange(3_000_000)
    future = pool.submit(functions.die_once, "adder", str(tmp_path / "first"), retries=1)
    echoed = pool.submit(functions.echo, "adder", array, retries=1)
    np.testing.assert_array_equal(echoed.result(WAIT), array)
    assert future.result(WAIT) == "alive"


def test_an_error_of_the_function_is_not_tried_again(pool: MLPool) -> None:
    before = pool.statistics()["retried"]
    assert pool.submit(functions.divide, "adder", 0, retries=5).exception(WAIT)
    assert pool.statistics()["retried"] == before


def test_a_queued_job_that_is_cancelled_is_never_run(lone: MLPool, tmp_path: Path) -> None:
    running = begin(lone)
    queued = lone.submit(functions.die_once, "adder", str(tmp_path / "ran"))
    job_id = lone.create_job(functions.die_once, "adder", (str(tmp_path / "ran"),))
    assert job_id is not None
    assert queued.cancel()
    assert lone.cancel_job(job_id)
    assert not lone.cancel_job(job_id)
    assert lone.statistics()["queued"] == 0
    assert running.cancel()
    assert lone.submit(functions.add, "adder", 1).result(WAIT) == 2.0
    assert not (tmp_path / "ran").exists()
    with pytest.raises(JobWithSuchIDDoesntExistError):
        lone.get_result(job_id)


def test_a_running_job_that_is_cancelled_ends_with_its_worker(lone: MLPool) -> None:
    (pid,) = worker_pids(lone)
    running = begin(lone)
    assert running.running()
    assert running.cancel()
    assert running.cancelled()
    assert not running.running()
    assert wait([running], WAIT).done == {running}
    with pytest.raises(CancelledError):
        running.result()
    assert lone.submit(functions.pid, "adder").result(WAIT) != pid
    until(lambda: not psutil.pid_exists(pid))


def test_a_job_that_has_ended_cannot_be_cancelled(pool: MLPool) -> None:
    future = pool.submit(functions.add, "adder", 1)
    assert future.result(WAIT) == 2.0
    assert not future.cancel()
    job_id = pool.create_job(functions.add, "adder", (1,))
    assert job_id is not None
    assert pool.submit(functions.add, "adder", 1).result(WAIT) == 2.0
    pool.cancel_job(job_id)
    with pytest.raises(JobWithSuchIDDoesntExistError):
        pool.get_result(job_id)


def test_who_waits_for_a_job_that_another_cancels_is_told(lone: MLPool) -> None:
    blocking = begin(lone)
    job_id = lone.create_job(functions.add, "adder", (1,))
    assert job_id is not None
    raised: list[BaseException] = []

    def fetch() -> None:
        try:
            lone.get_result(job_id)
        except JobWithSuchIDDoesntExistError as error:
            raised.append(error)

    thread = threading.Thread(target=fetch)
    thread.start()
    assert lone.cancel_job(job_id)
    thread.join(WAIT)
    assert len(raised) == 1
    blocking.cancel()


def test_hundreds_of_cancels_at_once_leave_a_pool_that_works(nothing_left: None) -> None:
    with MLPool({"adder": functions.load_adder}, 2, message_queue_size=1000) as pool:
        futures = [pool.submit(functions.sleep, "adder", 30) for _ in range(300)]
        assert [future.cancel() for future in futures] == [True] * 300
        assert pool.submit(functions.add, "adder", 1).result(WAIT) == 2.0
        figures = pool.statistics()
        assert (figures["cancelled"], figures["queued"], figures["running"]) == (300, 0, 0)


def test_cancels_that_meet_answers_leave_every_job_ended_once(pool: MLPool) -> None:
    before = pool.statistics()
    futures = [pool.submit(functions.add, "adder", n) for n in range(300)]
    cancelled = sum(future.cancel() for future in futures[::2])
    ended = wait(futures, WAIT)
    assert not ended.not_done
    assert sum(future.cancelled() for future in futures) == cancelled
    after = pool.statistics()
    assert after["cancelled"] - before["cancelled"] == cancelled
    assert after["done"] - before["done"] == 300 - cancelled


def test_a_replacement_that_cannot_load_ends_the_pool_at_once(tmp_path: Path) -> None:
    weights = tmp_path / "weights"
    weights.write_text("2.0")
    with MLPool({"adder": partial(functions.load_if_there, str(weights))}, 1) as pool:
        assert pool.submit(functions.add, "adder", 1).result(WAIT) == 3.0
        weights.unlink()
        begin(pool)
        queued = pool.submit(functions.add, "adder", 1)
        os.kill(worker_pids(pool)[0], signal.SIGKILL)
        with pytest.raises(MLWorkerFailedBecauseOfUserProvidedCodeError, match="FileNotFoundError"):
            queued.result(WAIT)
        with pytest.raises(MLWorkerFailedBecauseOfUserProvidedCodeError, match="FileNotFoundError"):
            pool.create_job(functions.add, "adder", (1,))


def test_replacements_that_die_as_they_load_end_the_pool_in_the_end(tmp_path: Path) -> None:
    with MLPool({"adder": partial(functions.load_once, str(tmp_path / "loaded"))}, 1) as pool:
        with pytest.raises(WorkerDied):
            pool.submit(functions.die, "adder").result(WAIT)
        with pytest.raises(MLWorkerFailedBecauseOfUserProvidedCodeError, match="while it loaded the models"):
            pool.submit(functions.add, "adder", 1).result(WAIT)


@pytest.mark.parametrize("share_models", [False, True])
def test_a_pool_survives_the_process_that_its_workers_are_forked_from(share_models: bool) -> None:
    with MLPool({"adder": functions.load_adder}, 2, share_models=share_models) as pool:
        running = begin(pool)
        template, server = psutil.Process(worker_pids(pool)[0]).parents()[:2]
        template.kill()
        with pytest.raises(WorkerDied):
            running.result(WAIT)
        assert pool.submit(functions.add, "adder", 1).result(WAIT) == 2.0
        running = begin(pool)
        server.kill()
        with pytest.raises(WorkerDied):
            running.result(WAIT)
        worker = psutil.Process(pool.submit(functions.pid, "adder").result(WAIT))
        assert server.pid not in [each.pid for each in worker.parents()]
