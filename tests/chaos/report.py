"""What a run came to, as a table and as JSON. Pure."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from statistics import median
from typing import Any, NamedTuple

from tests.chaos.checker import cause
from tests.chaos.history import Asked, History, Trouble

COLUMNS = ("fault", "times", "requests", "slowest answer", "failed", "whole again, p50", "max")
CALM = "no fault"


class Line(NamedTuple):
    """All faults of one kind: requests that were under way during one, and seconds from the healing until
    every worker served."""

    kind: str
    times: int
    requests: int
    slowest: float
    failed: Counter[str]
    recoveries: list[float]


def lines(history: History) -> list[Line]:
    """One for each kind of fault, and one for what met none. A request that met two counts in both."""
    by_kind: dict[str, list[Trouble]] = defaultdict(list)
    for trouble in sorted(history.troubles):
        by_kind[trouble.kind].append(trouble)
    met = {kind: [a for a in history.asked if _met(a, troubles)] for kind, troubles in by_kind.items()}
    calm = [asked for asked in history.asked if not _met(asked, history.troubles)]
    found = [
        _line(kind, met[kind], [each.whole - each.healed for each in troubles])
        for kind, troubles in by_kind.items()
    ]
    return [*found, _line(CALM, calm, [])]


def _met(asked: Asked, troubles: Sequence[Trouble]) -> bool:
    return any(asked.sent <= trouble.whole and asked.done >= trouble.begun for trouble in troubles)


def _line(kind: str, asked: Sequence[Asked], recoveries: list[float]) -> Line:
    slowest = max((each.done - each.sent for each in asked if not each.error), default=0.0)
    failed = Counter(cause(each.error) for each in asked if each.error)
    return Line(kind, len(recoveries), len(asked), slowest, failed, recoveries)


def table(found: Sequence[Line]) -> str:
    """As Markdown."""
    rows = [COLUMNS, ("---",) * len(COLUMNS), *map(_cells, found)]
    return "".join(
        "|" + "|".join(f" {cell} " if cell != "---" else cell for cell in row) + "|\n" for row in rows
    )


def _cells(line: Line) -> tuple[str, ...]:
    failed = ", ".join(f"{count} {why}" for why, count in line.failed.most_common()) or "0"
    again = (
        (f"{median(line.recoveries):.2f} s", f"{max(line.recoveries):.2f} s") if line.recoveries else ("", "")
    )
    times = str(line.times) if line.recoveries else ""
    return line.kind, times, f"{line.requests:,}", f"{line.slowest:.2f} s", failed, *again


def summary(history: History, violations: Sequence[str]) -> str:
    """The sentences below the table."""
    doors = Counter(asked.door for asked in history.asked)
    changes = Counter(change.outcome for change in history.changes)
    rows = sum(len(job.results) for job in history.jobs)
    asked = ", ".join(f"{count:,} {door}" for door, count in doors.most_common())
    return (
        f"{len(history.asked):,} requests ({asked}); {_counted(changes)} changes of weights and versions;"
        f" {len(history.jobs)} jobs with {rows:,} rows. Violations: {len(violations)}.\n"
    )


def _counted(changes: Counter[str]) -> str:
    return ", ".join(f"{count} {outcome}" for outcome, count in changes.most_common())


def as_json(history: History, violations: Sequence[str], about: dict[str, Any]) -> dict[str, Any]:
    """Everything, so that it can be checked again."""
    return {
        **about,
        "violations": list(violations),
        "faults": [line._asdict() for line in lines(history)],
        "troubles": [each._asdict() for each in history.troubles],
        "changes": [each._asdict() for each in history.changes],
        "jobs": [asdict(job) for job in history.jobs],
        "requests": list(_requests(history)),
    }


def _requests(history: History) -> Iterator[dict[str, Any]]:
    for asked in history.asked:
        yield {**asked._asdict(), "result": None if math.isnan(asked.result) else asked.result}
