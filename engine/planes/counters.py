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
