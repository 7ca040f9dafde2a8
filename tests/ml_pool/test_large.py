"""end to end: arguments and results of megabytes, and the memory that they take."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch

from ml_pool import MLPool
from ml_pool.exceptions import WorkerDied
from tests.ml_pool import functions
from tests.ml_pool.conftest import WAIT, begin, open_fds, until, worker_pids

MIB = 1 << 20


def memory_files(pid: int | str = "self") -> int:
    """How many segments a process holds, open or mapped."""
    maps = Path(f"/proc/{pid}/maps").read_text().count("/memfd:ml_pool")
    links = [str(path.readlink()) for path in Path(f"/proc/{pid}/fd").iterdir() if path.is_symlink()]
    return maps + sum(link.startswith("/memfd:ml_pool") for link in links)


@pytest.mark.parametrize(
    "value",
    [
        np.arange(10 * MIB // 8),
        np.ones((1000, 700), np.float32)[:, ::3],
        {"a": [np.zeros(MIB, np.uint8), b"x" * (2 * MIB)], "b": "text"},
        b"y" * (10 * MIB),
    ],
    ids=["array", "slice", "mixed", "bytes"],
)
def test_large_things_come_back_equal(pool: MLPool, value: Any) -> None:
    np.testing.assert_equal(pool.submit(functions.echo, "adder", value).result(WAIT), value)


def test_tensors_come_back_equal(pool: MLPool) -> None:
    tensor = torch.rand(1000, 1000).to(torch.bfloat16)
    assert torch.equal(pool.submit(functions.echo, "adder", tensor).result(WAIT), tensor)


def test_arrays_may_be_written_to_on_both_sides_and_nobody_else_sees_it(pool: MLPool) -> None:
    array = np.zeros(4 * MIB, np.uint8)
    assert pool.submit(functions.write_into, "adder", array).result(WAIT) == 7.0 * array.size
    assert array.sum() == 0
    result = pool.submit(functions.echo, "adder", array).result(WAIT)
    result[:] = 1
    assert pool.submit(functions.echo, "adder", array).result(WAIT).sum() == 0


def test_a_result_outlives_its_pool() -> None:
    with MLPool({"adder": functions.load_adder}, 1) as pool:
        array = pool.submit(functions.echo, "adder", np.full(20 * MIB, 3, np.uint8)).result(WAIT)
    assert array.sum() == 60 * MIB


def test_memory_goes_back_when_nobody_needs_it(nothing_left: None) -> None:
    array = np.ones(20 * MIB, np.uint8)
    with MLPool({"adder": functions.load_adder}, 2) as pool:
        for _ in range(30):
            assert pool.submit(functions.echo, "adder", array).result(WAIT).size == array.size
        gc.collect()
        spares = [memory_files(), *map(memory_files, worker_pids(pool))]
        assert max(spares) <= 3
        until(lambda: [memory_files(), *map(memory_files, worker_pids(pool))] == [0, 0, 0])


def test_a_cancelled_or_failed_job_keeps_no_memory(nothing_left: None) -> None:
    array = np.ones(2 * MIB, np.uint8)
    with MLPool({"adder": functions.load_adder}, 1) as pool:
        before = len(open_fds())
        running = begin(pool, functions.block, array)
        queued = [pool.submit(functions.echo, "adder", array) for _ in range(20)]
        assert memory_files() == 21
        assert all(future.cancel() for future in [*queued, running])
        with pytest.raises(WorkerDied):
            pool.submit(functions.die, "adder", array).result(WAIT)
        assert pool.submit(functions.add, "adder", 1).result(WAIT) == 2.0
        assert memory_files() == 0
        assert len(open_fds()) == before


def test_segments_of_a_killed_worker_are_gone_with_it(lone: MLPool) -> None:
    running = begin(lone, functions.block, np.ones(50 * MIB, np.uint8))
    (pid,) = worker_pids(lone)
    assert memory_files(pid) > 0
    assert memory_files() == 1
    psutil.Process(pid).kill()
    with pytest.raises(WorkerDied):
        running.result(WAIT)
    assert memory_files() == 0
