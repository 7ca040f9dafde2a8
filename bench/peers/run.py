"""One run: what is not measured yet, one after the other, each result written as soon as it is there."""

from __future__ import annotations

import contextlib
import http.client
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path

from bench import about
from bench.peers import faults, measure
from bench.peers.catalog import LIMIT, PEERS, ROOT, Start
from bench.peers.environments import install, python, versions
from bench.peers.limit import rows_a_second
from bench.peers.load import choose
from bench.peers.measure import Bench, Figures
from bench.peers.outcomes import About, Outcome, write_outcome
from bench.peers.plan import Cell, Times
from bench.peers.served import Served, served
from bench.programs import free_port

MEASURES: dict[str, Callable[[Bench, Served], Figures]] = {
    "load": measure.load,
    "neighbours": faults.neighbours,
    "kill": faults.kill,
    "overload": faults.overload,
    "zipf": faults.zipf,
}
Say = Callable[[str], None]


def install_all(peers: Sequence[str], folder: Path, say: Say) -> dict[str, str]:
    """Make the environments that are not there; why some could not be made, by the peers' names."""
    absent = {}
    for name in peers:
        try:
            install(PEERS[name], folder)
            say(f"{PEERS[name].title}: installed in {folder / name}")
        except (RuntimeError, OSError) as error:
            absent[name] = str(error)
            say(f"{PEERS[name].title} could not be installed, and is left out: {error}")
    return absent


def describe(
    peers: Sequence[str], workloads: Sequence[str], folder: Path, *,
    generator: str, rotations: int, seconds: float, is_quick: bool, absent: dict[str, str],
) -> About:  # fmt: skip
    """What is written of a run that begins now."""
    commit, is_dirty = about.commit()
    installed = {name: versions(PEERS[name], folder) for name in peers if name not in absent}
    return About(
        started=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        machine=about.machine(),
        commit=commit,
        is_dirty=is_dirty,
        generator=generator,
        rotations=rotations,
        seconds=seconds,
        is_quick=is_quick,
        peers=list(peers),
        workloads=list(workloads),
        has_processes=has_processes(),
        versions={name: found.get(PEERS[name].package, "") for name, found in installed.items()},
        torches={name: found.get("torch", "") for name, found in installed.items()},
        absent=absent,
    )


def has_processes() -> bool:
    """Whether our gateway can be several processes on one port."""
    command = [sys.executable, str(ROOT / "gw.py"), "--help"]
    return "--processes" in subprocess.run(command, capture_output=True, text=True, check=False).stdout


def run(
    cells: Sequence[Cell], results: Path, environments: Path, *, generator: str, times: Times, say: Say
) -> int:
    """Measure them all; how many could not be."""
    failed = 0
    with tempfile.TemporaryDirectory(prefix="peers-") as directory:
        home = Path(directory)
        (home / "programs").mkdir()
        subprocess.run(
            [sys.executable, "-W", "ignore", "-m", "bench.peers.workloads", str(home / "programs")],
            cwd=ROOT, check=True,
        )  # fmt: skip
        bench = Bench(choose(home, generator), times)
        for n, cell in enumerate(cells, 1):
            began = time.monotonic()
            outcome = measured(cell, bench, home, environments)
            write_outcome(outcome, results, cell.name)
            failed += bool(outcome.error)
            say(f"{n} of {len(cells)}: {cell.name}: {shown(outcome)} ({time.monotonic() - began:.0f} s)")
    return failed


def measured(cell: Cell, bench: Bench, home: Path, environments: Path) -> Outcome:
    """One measurement, or why there is none."""
    outcome = Outcome(**cell._asdict())
    try:
        if cell.peer == LIMIT:
            rate = rows_a_second(
                home / "programs", cell.workload, cell.workers, bench.times.load_of(cell.workload)
            )
            return _with(outcome, {"rate": rate})
        with _start(cell, home, environments) as start, served(PEERS[cell.peer], start) as server:
            return _with(outcome, MEASURES[cell.kind](bench, server))
    except (
        RuntimeError,
        OSError,
        ValueError,
        http.client.HTTPException,
        subprocess.SubprocessError,
    ) as error:
        return Outcome(**cell._asdict(), error=f"{type(error).__name__}: {error}")


def _with(outcome: Outcome, figures: Figures) -> Outcome:
    cell = {name: getattr(outcome, name) for name in Cell._fields}
    return Outcome(**cell, figures={name: float(value) for name, value in figures.items()})


@contextlib.contextmanager
def _start(cell: Cell, home: Path, environments: Path) -> Iterator[Start]:
    """A folder of its own, which goes with it. Its name is short: some put Unix sockets there."""
    with tempfile.TemporaryDirectory(prefix="p-") as folder:
        yield Start(
            str(python(PEERS[cell.peer], environments)),
            cell.workload,
            cell.workers,
            free_port(),
            home / "programs",
            Path(folder),
            cell.variant,
            is_cached=cell.kind == "zipf",
        )


def shown(outcome: Outcome) -> str:
    """In a few words. Pure."""
    if outcome.error:
        return f"not measured: {outcome.error.splitlines()[0][:200]}"
    figures = outcome.figures
    if "spoiled" in figures:
        return f"{figures['spoiled']:,.0f} of {figures['good']:,.0f} good requests spoiled"
    if "failed" in figures:
        return f"{figures['failed']:,.0f} failed, then {figures['rate_after']:,.0f} a second"
    if "crowd_rate" in figures:
        return f"{figures['calm_rate']:,.0f} a second of 32 clients, {figures['crowd_rate']:,.0f} of 256"
    said = f"{figures['rate']:,.0f} a second"
    return f"{said}, {figures['wrong']:.0f} wrong answers" if figures.get("wrong") else said
