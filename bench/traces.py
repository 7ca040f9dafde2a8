"""Traces of real traffic, as times and the names of what was called. Pure.

Three forms, told apart by their headers: timestamps (a column `timestamp`, `at` or `time`, in seconds or as
ISO 8601; Azure's traces of language models are such), Azure Functions of 2019 (a function a line, with its
calls in each minute of a day) and of 2021 (a call a line, with its end and duration).
"""

from __future__ import annotations

import csv
import math
import random
import re
from collections.abc import Iterable, Iterator
from datetime import datetime

Call = tuple[float, str]
"""When something was called, and its name ("" where the trace has none)."""

_TIMESTAMPS = ("timestamp", "at", "time")
_FUNCTION = ("hashfunction", "func")
_ISO = re.compile(r"(\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d)(\.\d+)?(Z|[+-]\d\d:\d\d)?")


def read_trace(lines: Iterable[str], seed: int) -> list[Call]:
    """Its calls in order, the first at 0; `ValueError` with a sentence where it is none. Where a trace only
    counts the calls of a minute, they come at random within it."""
    table = csv.reader(lines)
    head = [each.strip().lower() for each in next(table, [])]
    try:
        calls = sorted(_calls(head, table, seed))
    except (ValueError, IndexError) as error:
        raise ValueError(f"a line of the trace cannot be read: {error}") from None
    if not calls:
        raise ValueError("there is no call in this trace")
    if not all(math.isfinite(at) for at, _ in calls):
        raise ValueError("a time of the trace is not finite")
    first = calls[0][0]
    return [(at - first, name) for at, name in calls]


def _calls(head: list[str], table: Iterable[list[str]], seed: int) -> Iterator[Call]:
    name = next((head.index(each) for each in _FUNCTION if each in head), None)
    if name is not None and "1" in head:
        return _counted(table, name, [(n, int(each)) for n, each in enumerate(head) if each.isdigit()], seed)
    if "end_timestamp" in head and "duration" in head:
        return _ended(table, name, head.index("end_timestamp"), head.index("duration"))
    column = next((head.index(each) for each in _TIMESTAMPS if each in head), None)
    if column is None:
        raise ValueError(
            "its header has neither timestamp, at nor time, nor is it one of Azure Functions' (2019 or 2021)"
        )
    return ((_moment(line[column]), "") for line in table if line)


def _counted(
    table: Iterable[list[str]], name: int, minutes: list[tuple[int, int]], seed: int
) -> Iterator[Call]:
    chance = random.Random(f"trace {seed}")
    for line in table:
        for column, minute in minutes:
            for _ in range(int(line[column] or 0)):
                yield 60 * (minute - 1 + chance.random()), line[name]


def _ended(table: Iterable[list[str]], name: int | None, end: int, duration: int) -> Iterator[Call]:
    for line in table:
        yield float(line[end]) - float(line[duration]), "" if name is None else line[name]


def _moment(text: str) -> float:
    """Seconds; without a time zone it is UTC, where no hour comes twice."""
    try:
        return float(text)
    except ValueError:
        # Python 3.10 reads neither Z nor seven digits of a second.
        found = _ISO.fullmatch(text.strip())
        if found is None:
            raise
        whole, fraction, zone = found.groups()
        offset = "+00:00" if zone in (None, "Z") else zone
        return datetime.fromisoformat(whole + offset).timestamp() + float(fraction or 0)
