"""What watching costs: `python -m bench.observers`. Prints a table.

Two gateways stand side by side, one that nobody watches and one with everything on (bench.watching). They are
loaded in turn. Then /metrics of a large fleet is timed.

Exit codes: 0 every bound reached, 1 one missed, 2 it could not be run.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Sequence
from statistics import median, quantiles
from typing import NamedTuple

import numpy as np

from bench.client import Client
from bench.figures import Figure
from bench.intervals import Ratio, ratio_of_pairs
from bench.programs import FIRST, Server, gateway, gather
from bench.run import Run, run_benchmark, upload_sample
from bench.watching import ALL, Watching, collector, scrape, watched
from bench.wrk import drive

CLIENTS = 32
PAIRS = 72
PAIR_TIME = 1.0  # seconds of each of the two: what slows a machine seldom ends sooner, and so slows both
WORKERS, MODELS = 200, 50
SCRAPES = 50
LOAD_TIME = 120.0


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; an exit code."""
    return run_benchmark("bench.observers", (__doc__ or "").split("\n")[0], observers, argv)


def observers(run: Run) -> list[Figure]:
    """Both measurements."""
    return [*rotation(run), *scraping(run)]


def rotation(run: Run, watching: Watching = ALL) -> list[Figure]:
    """What a request costs with observers and with none, in many short pairs whose order turns (A B B A).

    CPU time is what is bounded: of a busy gateway it is what its rate comes from, without what others do.
    """
    spent: dict[str, list[Cost]] = {"off": [], "on": []}
    pairs = PAIRS // (6 if run.is_quick else 1)
    with contextlib.ExitStack() as stack:
        otel = ("--otel", stack.enter_context(collector())) if watching.traces else ()
        servers: dict[str, Server] = {}
        for name, flags in (("off", ()), ("on", (*watching.flags, *otel))):
            directory = run.directory / name
            directory.mkdir()
            servers[name] = stack.enter_context(gateway(directory, flags=flags))
            upload_sample(servers[name])
            _cost(run, servers[name])
        stack.enter_context(watched(servers["on"], watching))
        for n in range(pairs):
            run.say(f"observers: pair {n + 1} of {pairs}")
            for name in ("off", "on") if n % 2 == 0 else ("on", "off"):
                spent[name].append(_cost(run, servers[name]))
    on, off = spent["on"], spent["off"]
    run.details["observers"] = {name: [each._asdict() for each in costs] for name, costs in spent.items()}
    source = np.random.default_rng(1)
    cpu = ratio_of_pairs([(a.cpu, b.cpu) for a, b in zip(on, off, strict=True)], source)
    rate = ratio_of_pairs([(a.rate, b.rate) for a, b in zip(on, off, strict=True)], source)
    return [
        Figure("CPU of 1,000 requests, nobody watches", median(each.cpu for each in off) * 1000, "ms"),
        Figure("  with observers", median(each.cpu for each in on) * 1000, "ms", note=watching.name),
        Figure("  what they cost", _percent(cpu, 1), "%", at_most=5, note=_interval(cpu, 1)),
        Figure("  of the rate of 32 clients", _percent(rate, -1), "%", note=_interval(rate, -1)),
        Figure("  failed", sum(each.errors for each in (*on, *off)), "requests", at_most=0),
    ]


class Cost(NamedTuple):
    """Of one load: CPU seconds for 1,000 requests, of the gateway and its worker; requests a second."""

    cpu: float
    rate: float
    errors: int


def _cost(run: Run, server: Server) -> Cost:
    before = sum(server.cpu())
    load = drive(server, "pairs.lua", clients=CLIENTS, seconds=PAIR_TIME, seed=run.seed())
    return Cost((sum(server.cpu()) - before) / load.requests * 1000, load.rate, load.errors)


def _percent(ratio: Ratio | None, sign: int) -> float:
    return float("nan") if ratio is None else 100 * sign * (ratio.ratio - 1)


def _interval(ratio: Ratio | None, sign: int) -> str:
    if ratio is None:
        return ""
    low, high = sorted(100 * sign * (each - 1) for each in (ratio.low, ratio.high))
    return f"95 % interval {low:.1f} to {high:.1f}"


def scraping(run: Run) -> list[Figure]:
    """`/metrics` of 200 workers, and of 50 models that were all asked, through two doors."""
    models = run.directory / "models"
    models.mkdir()
    flags = ("--models", str(models), "--metrics_triton")
    with (
        gateway(run.directory, near=0, crowd=WORKERS, is_busy=False, flags=flags) as server,
        Client(server.port) as client,
    ):
        run.say(f"/metrics: {FIRST} workers load {MODELS} models, then {WORKERS} hold them")
        for n in range(MODELS):
            version = models / f"model-{n}" / "1"
            version.mkdir(parents=True)
            (version / "model.pt").write_bytes(b"the crowd looks into no file")
            _load_model(client, f"model-{n}")
            client.ask("POST", f"/models/model-{n}/predict", b'{"vector":[1.0]}')
            tensor = b'{"name":"vector","shape":[1,1],"datatype":"FP32","data":[1.0]}'
            client.ask("POST", f"/v2/models/model-{n}/infer", b'{"inputs":[%b]}' % tensor)
        gather(server, WORKERS)
        count = SCRAPES // (5 if run.is_quick else 1)
        run.say(f"/metrics: {count} scrapes")
        took = []
        for _ in range(count):
            began = time.perf_counter()
            page = scrape(server)
            took.append(time.perf_counter() - began)
            time.sleep(0.1)
    run.details["scrapes"] = took
    lines = page.count(b"\n")
    return [
        Figure(
            f"/metrics of {WORKERS} workers and {MODELS} models, p50", 1000 * median(took), "ms", at_most=50
        ),
        Figure("  p90", 1000 * quantiles(took, n=10)[-1], "ms"),
        Figure("  lines", lines, "", note=f"{len(page) / 2**20:.2f} MiB"),
    ]


def _load_model(client: Client, name: str) -> None:
    """A survey that a worker of a crowd misses is asked again."""
    end = time.monotonic() + LOAD_TIME
    while "error" in (answer := client.ask("POST", f"/v2/repository/models/{name}/load")):
        if time.monotonic() > end:
            raise RuntimeError(f"{name} cannot be loaded: {answer['error']}")


if __name__ == "__main__":
    sys.exit(main())
