"""The few threads of a `ModelServer`: they run what no caller waits for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from common.errors import NotRunning


class Background:
    """Tasks run in the order they came, so many at a time; threads start as they are needed.

    Invariant: what `run` accepted is run, also after `close`.
    """

    def __init__(self, threads: int) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="model-server")
        self._own = threading.local()
        self._busy = 0
        self._changed = threading.Condition()
        self._is_closed = False

    def run(self, task: Callable[..., None], *arguments: Any) -> None:
        """Have a task run soon; it must not raise. `NotRunning` after `close`."""
        with self._changed:
            if self._is_closed:
                raise NotRunning("the model server was stopped: call start() to serve again")
            self._busy += 1
            self._pool.submit(self._run, task, *arguments)

    def _run(self, task: Callable[..., None], *arguments: Any) -> None:
        self._own.is_here = True
        try:
            task(*arguments)
        finally:
            with self._changed:
                self._busy -= 1
                self._changed.notify_all()

    def close(self, timeout: float) -> bool:
        """Take nothing more and wait for what was taken, but not for the task that calls this; whether all
        of it ended within `timeout` seconds."""
        is_own = getattr(self._own, "is_here", False)
        end = time.monotonic() + timeout
        with self._changed:
            self._is_closed = True
            in_time = self._changed.wait_for(
                lambda: self._busy <= is_own, min(max(0.0, end - time.monotonic()), threading.TIMEOUT_MAX)
            )
        self._pool.shutdown(wait=in_time and not is_own)
        return in_time
