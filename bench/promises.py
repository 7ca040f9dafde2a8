"""The benchmark of the promises: `python -m bench.promises`. Prints a table and writes one JSON file.

Exit codes: 0 every bound reached, 1 one missed, 2 it could not be run.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from bench import about
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


def main(argv: Sequence[str] | None = None) -> int:
    """Measure what was asked for; an exit code."""
    arguments = _parser().parse_args(argv)
    try:
        find_wrk()
        with tempfile.TemporaryDirectory(prefix="pipeline-bench-") as directory:
            run = Run(Path(directory), arguments.quick)
            figures = _measure(run, arguments.only or list(MEASUREMENTS))
    except (RuntimeError, OSError) as error:
        print(f"bench.promises: {error}", file=sys.stderr)
        return EXIT_FAILED
    print(table(figures))
    print(f"\nwritten to {_write(run, figures)}")
    return exit_code(figures)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.promises", description="Measure Pipeline, here and now."
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
    commit, dirty = about.commit()
    machine = msgspec.to_builtins(about.machine())
    everything = {
        "commit": commit + "+" * dirty,
        "machine": machine | {"load": os.getloadavg()},
        "versions": about.versions((*about.LIBRARIES, "uvicorn")),
        "is_quick": run.is_quick,
        "figures": [figure._asdict() | {"verdict": figure.verdict} for figure in figures],
        "details": run.details,
    }
    path.write_text(json.dumps(everything, indent=1))
    return path


if __name__ == "__main__":
    sys.exit(main())
