"""What a pool counts. Pure; whoever owns it serialises what is done to it."""

from __future__ import annotations

from typing import Any

import msgspec

from common.stats import Latency
from ml_pool.jobs import Job


class Figures:
    """Counts of jobs by how they ended, and how long those took that ended by themselves."""

    def __init__(self) -> None:
        self.done = 0
        self.failed = 0
        self.cancelled = 0
        self.timed_out = 0
        self.retried = 0
        self.restarts = 0  # workers that took the place of another
        self._waited = Latency()
        self._ran = Latency()

    def count(self, error: BaseException | None) -> None:
        """Count what a worker answered."""
        if error is None:
            self.done += 1
        else:
            self.failed += 1

    def record(self, job: Job, now: float) -> None:
        """Count the times of a job that a worker has answered."""
        self._waited.record(job.started - job.created)
        self._ran.record(now - job.started)

    def snapshot(self) -> dict[str, Any]:
        """All of it, ready for JSON; seconds."""
        return {
            "done": self.done,
            "failed": self.failed,
            "cancelled": self.cancelled,
            "timed_out": self.timed_out,
            "retried": self.retried,
            "restarts": self.restarts,
            "waited": msgspec.to_builtins(self._waited.snapshot()),
            "ran": msgspec.to_builtins(self._ran.snapshot()),
        }
