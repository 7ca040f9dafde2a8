"""What a worker counts of its own work, for `status`."""

from __future__ import annotations

import threading

from common.stats import Latency


class Counters:
    """Thread-safe. Latencies in seconds; the handling time of a request is that of its batch. Batches that
    were answered without the model do not count among the inference times."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.requests = 0
        self.rows = 0
        self.handling = Latency()
        self.infer = Latency()

    def count(self, *, requests: int, rows: int, handling: float, infer: float) -> None:
        """A batch was answered."""
        with self._lock:
            self.requests += requests
            self.rows += rows
            self.handling.record(handling, requests)
            if infer:
                self.infer.record(infer)

    def figures(self) -> dict[str, float]:
        """Means and percentiles now, by the names they have in `StatusAnswer`."""
        with self._lock:
            handling = self.handling.snapshot()
            return {
                "handling_mean": handling.mean,
                "infer_mean": self.infer.mean,
                "p50": handling.p50,
                "p95": handling.p95,
                "p99": handling.p99,
            }


class CpuUse:
    """How many cores a process keeps busy, over a span of `at_least` seconds or more: who asks more often is
    told the same again. Thread-safe."""

    def __init__(self, at_least: float = 1.0) -> None:
        self._at_least = at_least
        self._lock = threading.Lock()
        self._then = (0.0, 0.0)
        self._cores = 0.0

    def cores(self, now: float, used: float) -> float:
        """`used` are the seconds of processor time that the process has had by `now`."""
        with self._lock:
            then, used_then = self._then
            if now - then >= self._at_least:
                # The first span began with the clock, not with the process: nothing is known of it.
                self._cores = (used - used_then) / (now - then) if then else 0.0
                self._then = (now, used)
            return self._cores
