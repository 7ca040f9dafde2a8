"""What every measurement is given: where to work, how long to take, and how to say what it is doing."""

from __future__ import annotations

import argparse
import itertools
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.client import Client
from bench.figures import EXIT_FAILED, Figure, exit_code, table
from bench.page import replaced
from bench.programs import ROOT, Server
from bench.wrk import find_wrk

SAMPLE = "000127a35b5f462b8ec68fb4d905ac36"


@dataclass(frozen=True)
class Run:
    """One run of the benchmark. `details` is for the JSON file: whatever a figure was made of."""

    directory: Path
    is_quick: bool
    details: dict[str, object] = field(default_factory=dict)
    _seeds: Iterator[int] = field(default_factory=lambda: itertools.count(time.time_ns() % 1_000_000))

    @property
    def seconds(self) -> float:
        """How long one load lasts."""
        return 2.0 if self.is_quick else 8.0

    @property
    def repeats(self) -> int:
        """How many runs a median is taken of."""
        return 1 if self.is_quick else 3

    def seed(self) -> int:
        """Another number each time."""
        return next(self._seeds)

    def say(self, what: str) -> None:
        """Progress, as a line on stderr."""
        print(f"  {what}", file=sys.stderr, flush=True)


Measurement = Callable[[Run], list[Figure]]


def upload_sample(server: Server) -> None:
    """Make the sample weights the ones that serve."""
    (file,) = (ROOT / "data").glob(f"{SAMPLE}_*.b64")
    with Client(server.port) as client:
        answer = client.set_weights(SAMPLE, file.read_bytes()).answer
    if not answer["status"]:
        raise RuntimeError(f"the sample weights were refused: {answer}")


def run_benchmark(
    name: str,
    description: str,
    measurement: Measurement,
    argv: Sequence[str] | None,
    *,
    needs_wrk: bool = True,
) -> int:
    """The main of a benchmark that is one measurement: its table, and an exit code."""
    parser = argparse.ArgumentParser(prog=f"python -m {name}", description=description)
    parser.add_argument("--quick", action="store_true", help="short runs: figures to look at, not to quote")
    arguments = parser.parse_args(argv)
    try:
        if needs_wrk:
            find_wrk()
        with tempfile.TemporaryDirectory(prefix="pipeline-bench-") as directory:
            figures = measurement(Run(Path(directory), arguments.quick))
    except (RuntimeError, OSError, subprocess.CalledProcessError) as error:
        print(f"{name}: {error}", file=sys.stderr)
        return EXIT_FAILED
    print(table(figures))
    return exit_code(figures)


def run_into_page(
    name: str, place: str, page: Path | None, measurement: Callable[[Path], tuple[str, int]]
) -> int:
    """The main of a benchmark whose text goes to the place of that name in a `page`, if there is one; an exit
    code, the measurement's own if it came to anything. It is given a folder to work in."""
    try:
        before = page.read_text() if page is not None else None
        if before is not None:
            replaced(before, place, "")  # so that a minute's work is not lost
        with tempfile.TemporaryDirectory(prefix="pipeline-bench-") as directory:
            text, code = measurement(Path(directory))
    except (RuntimeError, OSError, ValueError, subprocess.CalledProcessError) as error:
        print(f"{name}: {error}", file=sys.stderr)
        return EXIT_FAILED
    print(text)
    if page is not None and before is not None:
        page.write_text(replaced(before, place, text))
    return code
