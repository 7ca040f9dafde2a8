"""`python -m bench quick`: the README's table, from a gateway and a worker of this tree, within a minute.

Exit codes: 0 it was measured, 1 a request failed, 2 it could not be run.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import NamedTuple

from bench import about
from bench.client import Client
from bench.closed import ClosedLoop, generator
from bench.figures import number
from bench.page import markers
from bench.programs import Server, gateway
from bench.run import run_into_page, upload_sample
from bench.workloads import MLP784, TINY, TRANSFORMER, Workload, make_models, wait_served
from bench.wrk import Load

EXIT_OK, EXIT_FAILED_REQUESTS = 0, 1
PLACE = "bench quick"
BEGIN, END = markers(PLACE)
START = "start to first answer"
COLUMNS = ("one gateway, one worker", "requests/s", "p50", "p99", "servers' CPU per 1,000")


class Case(NamedTuple):
    """One row of the table."""

    name: str
    workload: Workload
    door: str = "v1"
    clients: int = 32


CASES = (
    Case("sample network, 32 clients", TINY),
    Case("the same, one client", TINY, clients=1),
    Case("the same, 32 clients who repeat one row", TINY._replace(inputs=1)),
    Case("perceptron of 784-512-512-10, JSON, 32 clients", MLP784),
    Case("the same, V2 binary, 32 clients", MLP784, "v2-binary"),
    Case("transformer of 6×384 on 32 tokens, 32 clients", TRANSFORMER),
)


class Line(NamedTuple):
    """What a case came to."""

    name: str
    load: Load
    cpu: float
    """Seconds of all processes of the server."""


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print and write; an exit code."""
    arguments = _parser().parse_args(argv)

    def measured(directory: Path) -> tuple[str, int]:
        first, lines = measure(directory, arguments.seconds)
        failed = sum(line.load.errors for line in lines)
        if failed:
            print(f"bench quick: {failed:,} requests failed", file=sys.stderr)
        text = table(first, lines) + "\n" + circumstances()
        return text, EXIT_FAILED_REQUESTS if failed else EXIT_OK

    return run_into_page("bench quick", PLACE, arguments.write, measured)


def measure(directory: Path, seconds: float) -> tuple[float, list[Line]]:
    """(Seconds from the start of the processes to the first answer, what each case came to)."""
    lines: list[Line] = []
    began = time.monotonic()
    with gateway(directory) as server:
        upload_sample(server)
        with Client(server.port) as client:
            client.predict([0.25, 0.75])
        first = time.monotonic() - began
        lines += _lines(server, directory, seconds, [case for case in CASES if not case.workload.model])
    models = directory / "models"
    make_models(models, MLP784, TRANSFORMER)
    with gateway(directory, models=models) as server:
        wait_served(server, MLP784, TRANSFORMER)
        lines += _lines(server, directory, seconds, [case for case in CASES if case.workload.model])
    return first, lines


def _lines(server: Server, directory: Path, seconds: float, cases: Sequence[Case]) -> Iterator[Line]:
    for case in cases:
        print(f"{case.name} …", file=sys.stderr, flush=True)
        loop = ClosedLoop(server.url, case.workload, door=case.door, clients=case.clients, folder=directory)
        loop.warm_up()
        before = sum(server.cpu())
        load = loop.run(seconds)
        yield Line(case.name, load, sum(server.cpu()) - before)


def table(first: float, lines: Sequence[Line]) -> str:
    """The table as Markdown. Pure."""
    rows = [(line.name, *_figures(line)) for line in lines]
    rows.append((START, "", f"{first:.2f} s", "", ""))
    return _row(COLUMNS) + "|---" * len(COLUMNS) + "|\n" + "".join(map(_row, rows))


def _row(cells: Sequence[str]) -> str:
    return "|" + "|".join(f" {cell} " if cell else " " for cell in cells) + "|\n"


def _figures(line: Line) -> tuple[str, str, str, str]:
    load = line.load
    cpu = f"{number(1000 * line.cpu / load.requests)} s" if load.requests else "–"
    return number(round(load.rate)), f"{load.p50 * 1e3:.2f} ms", f"{load.p99 * 1e3:.2f} ms", cpu


def circumstances() -> str:
    """Where and of what the figures are, in a sentence."""
    machine, (commit, is_dirty) = about.machine(), about.commit()
    return (
        f"Measured on {date.today():%Y-%m-%d} on {machine.cores} cores"
        f" ({machine.cpu or 'of an unknown processor'}), with {generator('http:', 'v1')} on the same ones;"
        f" Python {machine.python}, commit {commit or 'unknown'}{' and changes' * is_dirty}.\n"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench quick", description="The short table of figures, within a minute."
    )
    parser.add_argument(
        "--seconds", type=float, default=4.0, help="that each load lasts, after a second's warm-up"
    )
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the table between the markers there")
    return parser
