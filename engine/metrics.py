"""What one model version, or all of them, did for their callers. Pure: no clock and no lock."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from common.errors import PipelineError
from common.stats import Latency


class Metrics:
    """A row is a request, also in a batch: `requests` is `errors` and those that were answered.

    `errors` had features that do not fit, failed in the model, were late or found the queue full (`rejected`
    of them). Those whose caller cancelled them while they waited are only in `cancelled`. Latencies are of
    answered requests, from the call until the answer was there. `batches` counts batches by their rows;
    requests that the cache answered (`hits` there) need not be in any.
    """

    __slots__ = ("answered", "batches", "cancelled", "errors", "latency", "rejected")

    def __init__(self) -> None:
        self.answered = 0
        self.errors = 0
        self.rejected = 0
        self.cancelled = 0
        self.batches: Counter[int] = Counter()
        self.latency = Latency()

    def count(self, answers: Sequence[Any], seconds: float) -> None:
        """Rows that got these answers, some of which may be errors, after so many seconds."""
        answered = [answer for answer in answers if not isinstance(answer, PipelineError)]
        self.errors += len(answers) - len(answered)
        if answered:
            self.count_answered(answered, seconds)

    def count_answered(self, answers: Sequence[Any], seconds: float) -> None:
        """`count` of answers none of which is an error."""
        self.answered += len(answers)
        self.latency.record(seconds, len(answers))

    def add(self, other: Metrics) -> None:
        """Count everything that another one counted."""
        self.answered += other.answered
        self.errors += other.errors
        self.rejected += other.rejected
        self.cancelled += other.cancelled
        self.batches.update(other.batches)
        self.latency.add(other.latency)

    def figures(self) -> dict[str, Any]:
        """As `ModelServer.get_metrics` gives them; seconds."""
        requests = self.answered + self.errors
        latency = self.latency.snapshot()
        batches = sum(self.batches.values())
        rows = sum(size * count for size, count in self.batches.items())
        return {
            "requests": requests,
            "errors": self.errors,
            "rejected": self.rejected,
            "cancelled": self.cancelled,
            "success_rate": self.answered / requests if requests else 1.0,
            "latency": {
                "mean": latency.mean,
                "p50": latency.p50,
                "p95": latency.p95,
                "p99": latency.p99,
                "max": latency.max,
            },
            "batches": {
                "count": batches,
                "mean_size": rows / batches if batches else 0.0,
                "max_size": max(self.batches, default=0),
                "sizes": dict(sorted(self.batches.items())),
            },
        }
