"""What the plots of runs show, as data: lines and heat on named axes. Pure; `svg` and `png` draw it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from bench.comparing import Groups, thing
from bench.report.scales import Scale, scale_of
from bench.results import Result, Times

Points = list[tuple[float, float]]
STEPS = 16  # of a curve by percentile, for each further nine
ROWS = 16  # of a heat map, for each tenfold of latency


class Line(NamedTuple):
    """Points that belong together. Lines of one `colour` are of one thing; the legend has the named ones."""

    name: str
    colour: int
    points: Points
    is_dashed: bool = False


class Heat(NamedTuple):
    """Counts by second, from the first one on, and by bucket, whose lower limits `edges` are."""

    counts: list[list[int]]
    edges: list[float]
    colour: int

    @property
    def end(self) -> float:
        """The upper limit of the last bucket."""
        return self.edges[-1] * 10 ** (1 / ROWS)


@dataclass(frozen=True)
class Picture:
    """One plot; `name` is good for a file's name, and `x` and `y` say what is on the axes."""

    name: str
    title: str
    note: str
    x: str
    y: str
    x_kind: str = "linear"
    y_kind: str = "linear"
    lines: list[Line] = field(default_factory=list)
    heat: Heat | None = None
    has_marks: bool = False  # at each point

    def scales(self) -> tuple[Scale, Scale]:
        """Of both axes."""
        points = [point for line in self.lines for point in line.points]
        across, up = [x for x, _ in points], [y for _, y in points]
        if self.heat is not None:
            across.append(float(len(self.heat.counts)))
            up += _counted_edges(self.heat)
        return scale_of(self.x_kind, across), scale_of(self.y_kind, up)


def pictures(groups: Groups) -> list[Picture]:
    """All that have something to show, in the order of the page."""
    made = [
        by_percentile(groups),
        *([by_rate(groups)] if len(_rates(groups)) > 1 else []),
        over_time(groups),
        slow_over_time(groups),
        in_flight(groups),
        *heat_maps(groups),
    ]
    return [each for each in made if any(line.points for line in each.lines) or each.heat]


def by_percentile(groups: Groups) -> Picture:
    """Latency by the share of requests that were answered sooner."""
    lines = []
    for name, run, colour in _runs(groups):
        if not run.kept_schedule.is_kept:
            continue
        lines.append(Line(name, colour, curve(run.latency)))
        if run.service.p50 and not run.is_closed:
            lines.append(Line("", colour, curve(run.service), is_dashed=True))
    return Picture(
        "percentiles", "Latency by percentile",
        "From when a request was due by the schedule to its answer. Dashed: from when it was sent, which is "
        "all that a closed loop sees.",
        "percentile", "ms", "percentile", "log", lines,
    )  # fmt: skip


def curve(times: Times) -> Points:
    """Shares and milliseconds, up to the share that one request is."""
    if not times.count:
        return []
    last = max(1, math.ceil(math.log10(times.count) * STEPS))
    shares = [1 - 10 ** (-n / STEPS) for n in range(last)]
    shares = [share for share in shares if (1 - share) * times.count >= 1]
    found = times.histogram().get_percentile_to_value_dict([100 * share for share in shares])
    return [(share, found[100 * share] / 1000) for share in shares]


def by_rate(groups: Groups) -> Picture:
    """What latency a rate costs: one point for each run."""
    lines = []
    of_things: dict[str, list[Result]] = {}
    colours: dict[str, int] = {}
    for colour, (name, runs) in enumerate(groups.items()):
        of_things.setdefault(thing(name, runs), []).extend(runs)
        colours.setdefault(thing(name, runs), colour)
    for name, runs in of_things.items():
        ordered = sorted((run for run in runs if run.answered and run.kept_schedule.is_kept), key=_offered)
        slow = [(_offered(run), 1000 * run.latency.p99) for run in ordered]
        usual = [(_offered(run), 1000 * run.latency.p50) for run in ordered]
        lines += [Line(name, colours[name], slow), Line("", colours[name], usual, is_dashed=True)]
    return Picture(
        "rates", "Latency by rate", "The 99th percentile; dashed: the median. One point is one run.",
        "requests/s offered", "ms", "linear", "log", lines, has_marks=True,
    )  # fmt: skip


