"""One job, and the future that its caller holds. No process and no socket here."""

from __future__ import annotations

import itertools
import time
import uuid
from collections.abc import Callable, Generator
from concurrent.futures import Future
from typing import Any, Protocol

from ml_pool.awaiting import wait
from ml_pool.payload import Packed

OnProgress = Callable[..., object]

_numbers = itertools.count()


def next_number() -> int:
    """The number of the next job: what it and its worker call it by."""
    return next(_numbers)


class Canceller(Protocol):
    """What a future asks when it is cancelled."""

    def cancel(self, job: Job) -> bool:
        """Whether the job had not ended yet; it has now."""


class JobFuture(Future[Any]):
    """A `concurrent.futures.Future` that can be awaited under asyncio and under trio, too.

    `cancel` also ends a job that runs already, and so does cancelling the `await`.
    """

    def __init__(self, canceller: Canceller) -> None:
        super().__init__()
        self._canceller = canceller
        self.job: Job | None = None

    def cancel(self) -> bool:
        """Whether the job had not ended: then it is not run, or its worker is ended and replaced."""
        job = self.job
        if job is None or self.done():
            return self.cancelled()
        return self._canceller.cancel(job) or self.cancelled()

    def running(self) -> bool:
        """Whether a worker has it now."""
        return not self.done() and self.job is not None and self.job.is_running

    def set_cancelled(self) -> None:
        """Tell those who wait that it was cancelled. For the pool."""
        self.job = None
        super().cancel()
        self.set_running_or_notify_cancel()

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._wait().__await__()

    async def _wait(self) -> Any:
        try:
            return await wait(self)
        finally:
            if not self.done():
                self.cancel()


class Job:
    """A job's life: it waits, it runs, it has ended; `is_running` and `has_ended` are the schedule's to set.

    `deadline` is on the clock of `time.monotonic`. `waiting_for_room`, where somebody waits until the job
    is in the queue, is done as soon as it is.
    """

    __slots__ = (
        "created", "deadline", "fetched_by_id", "future", "has_ended", "id", "is_fetched", "is_running",
        "model_name", "number", "on_progress", "packed", "retries", "started", "waiting_for_room",
    )  # fmt: skip

    def __init__(
        self,
        number: int,
        packed: Packed,
        model_name: str,
        future: JobFuture,
        *,
        timeout: float | None,
        retries: int,
        on_progress: OnProgress | None = None,
        fetched_by_id: bool = False,
    ) -> None:
        self.id = uuid.uuid4()
        self.number = number
        self.packed = packed
        self.model_name = model_name
        self.future = future
        future.job = self
        self.created = time.monotonic()
        self.started = 0.0
        self.deadline = None if timeout is None else self.created + timeout
        self.retries = retries
        self.on_progress = on_progress
        self.fetched_by_id = fetched_by_id
        self.waiting_for_room: Future[None] | None = None
        self.is_running = False
        self.has_ended = False
        self.is_fetched = False

    def __repr__(self) -> str:
        state = "ended" if self.has_ended else "running" if self.is_running else "waiting"
        return f"<Job {self.id} for {self.model_name!r}: {state}>"
