"""`scripts/chaos`: faults by the minute under a constant load, and a checker that reads every answer.

Exit codes: 0 nothing was wrong, 1 something was (it is printed), 2 it could not be run.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path

from bench import about
from bench.page import replaced
from tests.chaos import report, schedule
from tests.chaos.run import WORKERS, run
from tests.hosts.hosts import missing_for_hosts

EXIT_OK, EXIT_WRONG, EXIT_USAGE = 0, 1, 2
SECONDS = 600.0
RATE = 60.0  # requests a second, of all doors together
PLACE = "chaos"
SHOWN = 40  # violations that are printed


def main(argv: Sequence[str] | None = None) -> int:
    """Run, print and write; an exit code."""
    arguments = _parser().parse_args(argv)
    try:
        page = arguments.write.read_text() if arguments.write else ""
        if arguments.write:
            replaced(page, PLACE, "")  # so that minutes are not lost
        if missing := missing_for_hosts():
            raise RuntimeError(missing)
        seed = arguments.seed if arguments.seed is not None else time.time_ns() % 1_000_000
        faults, seconds = _faults(arguments, seed)
    except (OSError, ValueError, RuntimeError) as error:
        print(f"scripts/chaos: {error}", file=sys.stderr)
        return EXIT_USAGE
    print(f"seed {seed}: {len(faults)} faults within {seconds:.0f} s", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="pipeline-chaos-") as folder:
        found = run(faults, seconds, arguments.rate, arguments.logs or Path(folder), _say)
    commit, is_dirty = about.commit()
    what = f"Seed {seed}, {seconds:.0f} s, {arguments.rate:g} requests/s; {date.today():%Y-%m-%d}, commit"
    what += f" {commit or 'unknown'}{' and changes' * is_dirty}.\n"
    table = report.table(report.lines(found.history))
    text = f"{table}\n{report.summary(found.history, found.violations)}{what}"
    print(text)
    for violation in found.violations[:SHOWN]:
        print(f"VIOLATION: {violation}")
    if arguments.output:
        everything = report.as_json(found.history, found.violations, {"seed": seed, "commit": commit})
        arguments.output.write_text(json.dumps(everything))
    if arguments.write:
        arguments.write.write_text(replaced(page, PLACE, text))
    return EXIT_WRONG if found.violations else EXIT_OK


def _faults(arguments: argparse.Namespace, seed: int) -> tuple[list[schedule.Fault], float]:
    if arguments.schedule:
        with arguments.schedule.open() as file:
            faults = schedule.read(file, WORKERS)
        return faults, max((fault.healed for fault in faults), default=0.0) + schedule.LAST
    seconds = schedule.SHORTEST if arguments.quick else arguments.seconds
    faults = schedule.make(seed, seconds, WORKERS)
    if arguments.print_schedule:
        schedule.write(faults, sys.stdout)
    return faults, seconds


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scripts/chaos", description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--quick", action="store_true", help=f"{schedule.SHORTEST:.0f} s: every kind of fault once")
    add("--seconds", type=float, default=SECONDS)
    add("--seed", type=int, help="of the schedule; else another one each time")
    add(
        "--schedule", type=Path, metavar="FILE", help="of faults, as --print_schedule writes it, and no other"
    )
    add("--print_schedule", action="store_true", help="print the faults before they come")
    add("--rate", type=float, default=RATE, help="requests a second, of all doors together")
    add("--logs", type=Path, metavar="FOLDER", help="an empty folder for every program's log, to be kept")
    add("-o", "--output", type=Path, metavar="FILE", help="everything that happened, as JSON")
    add("--write", type=Path, metavar="FILE", help="put the table between the markers there")
    return parser


if __name__ == "__main__":
    sys.exit(main())
