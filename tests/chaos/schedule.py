"""The schedule of a chaos run: which fault comes when, on whom, and for how long. Pure.

A seed and a duration make one, always the same. As a file it is CSV, `at,kind,target,lasts`, so that what one
run met can be put before another.
"""

from __future__ import annotations

import csv
import random
from collections.abc import Iterable, Sequence
from typing import NamedTuple, TextIO

FIRST = 3.0  # seconds in which all is well, at the beginning
SETTLE = 4.5  # after a fault is healed, before the next that touches the same
LAST = 10.0  # and at the end: whoever has to come back has so long
JITTER = 0.5
SHORTEST = 130.0  # seconds that are enough for every kind, in whatever order
COLUMNS = ["at", "kind", "target", "lasts"]

# What a fault holds while it lasts: no two that hold the same overlap. A second worker lost to one request is
# rightly an error (two strikes), so what takes a worker away, in whatever way, holds the `fleet`.
FLEET, LINE, DISK, CLOCK, MOOD = "fleet", "line", "disk", "clock", "mood"


class Kind(NamedTuple):
    """A kind of fault: seconds that it lasts, what it holds, and whether one worker is its target."""

    name: str
    lasts: float
    holds: tuple[str, ...]
    is_of_worker: bool = True


KINDS = {
    kind.name: kind
    for kind in (
        Kind("kill worker", 1.0, (FLEET,)),
        Kind("stop worker", 4.0, (FLEET,)),
        Kind("kill gateway", 1.0, (FLEET, DISK), is_of_worker=False),
        Kind("cut worker off", 4.0, (FLEET, LINE)),
        Kind("cut gateway off", 11.0, (FLEET, LINE), is_of_worker=False),
        Kind("cut one pair", 4.0, (FLEET, LINE)),
        Kind("deaf worker", 4.0, (FLEET, LINE)),
        Kind("mute worker", 4.0, (FLEET, LINE)),
        Kind("lose 30 %", 5.0, (FLEET, LINE)),
        Kind("delay 500 ms", 5.0, (LINE,)),
        Kind("garbage", 2.0, (FLEET, MOOD)),
        Kind("out of memory", 3.0, (FLEET, MOOD)),
        Kind("slow worker", 5.0, (MOOD,)),
        Kind("disk full", 5.0, (DISK,), is_of_worker=False),
        Kind("clock jumps", 5.0, (CLOCK,)),
    )
}


class Fault(NamedTuple):
    """It begins `at` seconds after the start, and is healed `lasts` seconds later. The target is a host's
    number: 0 is the gateway's."""

    at: float
    kind: str
    target: int
    lasts: float

    @property
    def healed(self) -> float:
        """When it is healed."""
        return self.at + self.lasts


def make(seed: int, duration: float, workers: int, kinds: Sequence[str] = tuple(KINDS)) -> list[Fault]:
    """Every kind again and again, in an order by chance; `ValueError` where there is no time for all."""
    chance = random.Random(seed)
    free = dict.fromkeys((FLEET, LINE, DISK, CLOCK, MOOD), FIRST)
    found: list[Fault] = []
    for round_ in range(max(1, int(duration))):
        for name in chance.sample(list(kinds), len(kinds)):
            fault = _next(KINDS[name], free, chance, workers, after=found[-1].at if found else 0.0)
            if fault.healed + LAST > duration:
                if not round_:
                    raise ValueError(f"{duration:g} seconds are too short for every kind of fault: give more")
                return sorted(found)
            found.append(fault)
            for what in KINDS[name].holds:
                free[what] = fault.healed + SETTLE
    return sorted(found)


def _next(kind: Kind, free: dict[str, float], chance: random.Random, workers: int, *, after: float) -> Fault:
    """As soon as what it holds is free, and not before the one before it: those that hold little would else
    all come at the beginning."""
    at = max(after, *(free[what] for what in kind.holds)) + chance.uniform(0, JITTER)
    target = chance.randint(1, workers) if kind.is_of_worker else 0
    return Fault(round(at, 3), kind.name, target, kind.lasts)


def write(faults: Sequence[Fault], file: TextIO) -> None:
    """As a file."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(faults)


def read(lines: Iterable[str], workers: int) -> list[Fault]:
    """The faults of a file; `ValueError` with a sentence where it is none."""
    table = csv.DictReader(lines)
    if list(table.fieldnames or ()) != COLUMNS:
        raise ValueError(f"a schedule of faults begins with the line {','.join(COLUMNS)}")
    found = []
    for number, line in enumerate(table, 2):
        try:
            fault = Fault(float(line["at"]), line["kind"], int(line["target"]), float(line["lasts"]))
            kind = KINDS[fault.kind]
        except (TypeError, ValueError, KeyError):
            raise ValueError(f"line {number} is no fault: kinds are {', '.join(KINDS)}") from None
        if not (fault.at >= 0 and fault.lasts > 0 and kind.is_of_worker <= fault.target <= workers):
            raise ValueError(
                f"line {number}: there are hosts 0 (the gateway's) to {workers}, times above zero"
            )
        found.append(fault)
    return sorted(found)
