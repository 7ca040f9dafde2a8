"""Pools for tests, and what has to be as it was when they are done."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import psutil
import pytest

from ml_pool import JobFuture, MLPool
from ml_pool.segments import segments
from tests.ml_pool import functions

WAIT = 20.0  # seconds after which a test has failed, on however slow a machine


@pytest.fixture(scope="module")
def pool() -> Iterator[MLPool]:
    """Two workers that a whole file uses: tests leave them as they were."""
    with MLPool({"adder": functions.load_adder}, 2) as opened:
        yield opened


@pytest.fixture
def lone() -> Iterator[MLPool]:
    """One worker, and room for three jobs."""
    with MLPool({"adder": functions.load_adder}, 1, message_queue_size=3) as opened:
        yield opened


def begin(pool: MLPool, function: Callable[..., Any] = functions.block, *args: Any, **how: Any) -> JobFuture:
    """Submit a job that reports as it begins, and return once it has."""
    begun = threading.Event()
    future = pool.submit(function, "adder", *args, on_progress=lambda _: begun.set(), **how)
    assert begun.wait(WAIT)
    return future


def until(is_so: Callable[[], bool]) -> None:
    """Return when something is so."""
    end = time.monotonic() + WAIT
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.001)


def worker_pids(pool: MLPool) -> list[int]:
    return [worker["pid"] for worker in pool.statistics()["workers"]]


def descendants() -> list[psutil.Process]:
    return psutil.Process().children(recursive=True)


def open_fds() -> dict[str, str]:
    """What this process has open, but for what only looking at it opens."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[name] = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            continue
    return found


def pool_threads() -> int:
    """How many threads pools have; event loops keep some of their own for a while."""
    return sum(thread.name == "ml_pool" for thread in threading.enumerate())


@pytest.fixture
def nothing_left() -> Iterator[None]:
    """What a test opens is closed when it ends: processes, descriptors, threads, memory."""
    with MLPool({"adder": functions.load_adder}, 1):
        pass  # the fork server stays, once there is one
    gc.collect()
    segments.clear()
    processes, fds, threads = set(descendants()), open_fds(), pool_threads()
    yield
    gc.collect()
    segments.clear()

    def new() -> list[Any]:
        """What was not there before. Other tests' libraries may close what is theirs meanwhile, not open."""
        opened = open_fds().items() - fds.items()
        return [*(set(descendants()) - processes), *sorted(opened)]

    end = time.monotonic() + 2.0  # the system may take a moment to end what is closed
    while new() and time.monotonic() < end:
        time.sleep(0.01)
    assert new() == []
    assert pool_threads() == threads
