"""ModelInfer of the sample network over gRPC beside REST: `python -m bench.grpc_door`. Prints a table.

The client is grpcio's, in Python, and takes as much of the machine as the server: CPU says more than rate.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from statistics import median
from typing import Any

from bench.figures import Figure
from bench.programs import ROOT, Server, free_port, gateway
from bench.run import Run, run_benchmark, upload_sample
from bench.wrk import drive


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; an exit code."""
    return run_benchmark("bench.grpc_door", (__doc__ or "").split("\n")[0], measure, argv)


def measure(run: Run) -> list[Figure]:
    """One client and 32 over gRPC, and 32 over REST in turn with them."""
    address = f"127.0.0.1:{free_port()}"
    with gateway(run.directory, flags=("--addr_grpc", address)) as server:
        upload_sample(server)
        _load(server, address, 1, 1.0)
        alone = [_load(server, address, 1, run.seconds) for _ in range(run.repeats)]
        many, rest = [], []
        for n in range(run.repeats):
            run.say(f"run {n + 1} of {run.repeats}")
            many.append(_load(server, address, 32, run.seconds))
            before = server.cpu()[0]
            load = drive(server, "pairs.lua", clients=32, seconds=run.seconds, seed=run.seed())
            rest.append((load.rate, (server.cpu()[0] - before) / load.requests))

    def of(loads: list[dict[str, Any]], what: str) -> float:
        return float(median(each[what] for each in loads))

    return [
        Figure("gRPC, one client, p50", of(alone, "p50") * 1000, "ms"),
        Figure("  p99", of(alone, "p99") * 1000, "ms"),
        Figure("gRPC, 32 clients", of(many, "rate"), "requests/s"),
        Figure("  p50", of(many, "p50") * 1000, "ms"),
        Figure("  p99", of(many, "p99") * 1000, "ms"),
        Figure("  gateway's CPU per 1,000 requests", of(many, "cpu") * 1000, "s"),
        Figure("REST, 32 clients", median(each[0] for each in rest), "requests/s"),
        Figure("  gateway's CPU per 1,000 requests", median(each[1] for each in rest) * 1000, "s"),
    ]


def _load(server: Server, address: str, clients: int, seconds: float) -> dict[str, Any]:
    before = server.cpu()[0]
    command = [sys.executable, "-m", "bench.grpc_load", address, str(clients), str(seconds)]
    said: dict[str, Any] = json.loads(subprocess.check_output(command, cwd=ROOT))
    return said | {"cpu": (server.cpu()[0] - before) / said["requests"]}


if __name__ == "__main__":
    sys.exit(main())
