"""`python -m bench peers`: other servers of models beside ours, on this machine, one after the other.

Exit codes: 0 everything was measured, 1 something could not be (the rest is written), 2 arguments that make
no sense or a run that could not be begun.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from bench.peers import plan
from bench.peers.catalog import PEERS, ROOT
from bench.peers.display import display
from bench.peers.environments import FOLDER, is_installed
from bench.peers.found import Found
from bench.peers.load import choose
from bench.peers.outcomes import (
    About,
    done,
    read_about,
    read_outcomes,
    write_about,
)
from bench.peers.page import page
from bench.peers.plan import Times
from bench.peers.run import describe, install_all, run
from bench.peers.tables import target_table
from bench.peers.targets import targets
from bench.peers.workloads import WORKLOADS

EXIT_OK, EXIT_NOT_ALL, EXIT_USAGE = 0, 1, 2
IMAGES = "img"
# What may not change while a run is gone on with.
_SETTLED = (
    "commit", "is_dirty", "generator", "rotations", "seconds", "is_quick", "machine", "has_processes"
)  # fmt: skip
RESULTS = ROOT / "bench" / "results"


def main(argv: Sequence[str] | None = None) -> int:
    """Install, measure and write; an exit code."""
    arguments = _parser().parse_args(argv)
    signal.signal(signal.SIGTERM, _end)  # servers are to be stopped, as with Ctrl-C
    try:
        return _main(arguments)
    except (ValueError, OSError, RuntimeError) as error:
        print(f"bench peers: {error}", file=sys.stderr)
        return EXIT_USAGE
    except KeyboardInterrupt:
        print(f"bench peers: ended; go on with --results {arguments.results}", file=sys.stderr)
        return EXIT_USAGE


def _main(arguments: argparse.Namespace) -> int:
    names = _names(arguments.only, PEERS, "servers")
    folder: Path = arguments.results
    absent = {} if arguments.table else _install(names, arguments.envs)
    if arguments.install:
        return EXIT_NOT_ALL if absent else EXIT_OK
    failed = 0 if arguments.table else _measure(arguments, names, absent)
    about, outcomes = read_about(folder), read_outcomes(folder)
    if about is None:
        raise ValueError(f"there is no run in {folder}")
    found = Found(outcomes.values())
    print(target_table(targets(found, has_processes=about.has_processes)))
    print(f"\nresults in {folder}")
    if arguments.write is not None:
        _write(about, folder, arguments.write)
    return EXIT_NOT_ALL if failed or about.absent else EXIT_OK


def _install(names: Sequence[str], folder: Path) -> dict[str, str]:
    """Make the environments that are not there; why some could not be made."""
    missing = [name for name in names if not is_installed(PEERS[name], folder)]
    with display("environments", len(missing)) as say:
        return install_all(missing, folder, say)


def _measure(arguments: argparse.Namespace, names: Sequence[str], absent: dict[str, str]) -> int:
    """What is missing in the folder; how much could not be measured."""
    folder: Path = arguments.results
    workloads = _names(arguments.workloads, WORKLOADS, "workloads")
    if arguments.rotations < 1 or not arguments.seconds >= 1:
        raise ValueError("rotations and seconds are 1 or more")
    generator = choose(folder, arguments.generator).name
    rotations, seconds = (1, 1.0) if arguments.quick else (arguments.rotations, arguments.seconds)
    about = describe(
        names, workloads, arguments.envs, generator=generator, rotations=rotations, seconds=seconds,
        is_quick=arguments.quick, absent=absent,
    )  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    about = _same(read_about(folder), about, folder)
    there = [name for name in names if name not in absent]
    cells = plan.cells(there, workloads, rotations, has_processes=about.has_processes)
    left = list(plan.left(cells, done(read_outcomes(folder))))
    times = Times.of(seconds, is_quick=arguments.quick)
    _announce(left, times, folder)
    with display("peers", len(left)) as say:
        return run(left, folder, arguments.envs, generator=generator, times=times, say=say)


def _same(before: About | None, now: About, folder: Path) -> About:
    """What is to be said of the folder's run, once it is sure that this one may go on with it."""
    for name in _SETTLED if before is not None else ():
        old, new = getattr(before, name), getattr(now, name)
        if old != new:
            raise ValueError(
                f"{folder} has a run with {name} {old}, and this is one with {new}: give another --results"
            )
    if before is not None:
        now = before.joined(now)
    write_about(now, folder)
    return now


def _announce(left: list[plan.Cell], times: Times, folder: Path) -> None:
    minutes = plan.duration(left, times) / 60
    end = time.strftime("%H:%M", time.localtime(time.time() + 60 * minutes))
    load = os.getloadavg()[0]
    print(
        f"{len(left)} measurements, about {minutes:.0f} minutes (until {end}), results in {folder};"
        f" the machine's load is {load:.1f} now, and should be near 0",
        file=sys.stderr, flush=True,
    )  # fmt: skip


def _write(about: About, folder: Path, path: Path) -> None:
    from bench.peers.plots import draw  # matplotlib is needed for nothing else

    outcomes = read_outcomes(folder)
    drawn = draw(Found(outcomes.values()), about.workloads, path.parent / IMAGES)
    path.write_text(page(about, outcomes.values(), IMAGES), "utf-8")
    print("written to " + ", ".join(str(each) for each in (path, *drawn)))


def _names(given: str | None, known: Iterable[str], what: str) -> list[str]:
    every = list(known)
    chosen = every if given is None else [name.strip() for name in given.split(",") if name.strip()]
    strangers = [name for name in chosen if name not in every]
    if strangers or not chosen:
        raise ValueError(f"there are no {what} {', '.join(strangers)}: allowed are {', '.join(every)}")
    return [name for name in every if name in chosen]


def _end(*_: object) -> None:
    raise KeyboardInterrupt


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench peers", description="Other servers of models beside ours, on this machine."
    )
    add = parser.add_argument
    add("--only", metavar="NAMES", help=f"servers, with commas: {','.join(PEERS)}")
    add("--workloads", metavar="NAMES", help=f"models, with commas: {','.join(WORKLOADS)}")
    add("--rotations", type=int, default=3, help="how often each is measured, in turns")
    add("--seconds", type=float, default=3.0, help="of one load")
    add("--quick", action="store_true", help="one rotation of one second: figures to look at, not to quote")
    add("--envs", type=Path, default=FOLDER, metavar="DIR", help="where the servers' environments are made")
    add("--install", action="store_true", help="make the environments, and measure nothing")
    add("--generator", choices=("wrk", "executor"), help="else wrk, where there is one")
    add(
        "--results", type=Path, metavar="DIR", default=RESULTS / time.strftime("peers-%Y%m%d-%H%M%S"),
        help="of one run: what is there already is not measured again",
    )  # fmt: skip
    add("--table", action="store_true", help="measure nothing: show what the folder has")
    add("--write", type=Path, metavar="FILE", help="write the page and its pictures, as docs/performance.md")
    return parser
