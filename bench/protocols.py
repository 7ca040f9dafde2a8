"""The protocols beside each other: `python -m bench.protocols`. Prints a table.

Exit codes: 0 every bound reached, 1 one missed, 2 it could not be run.
"""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from statistics import median

from bench.client import Client
from bench.figures import Figure
from bench.programs import ROOT, Server, gateway
from bench.run import Run, run_benchmark
from bench.wrk import Load, drive

CLIENTS = 32
WIDTH = 784
LARGE = 16_000_000  # float32 numbers: 64 MB
MODELS = {"perceptron", "same"}


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; an exit code."""
    return run_benchmark("bench.protocols", (__doc__ or "").split("\n")[0], rest, argv)


def rest(run: Run) -> list[Figure]:
    """The Open Inference Protocol over REST: tensors in JSON and in binary, in pairs, and a large one."""
    models = run.directory / "models"
    subprocess.run([sys.executable, "-m", "bench.perceptron", str(models)], cwd=ROOT, check=True)
    loads: dict[str, list[Load]] = {"json": [], "binary": []}
    with gateway(run.directory, models=models, flags=("--max_body", str(8 * LARGE))) as server:
        _wait_served(server)
        _load(run, server, "binary", seconds=1)
        for n in range(run.repeats):
            for form, kind in loads.items():
                run.say(f"{form}: run {n + 1} of {run.repeats}")
                kind.append(_load(run, server, form, seconds=run.seconds))
        large = _large(run, server)
    rates = {form: median(each.rate for each in kind) for form, kind in loads.items()}
    errors = sum(each.errors for kind in loads.values() for each in kind)
    return [
        Figure("V2 REST, 784 floats in JSON, 32 clients", rates["json"], "requests/s"),
        Figure("  in binary", rates["binary"], "requests/s"),
        Figure("  binary beside JSON", rates["binary"] / rates["json"], "", at_least=1.3),
        Figure("  p99 in binary", median(each.p99 for each in loads["binary"]) * 1000, "ms"),
        Figure("  failed", errors, "requests", at_most=0),
        *large,
    ]


def _load(run: Run, server: Server, form: str, *, seconds: float) -> Load:
    told = {"seed": run.seed(), "width": WIDTH, "model": "perceptron", "form": form}
    return drive(server, "tensors.lua", clients=CLIENTS, seconds=seconds, **told)


def _large(run: Run, server: Server) -> list[Figure]:
    """One tensor of 64 MB there and back: how long it takes, and how often the gateway held it at once."""
    tensor = {
        "name": "x", "datatype": "FP32", "shape": [1, LARGE], "parameters": {"binary_data_size": 4 * LARGE}
    }  # fmt: skip
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    body = head + bytes(4 * LARGE)
    headers = {"Inference-Header-Content-Length": str(len(head))}
    before, seconds = server.rss(), []
    for n in range(run.repeats):
        run.say(f"64 MB: run {n + 1} of {run.repeats}")
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        began = time.perf_counter()
        connection.request("POST", "/v2/models/same/infer", body, headers)
        answer = connection.getresponse()
        if len(answer.read()) < 4 * LARGE or answer.status != 200:
            raise RuntimeError(f"the large tensor was answered {answer.status}")
        seconds.append(time.perf_counter() - began)
        connection.close()
    held = (server.peak_rss() - before) * 2**20 / (4 * LARGE)
    return [
        Figure("a tensor of 64 MB, there and back", median(seconds), "s"),
        Figure("  held by the gateway at once", held, "times", at_most=3.2, note="its body and two copies"),
    ]


def _wait_served(server: Server) -> None:
    with Client(server.port) as client:
        for _ in range(300):
            if {model["name"] for model in client.get("/models")["models"]} >= MODELS:
                return
            time.sleep(0.1)
    raise RuntimeError(f"the models are not served; see {server.log}")


if __name__ == "__main__":
    sys.exit(main())
