"""`python -m bench profile`: flame graphs of a gateway and its workers under load, and their top functions.

Exit codes: 0 it was measured, 2 arguments that make no sense or a load that could not be run.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import psutil

from bench.closed import ClosedLoop
from bench.executor.doors import DOORS
from bench.executor.payloads import read_tensor
from bench.profile.flame import drawn
from bench.profile.samplers import RATE, TOOLS, Sampler, find_sampler
from bench.profile.stacks import Stacks, table
from bench.programs import free_port, gateway
from bench.run import upload_sample
from bench.workloads import WORKLOADS, Workload, make_models, wait_served

EXIT_OK, EXIT_USAGE = 0, 2
_BEGIN_TIME = 1.0  # seconds of load beside those that are sampled, as a tool takes a moment to begin


class Target(NamedTuple):
    """Processes by what to call them, and the load that they are to have, if any."""

    pids: dict[str, int]
    load: ClosedLoop | None = None


def main(argv: Sequence[str] | None = None) -> int:
    """Sample and write; an exit code."""
    arguments = _parser().parse_args(argv)
    try:
        if not 1 <= arguments.seconds <= 3600 or not 1 <= arguments.clients <= 10_000:
            raise ValueError("seconds are from 1 to 3,600, and clients from 1 to 10,000")
        if not arguments.pid and (arguments.url or arguments.model or arguments.row):
            raise ValueError("--url is of --pid, and --model and --row of --url: a workload has its own")
        sampler = find_sampler(arguments.tool, gil=arguments.gil, native=arguments.native)
        arguments.output.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="pipeline-bench-") as directory:
            folder = Path(directory)
            attach = _attached if arguments.pid else _started
            with attach(arguments, folder) as target:
                found = sample(target, sampler, arguments.seconds, folder)
    except (RuntimeError, OSError, ValueError, psutil.Error, subprocess.SubprocessError) as error:
        print(f"bench profile: {error}", file=sys.stderr)
        return EXIT_USAGE
    for name, stacks in found.items():
        possible = round(RATE * arguments.seconds)
        text = table(name, stacks, possible=possible, count=arguments.top)
        print(text)
        path = arguments.output / re.sub(r"[^\w.-]", "_", name)
        path.with_suffix(".txt").write_text(text)
        path.with_suffix(".svg").write_text(drawn(stacks, f"{name}: {stacks.total():,} samples"))
    print(f"written to {arguments.output}")
    return EXIT_OK


def sample(target: Target, sampler: Sampler, seconds: float, folder: Path) -> dict[str, Stacks]:
    """The stacks of each process for so long, under its load."""
    if target.load is not None:
        target.load.warm_up()
    finish = {name: sampler.start(pid, seconds, folder) for name, pid in target.pids.items()}
    if target.load is not None:
        load = target.load.run(seconds + _BEGIN_TIME)
        print(
            f"{load.rate:,.0f} requests a second while it was looked at, p50 {load.p50 * 1e3:.2f} ms, by"
            f" {target.load.generator}"
        )
    return {name: each() for name, each in finish.items()}


@contextlib.contextmanager
def _started(arguments: argparse.Namespace, folder: Path) -> Iterator[Target]:
    """A gateway and workers of this tree with the workload's model."""
    workload = WORKLOADS[arguments.workload]
    address = f"127.0.0.1:{free_port()}"
    models = folder / "models"
    models.mkdir()
    make_models(models, workload)
    flags = ("--addr_grpc", address) if arguments.door == "grpc" else ()
    with gateway(folder, near=arguments.workers, models=models, flags=flags) as server:
        if not workload.model:
            upload_sample(server)
        wait_served(server, workload)
        workers = {each["name"]: each["pid"] for each in server.status()["workers"]}
        url = f"grpc://{address}" if flags else server.url
        yield Target({"gateway": server.pid} | workers, _load(arguments, url, workload, folder))


@contextlib.contextmanager
def _attached(arguments: argparse.Namespace, folder: Path) -> Iterator[Target]:
    """Processes that run; they are loaded where a URL says how."""
    pids = {f"{psutil.Process(pid).name()}-{pid}": pid for pid in arguments.pid}
    load = None
    if arguments.url:
        workload = WORKLOADS[arguments.workload]
        given = {"model": arguments.model, "tensor": arguments.row and read_tensor(arguments.row)}
        workload = workload._replace(**{name: each for name, each in given.items() if each is not None})
        load = _load(arguments, arguments.url, workload, folder)
    yield Target(pids, load)


def _load(arguments: argparse.Namespace, url: str, workload: Workload, folder: Path) -> ClosedLoop:
    return ClosedLoop(url, workload, door=arguments.door, clients=arguments.clients, folder=folder)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench profile", description="See where the time of a gateway and its workers goes."
    )
    add = parser.add_argument
    add("--workload", choices=WORKLOADS, default="tiny", help="the model, and what it is asked")
    add("--door", choices=DOORS, default="v1", help="how it is asked")
    add("--clients", type=int, default=32, help="each waits for its answer before it asks again")
    add("--workers", type=int, default=1, help="that the gateway starts")
    add("--seconds", type=float, default=10.0, help="to sample for")
    add("--pid", type=int, action="append", help="a process that runs, instead of starting any")
    add("--url", help="with --pid: what to load meanwhile; else whatever load it has")
    add("--model", help="with --url: instead of the workload's")
    add("--row", metavar="NAME:DATATYPE:SHAPE", help="with --url: what a row of that model is")
    add("--gil", action="store_true", help="only threads that have the interpreter's lock")
    add("--native", action="store_true", help="frames of C and C++, too")
    add("--tool", choices=TOOLS, help="instead of the first one that is installed")
    add("--top", type=int, default=20, help="functions in the text")
    add("-o", "--output", type=Path, default=Path("profile"), metavar="FOLDER")
    return parser
