"""The benchmark of the promises: `python -m bench.quick`. Prints a table and writes one JSON file.

Exit codes: 0 every bound reached, 1 one missed, 2 it could not be run.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from bench.caching import caching
from bench.figures import EXIT_FAILED, Figure, exit_code, table
from bench.memory import memory
from bench.modelling import switching, transformer
from bench.polling import status
from bench.predicting import predict, single, vectors
from bench.programs import ROOT
from bench.run import Measurement, Run
from bench.uploading import set_weights
from bench.wrk import find_wrk

MEASUREMENTS: dict[str, Measurement] = {
    each.__name__: each
    for each in (predict, single, vectors, caching, status, switching, transformer, memory, set_weights)
}
RESULTS = ROOT / "bench" / "results"
LIBRARIES = (
    "httptools", "msgspec", "numpy", "pybase64", "pynng", "starlette", "torch", "trio", "uvicorn", "uvloop"
)  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Measure what was asked for; an exit code."""
    arguments = _parser().parse_args(argv)
    try:
        find_wrk()
        with tempfile.TemporaryDirectory(prefix="pipeline-bench-") as directory:
            run = Run(Path(directory), arguments.quick)
            figures = _measure(run, arguments.only or list(MEASUREMENTS))
    except (RuntimeError, OSError) as error:
        print(f"bench.quick: {error}", file=sys.stderr)
        return EXIT_FAILED
    print(table(figures))
    print(f"\nwritten to {_write(run, figures)}")
    return exit_code(figures)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.quick", description="Measure Pipeline, here and now."
    )
    parser.add_argument(
        "--only", action="append", choices=MEASUREMENTS, metavar="NAME",
        help=f"one of {', '.join(MEASUREMENTS)}; may be given again",
    )  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="short runs: figures to look at, not to quote")
    return parser


def _measure(run: Run, names: Sequence[str]) -> list[Figure]:
    figures: list[Figure] = []
    for name in names:
        print(f"{name} …", file=sys.stderr, flush=True)
        figures += MEASUREMENTS[name](run)
    return figures


def _write(run: Run, figures: Sequence[Figure]) -> Path:
    """One file of everything, so that a later run can be put beside it."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / time.strftime("%Y%m%d-%H%M%S.json")
    everything = {
        "commit": _commit(),
        "machine": {
            "system": platform.platform(),
            "processor": _processor(),
            "cores": os.cpu_count(),
            "load": os.getloadavg(),
        },
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in LIBRARIES},
        "is_quick": run.is_quick,
        "figures": [figure._asdict() | {"verdict": figure.verdict} for figure in figures],
        "details": run.details,
    }
    path.write_text(json.dumps(everything, indent=1))
    return path


def _commit() -> str:
    """The commit, with a + where the tree differs from it."""
    command = ["git", "describe", "--always", "--dirty=+", "--exclude=*", "--abbrev=12"]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return answer.stdout.strip() or "unknown"


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "unknown")


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


if __name__ == "__main__":
    sys.exit(main())
