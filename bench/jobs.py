"""What a batch job costs those who ask for predictions meanwhile: `python -m bench.jobs`.

Pairs of runs on one gateway, with a long batch job under way and without, by turns, at several loads.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from bench.client import Client
from bench.programs import Server, gateway
from bench.run import Run, upload_sample
from bench.wrk import Load, drive, find_wrk

CLIENTS = (1, 8, 32)
ROWS = 3_000_000


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print a table; an exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.jobs", description="p99 beside a batch job.")
    parser.add_argument("--pairs", type=int, default=9, help="pairs of runs at each load")
    parser.add_argument("--seconds", type=float, default=1.0, help="length of a run")
    arguments = parser.parse_args(argv)
    find_wrk()
    with tempfile.TemporaryDirectory(prefix="pipeline-bench-") as directory:
        run = Run(Path(directory), False)
        write_input(run.directory / "in.csv")
        with gateway(run.directory, flags=("--batch_root", directory)) as server:
            upload_sample(server)
            measure(run, server, 1, 32, beside=False)
            print(f"a batch job alone: {alone(run, server):,.0f} rows/s")
            for clients in CLIENTS:
                report(run, server, clients, arguments.pairs, arguments.seconds)
    return 0


def report(run: Run, server: Server, clients: int, pairs: int, seconds: float) -> None:
    """One line for each load: the lower quartile of each side's runs, which alternate."""
    plain, beside, rows = [], [], []
    for _ in range(pairs):
        plain.append(measure(run, server, seconds, clients, beside=False)[0])
        load, done = measure(run, server, seconds, clients, beside=True)
        beside.append(load)
        rows.append(done / seconds)
    alone99, beside99 = (_quartile([each.p99 for each in loads]) for loads in (plain, beside))
    alone50, beside50 = (_quartile([each.p50 for each in loads]) for loads in (plain, beside))
    print(
        f"{clients:3} clients: p99 {alone99 * 1000:.2f} ms alone, {beside99 * 1000:.2f} ms beside a job of"
        f" {median(rows):,.0f} rows/s: {beside99 / alone99:.2f}; p50 {alone50 * 1000:.2f} and"
        f" {beside50 * 1000:.2f} ms",
        flush=True,
    )


def _quartile(values: list[float]) -> float:
    """The lower one: whatever else the machine does can only add."""
    return sorted(values)[(len(values) - 1) // 4]


def measure(run: Run, server: Server, seconds: float, clients: int, *, beside: bool) -> tuple[Load, int]:
    """(what online requests saw, rows that a job beside them did)."""
    job = submit(run, server) if beside else ""
    time.sleep(0.5)  # the same quiet before each run
    before = rows_done(server, job) if beside else 0
    load = drive(server, "pairs.lua", clients=clients, seconds=seconds, seed=run.seed())
    done = rows_done(server, job) - before if beside else 0
    if beside:
        with Client(server.port) as client:
            client.ask("DELETE", f"/jobs/{job}")
    return load, done


def alone(run: Run, server: Server) -> float:
    """Rows per second of a job that nobody disturbs."""
    job = submit(run, server)
    time.sleep(5)
    rate = rows_done(server, job) / 5
    with Client(server.port) as client:
        client.ask("DELETE", f"/jobs/{job}")
    return rate


def submit(run: Run, server: Server) -> str:
    """Begin a batch job that outlasts the run."""
    body = f'{{"input":"file://{run.directory}/in.csv","output":"file://{run.directory}/out.csv"}}'
    with Client(server.port) as client:
        return str(client.ask("POST", "/jobs", body.encode())["id"])


def rows_done(server: Server, job: str) -> int:
    """How far a job is."""
    with Client(server.port) as client:
        return int(client.get(f"/jobs/{job}")["rows_done"])


def write_input(path: Path) -> None:
    """Pairs of numbers, all different."""
    made = random.Random(7)
    lines = "".join(f"{made.random():.6f},{made.random():.6f}\n" for _ in range(10_000))
    with path.open("w") as file:
        for _ in range(ROWS // 10_000):
            file.write(lines)


if __name__ == "__main__":
    sys.exit(main())
