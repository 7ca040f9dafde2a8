"""What HTTP processes in front of a gateway would give: `python -m bench.fronts`. Prints a table.

A simulation, for machines with too few cores to see it: a gateway of one process and one with two fronts are
loaded in turn, and the CPU time of each process is counted. Where each has a core of its own, the busiest is
what limits; so the one process's time beside the busiest one's is how many times as much could be answered.

At few clients batches are small, and what a batch costs the gateway is shared by few requests; that is a
gateway with time to spare. What counts is one that has none, with more clients.

Exit codes: 0 every bound reached, 1 one missed, 2 it could not be run.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from statistics import median
from typing import NamedTuple

import psutil

from bench.figures import Figure
from bench.programs import Server, gateway
from bench.run import Run, run_benchmark, upload_sample
from bench.wrk import drive

FRONTS = 2
CLIENTS = (32, 256)
PAIRS = 5  # for each repeat: many short ones, as what else a machine does differs from one to the next
TARGET = 1.8


class Cost(NamedTuple):
    """CPU milliseconds that 1,000 requests took: of the gateway's process, and of each front."""

    gateway: float
    fronts: list[float]
    errors: int

    @property
    def busiest(self) -> float:
        """Of whichever process took most."""
        return max(self.gateway, *self.fronts)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; an exit code."""
    return run_benchmark("bench.fronts", (__doc__ or "").split("\n")[0], fronts, argv)


def fronts(run: Run) -> list[Figure]:
    """Both gateways, at each number of clients."""
    figures = []
    with _gateway(run, "alone") as alone, _gateway(run, "fronted", "--processes", str(FRONTS)) as fronted:
        for clients in CLIENTS:
            pairs = _pairs(run, alone, fronted, clients)
            figures += _figures(clients, pairs, is_busy=clients == max(CLIENTS))
        memory = [front.memory_info().rss / 2**20 for front in _fronts(fronted)]
    return [*figures, Figure("memory of a front", max(memory), "MiB", at_most=40)]


@contextlib.contextmanager
def _gateway(run: Run, name: str, *flags: str) -> Iterator[Server]:
    directory = run.directory / name
    directory.mkdir()
    with gateway(directory, flags=flags) as server:
        upload_sample(server)
        yield server


def _pairs(run: Run, alone: Server, fronted: Server, clients: int) -> list[tuple[Cost, Cost]]:
    for server in (alone, fronted):
        drive(server, "pairs.lua", clients=clients, seconds=1, seed=run.seed())
    pairs = []
    for n in range(PAIRS * run.repeats):
        run.say(f"{clients} clients: pair {n + 1} of {PAIRS * run.repeats}")
        if n % 2:
            second, first = _cost(run, fronted, clients), _cost(run, alone, clients)
        else:
            first, second = _cost(run, alone, clients), _cost(run, fronted, clients)
        pairs.append((first, second))
    return pairs


def _cost(run: Run, server: Server, clients: int) -> Cost:
    processes = [psutil.Process(server.pid), *_fronts(server)]
    before = [_cpu(process) for process in processes]
    load = drive(server, "pairs.lua", clients=clients, seconds=run.seconds / 4, seed=run.seed())
    used = [_cpu(process) - start for process, start in zip(processes, before, strict=True)]
    first, *others = [1e6 * seconds / load.requests for seconds in used]
    return Cost(first, others, load.errors)


def _fronts(server: Server) -> list[psutil.Process]:
    return [each for each in psutil.Process(server.pid).children() if "gateway.fronts" in each.cmdline()]


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _figures(clients: int, pairs: list[tuple[Cost, Cost]], *, is_busy: bool) -> list[Figure]:
    ratios = sorted(alone.gateway / fronted.busiest for alone, fronted in pairs)
    errors = sum(alone.errors + fronted.errors for alone, fronted in pairs)
    return [
        Figure(
            f"{clients} clients: CPU for 1,000 requests, one process",
            median(alone.gateway for alone, _ in pairs), "ms",
        ),
        Figure("  the gateway behind its fronts", median(fronted.gateway for _, fronted in pairs), "ms"),
        Figure(
            f"  each of {FRONTS} fronts", median(max(fronted.fronts) for _, fronted in pairs), "ms",
            note="whichever took more",
        ),
        Figure(
            "  one process beside the busiest: a simulation", median(ratios), "×",
            at_least=TARGET if is_busy else None, note=f"pairs: {ratios[0]:.2f} to {ratios[-1]:.2f}",
        ),
        Figure("  failed", errors, "requests", at_most=0),
    ]  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
