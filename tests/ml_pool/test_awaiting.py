"""end to end: a pool under asyncio and under trio, whose event loop never waits for it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import CancelledError, wait
from typing import Any

import numpy as np
import pytest
import trio

from ml_pool import MLPool
from ml_pool.exceptions import JobWithSuchIDDoesntExistError, UserProvidedCallableFailedError, WorkerDied
from tests.ml_pool import functions
from tests.ml_pool.conftest import WAIT, begin

Run = Callable[..., Any]


def run_asyncio(main: Callable[..., Awaitable[Any]], *arguments: Any) -> Any:
    async def bounded() -> Any:
        return await asyncio.wait_for(main(*arguments), 20)

    return asyncio.run(bounded())


def run_trio(main: Callable[..., Awaitable[Any]], *arguments: Any) -> Any:
    async def bounded() -> Any:
        with trio.fail_after(20):
            return await main(*arguments)

    return trio.run(bounded)


@pytest.fixture(params=[run_asyncio, run_trio], ids=["asyncio", "trio"])
def run(request: pytest.FixtureRequest) -> Run:
    """Run an async function to its end."""
    chosen: Run = request.param
    return chosen


def test_jobs_are_created_and_fetched(pool: MLPool, run: Run) -> None:
    async def main() -> None:
        job_id = await pool.create_job_async(functions.add, "adder", (1,), {"twice": True})
        assert job_id is not None
        assert await pool.get_result_async(job_id) == 3.0
        with pytest.raises(JobWithSuchIDDoesntExistError):
            await pool.get_result_async(job_id)

    run(main)


def test_a_future_can_be_awaited(pool: MLPool, run: Run) -> None:
    async def main() -> None:
        assert await pool.submit(functions.add, "adder", 1) == 2.0
        done = pool.submit(functions.add, "adder", 2)
        done.result()
        assert await done == 3.0
        with pytest.raises(UserProvidedCallableFailedError):
            await pool.submit(functions.divide, "adder", 0)
        with pytest.raises(WorkerDied):
            await pool.submit(functions.die, "adder")

    run(main)


def test_errors_come_through_get_result_async_once(pool: MLPool, run: Run) -> None:
    async def main() -> None:
        job_id = await pool.create_job_async(functions.divide, "adder", (0,))
        assert job_id is not None
        with pytest.raises(UserProvidedCallableFailedError):
            await pool.get_result_async(job_id)
        with pytest.raises(JobWithSuchIDDoesntExistError):
            await pool.get_result_async(job_id)

    run(main)


def test_a_large_argument_goes_without_stopping_the_loop(pool: MLPool, run: Run) -> None:
    async def main() -> None:
        array = np.arange(2_000_000)
        job_id = await pool.create_job_async(functions.echo, "adder", (array,))
        assert job_id is not None
        np.testing.assert_array_equal(await pool.get_result_async(job_id), array)

    run(main)


def test_a_pool_is_left_without_stopping_the_loop(nothing_left: None, run: Run) -> None:
    async def main() -> None:
        async with MLPool({"adder": functions.load_adder}, 1) as pool:
            assert await pool.submit(functions.add, "adder", 1) == 2.0

    run(main)


def test_asyncio_who_stops_waiting_leaves_the_job_alone(pool: MLPool) -> None:
    async def main() -> None:
        begun = asyncio.Event()
        loop = asyncio.get_running_loop()
        job_id = await pool.create_job_async(
            functions.block, "adder", on_progress=lambda _: loop.call_soon_threadsafe(begun.set)
        )
        assert job_id is not None
        await begun.wait()
        task = asyncio.ensure_future(pool.get_result_async(job_id))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert pool.statistics()["running"] == 1
        assert pool.cancel_job(job_id)

    run_asyncio(main)


def test_trio_who_stops_waiting_leaves_the_job_alone(pool: MLPool) -> None:
    async def main() -> None:
        job_id = await pool.create_job_async(functions.block, "adder")
        assert job_id is not None
        with trio.move_on_after(0.01) as scope:
            await pool.get_result_async(job_id)
        assert scope.cancelled_caught
        assert pool.statistics()["running"] == 1
        assert pool.cancel_job(job_id)

    run_trio(main)


def test_asyncio_cancelling_an_awaited_future_ends_its_job(pool: MLPool) -> None:
    async def main() -> None:
        for await_it in (lambda future: _awaited(future), asyncio.wrap_future):
            future = pool.submit(functions.block, "adder")
            task = asyncio.ensure_future(await_it(future))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.to_thread(wait, [future], WAIT)  # wrap_future says it in a later turn of the loop
            assert future.cancelled()

    run_asyncio(main)


async def _awaited(future: Any) -> Any:
    return await future


def test_trio_cancelling_an_awaited_future_ends_its_job(pool: MLPool) -> None:
    async def main() -> None:
        future = pool.submit(functions.block, "adder")
        with trio.move_on_after(0.01):
            await future
        assert future.cancelled()
        assert pool.statistics()["running"] == 0

    run_trio(main)


def test_who_awaits_a_future_that_another_cancels_is_told(pool: MLPool, run: Run) -> None:
    async def main() -> None:
        future = pool.submit(functions.block, "adder")
        threading.Thread(target=future.cancel).start()
        with pytest.raises(CancelledError):
            await future

    run(main)


def test_who_waits_for_room_may_stop_waiting(lone: MLPool) -> None:
    async def main() -> None:
        blocking = begin(lone)
        for _ in range(3):
            lone.submit(functions.add, "adder", 1)
        assert await lone.create_job_async(functions.add, "adder", (1,), wait_if_full=False) is None
        with trio.move_on_after(0.01) as scope:
            await lone.create_job_async(functions.add, "adder", (1,))
        assert scope.cancelled_caught
        assert lone.statistics()["queued"] == 3
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lone.create_job_async, functions.add, "adder", (1,))
            await trio.testing.wait_all_tasks_blocked()
            assert lone.statistics()["queued"] == 4
            blocking.cancel()

    run_trio(main)


def test_hundreds_wait_at_once_and_cancel_at_once(pool: MLPool) -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for n in range(300):
                nursery.start_soon(_await_or_not, pool, n)
        assert await pool.submit(functions.add, "adder", 1) == 2.0
        figures = pool.statistics()
        assert (figures["queued"], figures["running"], figures["kept"]) == (0, 0, 0)

    run_trio(main)


async def _await_or_not(pool: MLPool, n: int) -> None:
    with trio.move_on_after(0 if n % 2 else 20):
        assert await pool.submit(functions.add, "adder", n) == n + 1.0
