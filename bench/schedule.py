"""A schedule: when each request is due, for which model, and with which input. Pure.

As a file it is CSV, `at,model,input`, behind one line `# {…}` of JSON that says how it was made. An input is
a number (a row that the executor makes from it, always the same one) or `FILE:LINE`, a row of a file of them.
"""

from __future__ import annotations

import bisect
import csv
import itertools
import math
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple, TextIO

import msgspec

from bench.arrivals import made, shapes

PATTERNS = ("constant", "poisson", "burst", "sine", "ramp", "gaussian", "step", "trace")
UNIFORM = 1_000_000  # different inputs, unless it is said how many
COLUMNS = ["at", "model", "input"]


class Row(NamedTuple):
    """One request: seconds after the start, its model ("" for the server's own default), its input."""

    at: float
    model: str
    input: str


class Made(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a schedule was made, and how long it lasts."""

    duration: float
    pattern: str = ""
    seed: int | None = None
    inputs: str = ""


class Schedule(NamedTuple):
    """Requests in the order of their times."""

    made: Made
    rows: list[Row]

    @property
    def rate(self) -> float:
        """Requests a second, on the whole."""
        return len(self.rows) / self.made.duration if self.made.duration else 0.0


def times(pattern: str, rate: float, peak: float, duration: float, seed: int) -> list[float]:
    """When requests come. `constant` spaces them evenly; all others are Poisson processes, of one rate or of
    one that goes from `rate` to `peak` and back."""
    if not all(0 < each < math.inf for each in (rate, peak, duration)):
        raise ValueError("rate, peak and duration are numbers above zero")
    if pattern == "constant":
        return [n / rate for n in range(round(rate * duration))]
    found = shapes(rate, peak, duration)
    if pattern not in found:
        raise ValueError(f"there is no pattern {pattern!r}: allowed are {', '.join(PATTERNS)}")
    return [each.at for each in made(found[pattern], duration, seed) if each.at < duration]


def inputs(source: str, seed: int, lines: Callable[[str], int]) -> Callable[[], str]:
    """What draws one input after the other; `lines` says how many a file has.

    `uniform` and `uniform(n)`: each of n inputs is as likely. `zipf(s,n)`: the k-th of n with a probability
    that goes as 1 / k**s. Anything else is a file, whose lines are taken in turn.
    """
    chance = random.Random(f"inputs {seed}")
    name, _, rest = source.partition("(")
    if name in ("uniform", "zipf"):
        try:
            values = [float(each) for each in rest.rstrip(")").split(",")] if rest else []
        except ValueError:
            values = []
        if name == "zipf" and len(values) == 2:
            return _zipf(values[0], int(values[1]), chance)
        count = int(values[0]) if values else UNIFORM
        if name == "zipf" or len(values) > 1 or count < 1 or (rest and not values):
            raise ValueError(f"{source!r} is neither uniform, uniform(n), zipf(s,n) nor a file")
        return lambda: str(chance.randrange(count))
    turn = itertools.cycle(range(1, lines(source) + 1))
    return lambda: f"{source}:{next(turn)}"


def _zipf(s: float, n: int, chance: random.Random) -> Callable[[], str]:
    if n < 1 or s < 0:
        raise ValueError("zipf(s,n) takes an s from 0 and an n from 1")
    ends = list(itertools.accumulate(k**-s for k in range(1, n + 1)))
    return lambda: str(bisect.bisect_left(ends, chance.random() * ends[-1]))


def models(names: Sequence[str], seed: int) -> Callable[[], str]:
    """What draws one model after the other; each name may have a weight behind `=`."""
    parts = [each.partition("=") for each in names or [""]]
    try:
        weights = [float(weight or 1) for _, _, weight in parts]
    except ValueError:
        raise ValueError("a model is NAME or NAME=WEIGHT, and the weight a number") from None
    if min(weights) < 0 or not sum(weights):
        raise ValueError("a model's weight is not below 0, and not all are 0")
    chosen = [name for name, _, _ in parts]
    if len(chosen) == 1:
        return lambda: chosen[0]
    chance = random.Random(f"models {seed}")
    return lambda: chance.choices(chosen, weights)[0]


def write(schedule: Schedule, file: TextIO) -> None:
    """As a file."""
    file.write(f"# {msgspec.json.encode(schedule.made).decode()}\n")
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows((f"{row.at:.6f}", row.model, row.input) for row in schedule.rows)


def read(lines: Iterable[str]) -> Schedule:
    """The schedule of a file; `ValueError` with a sentence where it is none. What a column that is missing
    would say: the default model, and for each request another input."""
    head, lines = _head(iter(lines))
    table = csv.DictReader(lines)
    columns = list(table.fieldnames or ())
    if columns[:1] != ["at"] or not set(columns) <= set(COLUMNS):
        raise ValueError(f"a schedule begins with the line {','.join(COLUMNS)}, or less behind at")
    try:
        rows = [
            Row(float(line["at"]), line.get("model") or "", line.get("input") or str(n))
            for n, line in enumerate(table)
        ]
    except (TypeError, ValueError) as error:
        raise ValueError(f"a line of the schedule cannot be read: {error}") from None
    if not rows or not rows[0].at >= 0 or not all(a.at <= b.at < math.inf for a, b in _pairs(rows)):
        raise ValueError("the schedule's times are not in order, or there are none")
    return Schedule(head or Made(duration([row.at for row in rows])), rows)


def _pairs(rows: list[Row]) -> Iterator[tuple[Row, Row]]:
    return itertools.pairwise([*rows, rows[-1]])


def duration(at: list[float]) -> float:
    """Until one more request would be due; a second where there is no telling."""
    return at[-1] * len(at) / (len(at) - 1) if at[-1] else 1.0


def _head(lines: Iterator[str]) -> tuple[Made | None, Iterator[str]]:
    first = next(lines, "")
    if not first.startswith("#"):
        return None, itertools.chain([first], lines)
    try:
        return msgspec.json.decode(first[1:], type=Made), lines
    except ValueError as error:
        raise ValueError(f"the first line does not say how the schedule was made: {error}") from None
