"""When requests come: made by a shape and a seed, or read from a file. Pure.

The simulator's schedule is CSV with a header. With `at,rows` each line is a request, and `rows` may be left
out; with `at,rate` it says how many requests come a second from then on. Times are in seconds.
"""

from __future__ import annotations

import csv
import itertools
import math
import random
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple


class Arrival(NamedTuple):
    """A request: when it comes, and its rows."""

    at: float
    rows: int = 1


Rate = Callable[[float], float]


def shapes(base: float, peak: float, seconds: float) -> dict[str, Rate]:
    """How many requests come a second at a time, by the name of the shape."""
    return {
        "step": lambda at: peak if seconds / 4 <= at < seconds * 3 / 4 else base,
        "ramp": lambda at: base + (peak - base) * (1 - abs(2 * at / seconds - 1)),
        "sine": lambda at: base + (peak - base) * (1 - math.cos(4 * math.pi * at / seconds)) / 2,
        "burst": lambda at: peak if at % (seconds / 6) < min(5, seconds / 12) else base,
        "gaussian": lambda at: (
            base + (peak - base) * math.exp(-(((at - seconds / 2) / (seconds / 8)) ** 2) / 2)
        ),
        "poisson": lambda _: base,
    }


def made(rate: Rate, seconds: float, seed: int) -> Iterator[Arrival]:
    """Requests that come at random, so many a second as `rate` says of the time (a Poisson process)."""
    source = random.Random(seed)
    step, at = 0.01, 0.0
    due = source.expovariate(1.0)
    while at < seconds:
        expected = rate(at) * step
        passed = 0.0
        while due <= expected - passed:
            passed += due
            yield Arrival(at + step * passed / expected)
            due = source.expovariate(1.0)
        due -= expected - passed
        at += step


def read_schedule(lines: Iterable[str], seed: int) -> list[Arrival]:
    """The requests of a schedule; `ValueError` with a sentence where it is none."""
    table = csv.DictReader(lines)
    columns = set(table.fieldnames or ())
    if columns not in ({"at"}, {"at", "rows"}, {"at", "rate"}):
        raise ValueError("a schedule begins with the line at,rows or at,rate")
    try:
        found = [(float(line["at"]), line) for line in table]
        if [at for at, _ in found] != sorted(at for at, _ in found) or not found or found[0][0] < 0:
            raise ValueError("its times are not in order, or there are none")
        if "rate" not in columns:
            return [Arrival(at, int(line.get("rows", 1))) for at, line in found]
        rates = [(at, float(line["rate"])) for at, line in found]
    except (TypeError, ValueError) as error:
        raise ValueError(f"a line of the schedule cannot be read: {error}") from None
    return list(_stepwise(rates, seed))


def _stepwise(rates: list[tuple[float, float]], seed: int) -> Iterator[Arrival]:
    """Requests by rates that hold from a time on; the last one only says when it ends."""
    for n, ((start, rate), (end, _)) in enumerate(itertools.pairwise(rates)):
        for at, rows in made(_constant(rate), end - start, seed + n):
            if start + at < end:
                yield Arrival(start + at, rows)


def _constant(rate: float) -> Rate:
    return lambda _: rate