def over_time(groups: Groups) -> Picture:
    """Answers a second; errors dashed where there were any."""
    lines = []
    for name, run, colour in _runs(groups):
        whole = [second for second in run.timeline if second.t + 1 <= run.duration]
        lines.append(Line(name, colour, [(second.t, second.answered) for second in whole]))
        if run.errors:
            lines.append(Line("", colour, [(second.t, second.errors) for second in whole], is_dashed=True))
    return Picture(
        "throughput", "Throughput over time", "Answers by the second that they came in; dashed: errors.",
        "s", "answers/s", lines=lines,
    )  # fmt: skip


def slow_over_time(groups: Groups) -> Picture:
    """The median and the 99th percentile of each second."""
    lines = []
    for name, run, colour in _runs(groups):
        some = [second for second in run.timeline if second.answered]
        lines.append(Line(name, colour, [(second.t, 1000 * second.p99) for second in some]))
        lines.append(Line("", colour, [(second.t, 1000 * second.p50) for second in some], is_dashed=True))
    return Picture(
        "latency", "Latency over time", "The 99th percentile of each second; dashed: the median.",
        "s", "ms", y_kind="log", lines=lines,
    )  # fmt: skip


def in_flight(groups: Groups) -> Picture:
    """How many requests waited for their answers."""
    lines = [
        Line(name, colour, [(second.t, second.in_flight) for second in run.timeline])
        for name, run, colour in _runs(groups)
    ]
    return Picture(
        "in-flight", "Requests in flight", "At the end of each second.", "s", "requests", lines=lines
    )


def heat_maps(groups: Groups) -> Iterator[Picture]:
    """Each group's first run: how many answers of each latency came in each second."""
    for colour, (name, (run, *_)) in enumerate(groups.items()):
        if not run.heat or len(run.heat_edges) < 2:
            continue
        counts = {heat.t: heat.counts for heat in run.heat}
        none = [0] * len(run.heat_edges)
        together = max(1, round(1 / (ROWS * math.log10(run.heat_edges[1] / run.heat_edges[0]))))
        table = [_summed(counts.get(t, none), together) for t in range(max(counts) + 1)]
        yield Picture(
            f"heat-{colour}", f"Latencies of {name}", "The darker, the more answers; on a logarithmic scale.",
            "s", "ms", y_kind="log",
            heat=Heat(table, [1000 * edge for edge in run.heat_edges[::together]], colour),
        )  # fmt: skip


def _runs(groups: Groups) -> Iterator[tuple[str, Result, int]]:
    """Every run, named if it is its group's first, with its group's colour."""
    for colour, (name, runs) in enumerate(groups.items()):
        for n, run in enumerate(runs):
            yield name if n == 0 else "", run, colour


def _rates(groups: Groups) -> set[float]:
    return {round(_offered(run), 3) for runs in groups.values() for run in runs}


def _offered(run: Result) -> float:
    return run.rate if run.is_closed else run.schedule.offered_rate


def _summed(counts: list[int], together: int) -> list[int]:
    """Neighbours taken together, so many at a time."""
    return [sum(counts[n : n + together]) for n in range(0, len(counts), together)]


def _counted_edges(heat: Heat) -> list[float]:
    """The limits of those buckets that hold anything."""
    sums = [sum(column) for column in zip(*heat.counts, strict=True)]
    filled = [n for n, count in enumerate(sums) if count] or [0]
    edges = [*heat.edges, heat.end]
    return [edges[filled[0]], edges[filled[-1] + 1]]
