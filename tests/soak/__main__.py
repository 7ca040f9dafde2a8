"""`scripts/soak`: half an hour of load over every door, and whether anything that the processes hold grows.

Exit codes: 0 nothing was wrong, 1 something was (it is printed), 2 it could not be run.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from datetime import date
from pathlib import Path

from bench import about
from bench.page import replaced
from tests.soak import findings
from tests.soak.run import Outcome, run

EXIT_OK, EXIT_WRONG, EXIT_USAGE = 0, 1, 2
MINUTES, RATE = 30.0, 100.0
PLACE = "soak"
SHOWN = 40


def main(argv: Sequence[str] | None = None) -> int:
    """Run, print and write; an exit code."""
    arguments = _parser().parse_args(argv)
    try:
        page = arguments.write.read_text() if arguments.write else ""
        if arguments.write:
            replaced(page, PLACE, "")  # so that minutes are not lost
        if arguments.minutes < 1:
            raise ValueError("a soak takes a minute at least")
        with tempfile.TemporaryDirectory(prefix="pipeline-soak-") as folder:
            found = run(60 * arguments.minutes, arguments.rate, Path(folder), _say)
    except (OSError, ValueError, RuntimeError) as error:
        print(f"scripts/soak: {error}", file=sys.stderr)
        return EXIT_USAGE
    lines = findings.lines(found.samples)
    text = f"{findings.table(lines)}\n{_summary(found, arguments.minutes)}"
    print(text)
    wrong = [*(each for line in lines for each in line.wrong()), *found.violations]
    for each in wrong[:SHOWN]:
        print(f"WRONG: {each}")
    if arguments.write:
        arguments.write.write_text(replaced(page, PLACE, text))
    return EXIT_WRONG if wrong else EXIT_OK


def _summary(found: Outcome, minutes: float) -> str:
    commit, is_dirty = about.commit()
    doors = Counter(asked.door for asked in found.history.asked)
    asked = ", ".join(f"{count:,} {door}" for door, count in doors.most_common())
    failed = sum(bool(asked.error) for asked in found.history.asked)
    return (
        f"{minutes:g} minutes, {len(found.history.asked):,} requests ({asked}), {failed} failed;"
        f" {len(found.history.changes)} changes of models, {found.replaced} workers replaced,"
        f" {len(found.history.jobs)} jobs; {date.today():%Y-%m-%d},"
        f" commit {commit or 'unknown'}{' and changes' * is_dirty}.\n"
    )


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scripts/soak", description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--minutes", type=float, default=MINUTES)
    add("--rate", type=float, default=RATE, help="requests a second, of all doors together")
    add("--write", type=Path, metavar="FILE", help="put the table between the markers there")
    return parser


if __name__ == "__main__":
    sys.exit(main())
