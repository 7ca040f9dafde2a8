"""What a soak came to: a line for each process that stayed, and what is wrong. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import NamedTuple

from tests.soak.footprint import Footprint
from tests.soak.slope import Slope, slope

WARM_UP = 0.25  # of the run, which is not looked at: caches fill, and allocators find their size
HOUR, MIB = 3600.0, float(1 << 20)
GROWTH = 2.0  # MiB an hour that memory may certainly grow by: 0.05 % an hour of what a host has
COUNTS = ("descriptors", "sockets", "memfds", "threads")
SLACK = 3  # more of any, which come and go with connections and turns
COLUMNS = ("process", "memory", "growth an hour (95 % interval)", *COUNTS)

Samples = Sequence[tuple[float, Footprint]]


class Line(NamedTuple):
    """A process: MiB at the end, MiB that it grows by an hour, and each count at first and at last."""

    name: str
    memory: float
    growth: Slope
    counts: dict[str, tuple[float, float]]

    def wrong(self) -> list[str]:
        """A sentence for everything that grows."""
        found = []
        if self.growth.low > GROWTH:
            found.append(f"{self.name} grows by {self.growth.low:.1f} MiB an hour at least")
        found += [
            f"{self.name} had {first:g} {count} and has {last:g}"
            for count, (first, last) in self.counts.items()
            if last > first + SLACK
        ]
        return found


def lines(samples: Mapping[str, Samples]) -> list[Line]:
    """One for each process, of what was seen after the warm-up."""
    return [_line(name, each) for name, each in samples.items()]


def _line(name: str, samples: Samples) -> Line:
    end = samples[-1][0]
    warm = [(at, each) for at, each in samples if at >= WARM_UP * end]
    found = slope([(at, each.rss / MIB) for at, each in warm])
    part = max(1, len(warm) // 4)
    counts = {
        count: (
            median(getattr(each, count) for _, each in warm[:part]),
            median(getattr(each, count) for _, each in warm[-part:]),
        )
        for count in COUNTS
    }
    return Line(name, warm[-1][1].rss / MIB, Slope(*(HOUR * each for each in found)), counts)


def table(found: Sequence[Line]) -> str:
    """As Markdown."""
    rows = [COLUMNS, ("---",) * len(COLUMNS), *map(_cells, found)]
    return "".join(f"|{'|'.join(cell if cell == '---' else f' {cell} ' for cell in row)}|\n" for row in rows)


def _cells(line: Line) -> tuple[str, ...]:
    growth = f"{line.growth.value:+.1f} MiB ({line.growth.low:+.1f} to {line.growth.high:+.1f})"
    counts = [f"{first:g} → {last:g}" for first, last in line.counts.values()]
    return line.name, f"{line.memory:.0f} MiB", growth, *counts
