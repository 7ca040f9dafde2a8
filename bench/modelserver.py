"""`python -m bench.modelserver`: requests a second of server.py, asked by client.py with eight files.

Both run on this machine, and so share its cores. Exit codes: 0 the bound was reached, 1 it was missed, 2 it
could not be run.
"""

from __future__ import annotations

import argparse
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from bench.figures import EXIT_FAILED, Figure, exit_code, table
from bench.programs import ROOT, running

FILES, ROWS, REPEATS = 8, 3000, 3
AT_LEAST = 2500.0
START_TIME = 60.0
_PORT = re.compile(r"listens on \S+:(\d+)\.")


def main(argv: Sequence[str] | None = None) -> int:
    """Measure; an exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.modelserver", description="Measure server.py.")
    parser.add_argument("--quick", action="store_true", help="a short run: figures to look at, not to quote")
    is_quick = parser.parse_args(argv).quick
    try:
        with tempfile.TemporaryDirectory(prefix="pipeline-bench-") as directory:
            figures = measure(Path(directory), rows=ROWS // 10 if is_quick else ROWS)
    except (RuntimeError, OSError, subprocess.SubprocessError) as error:
        print(f"bench.modelserver: {error}", file=sys.stderr)
        return EXIT_FAILED
    print(table(figures))
    return exit_code(figures)


def measure(directory: Path, *, rows: int) -> list[Figure]:
    """The median of some runs in which nothing is remembered, and of some in which all is."""
    fresh = [_write(directory / f"fresh-{n}.csv", rows, seed=n) for n in range(FILES)]
    known = [_write(directory / f"known-{n}.csv", rows, seed=None) for n in range(FILES)]
    log = directory / "server.log"
    figures = []
    with running([str(ROOT / "server.py"), "--port", "0"], log) as process:
        port = _announced_port(log, process)
        empty = _write(directory / "empty.csv", 0, seed=None)
        for name, files in (("every row another one", fresh), ("ten rows again and again", known)):
            runs = [_run(port, process.pid, files, [empty] * FILES, rows) for _ in range(REPEATS)]
            rate, cpu = (statistics.median(each) for each in zip(*runs, strict=True))
            figures += [
                Figure(f"8 threads, {name}", rate, "requests/s", at_least=AT_LEAST),
                Figure("  the server's CPU", cpu * 1e6, "µs each"),
            ]
    return figures


def _write(path: Path, rows: int, *, seed: int | None) -> str:
    """Rows of three numbers: drawn by chance, or the same ten in turn."""
    numbers = random.Random(seed)
    lines = (
        f"{n % 10},2,3" if seed is None else ",".join(f"{numbers.random():.4f}" for _ in range(3))
        for n in range(rows)
    )
    path.write_text("\n".join(lines))
    return str(path)


def _run(
    port: int, server: int, files: Sequence[str], empty: Sequence[str], rows: int
) -> tuple[float, float]:
    """(requests a second, seconds of the server's CPU for each), without what a client takes to start."""
    idle = _client(port, empty)
    before = sum(psutil.Process(server).cpu_times()[:2])
    took = _client(port, files) - idle
    cpu = sum(psutil.Process(server).cpu_times()[:2]) - before
    requests = rows * len(files)
    return requests / took, cpu / requests


def _client(port: int, files: Sequence[str]) -> float:
    command = [sys.executable, str(ROOT / "client.py"), str(port), "1.0,2.0,3.0", *files]
    began = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    return time.perf_counter() - began


def _announced_port(log: Path, process: subprocess.Popen[bytes]) -> int:
    end = time.monotonic() + START_TIME
    while process.poll() is None and time.monotonic() < end:
        if found := _PORT.search(log.read_text()):
            return int(found[1])
        time.sleep(0.05)
    raise RuntimeError(f"server.py did not start: {log.read_text()}")


if __name__ == "__main__":
    sys.exit(main())
