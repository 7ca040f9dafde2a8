"""How soon a local worker serves: `python -m bench.launch`.

A gateway keeps one worker with a TorchScript model of 1 MB. It is told to leave again and again, as kills
would make the gateway wait ever longer. From the order of each successor to its readiness, with the model
loaded, is what `/events` tells. Exit codes as of `bench.promises`.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import Any

import torch

from bench.figures import Figure
from bench.programs import START_TIME, Server, gateway
from bench.run import Run, run_benchmark

RUNS = 15
WIDTH = 512  # of one linear layer: 1 MiB in single precision
FIRST, NEXT = 4.0, 0.150  # seconds


def main(argv: Sequence[str] | None = None) -> int:
    """Measure; an exit code."""
    return run_benchmark("bench.launch", "How soon a local worker serves.", launch, argv, needs_wrk=False)


def launch(run: Run) -> list[Figure]:
    """The first worker of a gateway that starts, and those after it."""
    models = _models(run.directory / "models")
    began = time.monotonic()
    with gateway(run.directory, models=models) as server:
        first = time.monotonic() - began
        run.say(f"the first was ready {first:.2f} s after the gateway's own start")
        starts, gaps = _replace(run, server, 3 if run.is_quick else RUNS)
    return [
        Figure(
            "a local worker with a model of 1 MB, from order to ready", median(starts) * 1000, "ms",
            at_most=NEXT * 1000, note=f"median of {len(starts)}, the slowest {max(starts) * 1000:.0f} ms",
        ),
        Figure("  from the SIGTERM to the one before it", median(gaps) * 1000, "ms"),
        Figure(
            "the first, from the gateway's own start", first, "s", at_most=FIRST,
            note="Python, the gateway, and torch in the fork server",
        ),
    ]  # fmt: skip


def _models(folder: Path) -> Path:
    version = folder / "linear" / "1"
    version.mkdir(parents=True)
    torch.jit.save(torch.jit.script(torch.nn.Linear(WIDTH, WIDTH)), version / "model.pt")
    return folder


def _replace(run: Run, server: Server, times: int) -> tuple[list[float], list[float]]:
    """Have the worker leave so often; seconds that each successor took since its order, and since then."""
    starts, gaps = [], []
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)) as connection:
        connection.request("GET", "/events")
        events = _events(connection.getresponse())
        for n in range(times):
            worker = _only_worker(server)
            told = time.monotonic()
            os.kill(worker["pid"], signal.SIGTERM)
            ordered = _wait_for(events, "worker started")
            ready = _wait_for(events, "worker ready")
            starts.append(ready - ordered)
            gaps.append(ready - told)
            run.say(f"run {n + 1}: {starts[-1] * 1000:.0f} ms, {gaps[-1] * 1000:.0f} ms after the SIGTERM")
    return starts, gaps


def _only_worker(server: Server) -> dict[str, Any]:
    """The one that is left when the one before it has gone."""
    end = time.monotonic() + START_TIME
    while time.monotonic() < end:
        workers: list[dict[str, Any]] = server.status()["workers"]
        if [worker["state"] for worker in workers] == ["ready"]:
            return workers[0]
        time.sleep(0.02)
    raise RuntimeError("the worker is not ready, or there are two")


def _events(response: http.client.HTTPResponse) -> Iterator[dict[str, Any]]:
    """What happens, as it does."""
    while line := response.readline():
        if line.startswith(b"data:"):
            yield json.loads(line.removeprefix(b"data:"))


def _wait_for(events: Iterator[dict[str, Any]], what: str) -> float:
    """When an event of this kind came."""
    for event in events:
        if event.get("what") == what:
            return time.monotonic()
    raise RuntimeError(f"the gateway ended before {what!r}")


if __name__ == "__main__":
    sys.exit(main())
