"""`GET /status` of a large fleet that is busy: how long a dashboard waits."""

from __future__ import annotations

import time
from statistics import quantiles

from bench.client import Client
from bench.figures import Figure
from bench.programs import gateway
from bench.run import Run

WORKERS = 50
POLLS = 200
PACE = 0.02


def status(run: Run) -> list[Figure]:
    """Polls of 50 workers that all have something to do."""
    with gateway(run.directory, near=0, crowd=WORKERS) as server, Client(server.port) as client:
        run.say(f"status: {POLLS} polls of {WORKERS} workers")
        took: list[float] = []
        fresh = 0
        for _ in range(POLLS // (10 if run.is_quick else 1)):
            time.sleep(PACE)
            began = time.perf_counter()
            workers = client.get("/status")["workers"]
            took.append(time.perf_counter() - began)
            fresh += sum(worker["count_requests_handled"] > 0 for worker in workers)
    cuts = quantiles(took, n=100)
    run.details["status"] = took
    return [
        Figure(f"/status of {WORKERS} workers, p50", cuts[49] * 1000, "ms", at_most=20),
        Figure("  p99", cuts[98] * 1000, "ms", at_most=20),
        Figure("  workers whose figures were shown", fresh / len(took), f"of {WORKERS}"),
    ]
