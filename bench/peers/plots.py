"""Pictures of a run of peers: bars for each server, medians of the rotations, with their range."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.figures import number
from bench.peers.catalog import LIMIT, OURS
from bench.peers.found import Found, Series
from bench.peers.tables import series_of, title
from bench.peers.workloads import WORKLOADS

OUR_COLOUR, LIMIT_COLOUR, COLOUR = "#d1495b", "0.75", "#30638e"
_BAR = 0.32  # inches


def draw(found: Found, workloads: list[str], folder: Path) -> list[Path]:
    """Write all of them as SVG, the same run as the same bytes."""
    matplotlib.rcParams["svg.hashsalt"] = "pipeline"
    folder.mkdir(parents=True, exist_ok=True)
    pictures = {"peers-throughput.svg": _throughput, "peers-latency.svg": _latency, "peers-cpu.svg": _cpu}
    paths = []
    for name, picture in pictures.items():
        figure = picture(found, workloads)
        paths.append(folder / name)
        figure.savefig(paths[-1], metadata={"Date": None})
    return paths


def _throughput(found: Found, workloads: list[str]) -> Figure:
    return _bars(found, workloads, "rate", 1.0, "requests/s, 32 clients", lambda each: True)


def _latency(found: Found, workloads: list[str]) -> Figure:
    return _bars(found, workloads, "p99", 1000.0, "p99 of 32 clients, ms (log)", _is_served, is_log=True)


def _cpu(found: Found, workloads: list[str]) -> Figure:
    return _bars(
        found, workloads, "cpu_per_1000", 1.0, "CPU s for 1,000 answers (log)", _is_served, is_log=True
    )


def _is_served(series: Series) -> bool:
    return series.peer != LIMIT


def _bars(
    found: Found, workloads: list[str], figure: str, factor: float, label: str,
    wanted: Callable[[Series], bool], *, is_log: bool = False,
) -> Figure:  # fmt: skip
    every = {each: [one for one in series_of(found, each) if wanted(one)] for each in workloads}
    heights = [max(1, len(every[each])) for each in workloads]
    sheet = Figure(figsize=(9, _BAR * sum(heights) + len(workloads)), layout="constrained")
    panels = sheet.subplots(len(workloads), squeeze=False, gridspec_kw={"height_ratios": heights})
    for workload, axes in zip(workloads, panels[:, 0], strict=True):
        _panel(axes, found, every[workload], figure, factor, is_log)
        axes.set_title(WORKLOADS[workload].title, loc="left", fontsize="medium")
    panels[-1, 0].set_xlabel(label)
    return sheet


def _panel(axes: Axes, found: Found, every: list[Series], figure: str, factor: float, is_log: bool) -> None:
    for n, series in enumerate(every):
        values = [factor * each for each in found.values(series, figure).values()]
        middle = factor * (found.typical(series, figure) or 0.0)
        colour = OUR_COLOUR if series.peer == OURS else LIMIT_COLOUR if series.peer == LIMIT else COLOUR
        if is_log:  # which has no 0 for a bar to begin at
            axes.plot([middle], [n], "o", color=colour)
        else:
            axes.barh([n], [middle], color=colour, height=0.7)
        if values:
            axes.plot([min(values), max(values)], [n, n], color="black", linewidth=1.2)
        at = (max([middle, *values]), n)
        axes.annotate(number(middle), at, (6, 0), textcoords="offset points", va="center")
    axes.set_yticks(range(len(every)), [_short(each) for each in every])
    axes.invert_yaxis()
    if is_log:
        axes.set_xscale("log")
    axes.margins(x=0.12)
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)


def _short(series: Series) -> str:
    if series.peer == LIMIT:
        return f"no server ({_many(series.workers, 'process', 'processes')})"
    workers = f" ({_many(series.workers, 'worker', 'workers')})" if series.workers else ""
    return title(series) + workers


def _many(count: int, one: str, several: str) -> str:
    return f"{count} {one if count == 1 else several}"
