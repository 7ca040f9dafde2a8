"""What happened in a chaos run, as it is known from outside: requests, changes, jobs, faults. Pure.

Times are seconds after the start, on one monotonic clock.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import NamedTuple

Row = tuple[float, float]


class Asked(NamedTuple):
    """A prediction: what was sent where and when, and what came back. `error` is empty for an answer."""

    door: str
    model: str
    row: Row
    sent: float
    done: float
    error: str = ""
    version: str = ""
    result: float = math.nan


class Change(NamedTuple):
    """Somebody made a version of a model the active one. `outcome` is "done"; or "refused", which means that
    nothing has changed; or "unknown", as the answer was lost: it has happened or it has not, by `ended`."""

    model: str
    version: str
    begun: float
    ended: float
    outcome: str
    why: str = ""


@dataclass
class Job:
    """A job that somebody submitted under a key of its own. Until it was acknowledged nobody relies on it."""

    key: str
    model: str
    rows: list[Row]
    submitted: float
    is_file: bool = False
    acknowledged: float | None = None
    id: str = ""
    refused: list[tuple[float, str]] = field(default_factory=list)
    # What was found at the end:
    state: str = ""
    version: str = ""
    results: list[tuple[int, float]] = field(default_factory=list)
    """Row numbers from 1, and what was answered."""


class Trouble(NamedTuple):
    """A fault, as it was really done: begun, healed, and when the fleet was whole again."""

    kind: str
    target: int
    begun: float
    healed: float
    whole: float


@dataclass
class History:
    """All of it. Every request that was due is in `asked`, whatever became of it."""

    asked: list[Asked] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    jobs: list[Job] = field(default_factory=list)
    troubles: list[Trouble] = field(default_factory=list)
    strays: list[str] = field(default_factory=list)
    """Jobs that are there at the end, and that nobody was ever told of."""
    deaths: list[str] = field(default_factory=list)
    """Processes that ended, and that nobody had killed."""
