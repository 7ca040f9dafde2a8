"""The pool's promises, beside MLPool 0.1.0 in the same run: `python -m bench.pool`. Prints a table.

MLPool 0.1.0 is downloaded from PyPI into a temporary folder; `--alone` does without. Exit codes: 0 every
bound reached, 1 one missed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from bench import pool_jobs
from bench.figures import Figure, exit_code, table
from bench.programs import ROOT
from ml_pool import MLPool

JOB = 0.001
HEAVY_JOB = 0.05
HUNDRED_MB = 100_000_000

Theirs = dict[str, float]


class Bench:
    """How much to measure, and what the other pool reached."""

    def __init__(self, is_quick: bool, theirs: Theirs) -> None:
        self.jobs = 200 if is_quick else 1000
        self.heavy_jobs = 40 if is_quick else 200
        self.repeats = 3 if is_quick else 10
        self.theirs = theirs

    def note(self, name: str, unit: str, factor: float) -> str:
        """What MLPool 0.1.0 did, where it was asked."""
        return f"MLPool 0.1.0: {self.theirs[name] * factor:.3g} {unit}" if name in self.theirs else ""


def one_by_one(bench: Bench) -> Iterator[Figure]:
    """What a job of a millisecond costs beyond that millisecond."""
    with MLPool({"model": pool_jobs.load_something}, 1) as pool:
        pool.submit(pool_jobs.spin, "model", 0.0).result()
        took = []
        for _ in range(bench.jobs):
            began = time.perf_counter()
            ran = pool.submit(pool_jobs.spin, "model", JOB).result()
            took.append(time.perf_counter() - began - ran)
        by_id = []
        for _ in range(bench.jobs):
            began = time.perf_counter()
            job_id = pool.create_job(pool_jobs.spin, "model", (JOB,))
            assert job_id is not None
            ran = pool.get_result(job_id)
            by_id.append(time.perf_counter() - began - ran)
    note = f"median {statistics.median(took) * 1e3:.3f} ms; {bench.note('overhead', 'ms', 1e3)}"
    yield Figure("overhead of a job, mean", statistics.fmean(took) * 1e3, "ms", at_most=0.3, note=note)
    yield Figure("  by create_job and get_result", statistics.fmean(by_id) * 1e3, "ms", at_most=0.3)


def ready(bench: Bench) -> Iterator[Figure]:
    """From the constructor's call to its return, every worker with its torch model."""
    took = []
    for _ in range(bench.repeats + 1):
        began = time.perf_counter()
        with MLPool({"model": pool_jobs.load_torch}, 2, preload=["torch"]):
            took.append(time.perf_counter() - began)
    note = bench.note("ready", "s", 1)
    yield Figure("ready with a torch model, the first pool", took[0], "s", note=note)
    yield Figure("  each further pool", statistics.median(took[1:]), "s", at_most=0.5)


def large_arrays(bench: Bench) -> Iterator[Figure]:
    """100 MB there and back: bytes of the array over the time of both ways."""
    array = np.ones(HUNDRED_MB, np.uint8)
    with MLPool({"model": pool_jobs.load_something}, 1) as pool:
        rates = []
        for _ in range(3 * bench.repeats):
            began = time.perf_counter()
            result = pool.submit(pool_jobs.echo, "model", array).result()
            rates.append(HUNDRED_MB / (time.perf_counter() - began) / 1e9)
            assert result[-1] == 1
            del result
    note = f"the first {rates[0]:.2f}; {bench.note('rate', 'GB/s', 1e-9)}"
    yield Figure("100 MB round trip", statistics.median(rates), "GB/s", at_least=1.5, note=note)


def two_workers(bench: Bench) -> Iterator[Figure]:
    """Jobs of 50 ms of CPU: two workers over one, in turns."""
    ratios = []
    with (
        MLPool({"model": pool_jobs.load_something}, 1) as one,
        MLPool({"model": pool_jobs.load_something}, 2) as two,
    ):
        for _ in range(3):
            alone, both = (_time_of(pool, bench.heavy_jobs) for pool in (one, two))
            ratios.append(alone / both)
    note = f"{bench.heavy_jobs} jobs of {HEAVY_JOB * 1e3:.0f} ms, on {os.cpu_count()} cores"
    yield Figure("two workers over one", max(ratios), "times", at_least=1.9, note=note)


def _time_of(pool: MLPool, jobs: int) -> float:
    began = time.perf_counter()
    for future in [pool.submit(pool_jobs.spin, "model", HEAVY_JOB) for _ in range(jobs)]:
        future.result()
    return time.perf_counter() - began


MEASUREMENTS = {each.__name__: each for each in (one_by_one, ready, large_arrays, two_workers)}


def measure_theirs(directory: Path, jobs: int) -> Theirs:
    """MLPool 0.1.0's figures, in a program of its own; nothing where it cannot be had."""
    install = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-deps",
        "--target",
        str(directory),
        "MLPool==0.1.0",
    ]
    if subprocess.run(install, check=False).returncode:
        print("MLPool 0.1.0 cannot be had from PyPI: measured alone", file=sys.stderr)
        return {}
    program = [sys.executable, str(ROOT / "bench" / "pool_reference.py"), str(jobs)]
    environment = os.environ | {"PYTHONPATH": str(directory)}
    done = subprocess.run(
        program, env=environment, stdout=subprocess.PIPE, text=True, check=True, timeout=300
    )
    (figures,) = [line for line in done.stdout.splitlines() if line.startswith("figures ")]
    found: Theirs = json.loads(figures.removeprefix("figures "))
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Measure what was asked for; an exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.pool", description="Measure the pool, here and now."
    )
    parser.add_argument(
        "--only", action="append", choices=MEASUREMENTS, metavar="NAME",
        help=f"one of {', '.join(MEASUREMENTS)}; may be given again",
    )  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="short runs: figures to look at, not to quote")
    parser.add_argument("--alone", action="store_true", help="without MLPool 0.1.0")
    arguments = parser.parse_args(argv)
    theirs: Theirs = {}
    if not arguments.alone:
        print("MLPool 0.1.0 …", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory(prefix="pipeline-bench-") as directory:
            theirs = measure_theirs(Path(directory), 50 if arguments.quick else 300)
    bench = Bench(arguments.quick, theirs)
    figures: list[Figure] = []
    for name in arguments.only or MEASUREMENTS:
        print(f"{name} …", file=sys.stderr, flush=True)
        figures += MEASUREMENTS[name](bench)
    print(table(figures))
    return exit_code(figures)


if __name__ == "__main__":
    sys.exit(main())
