"""Simulated runs as a picture: traffic, workers, what waits, and the 99th percentile."""

from __future__ import annotations

import math
from collections import defaultdict
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from bench.simulation import Run

RESOLUTION = 1.0  # seconds in one point


def plot(runs: dict[str, Run], path: Path) -> None:
    """Draw the runs above each other into an SVG or PNG file, the same runs as the same bytes."""
    matplotlib.rcParams["svg.hashsalt"] = "pipeline"
    figure = Figure(figsize=(9, 7), layout="constrained")
    traffic, workers, queue, slow = figure.subplots(4, sharex=True)
    for n, (name, run) in enumerate(runs.items()):
        colour = f"C{n}"
        at = [each.at for each in run.samples]
        if not n:
            traffic.plot(*_mean([(each.at, each.rate) for each in run.samples]), color="0.3")
        workers.step(at, [each.wanted for each in run.samples], where="post", color=colour, alpha=0.4)
        workers.step(at, [each.ready for each in run.samples], where="post", color=colour, label=name)
        queue.plot(*_mean([(each.at, each.waiting) for each in run.samples]), color=colour)
        slow.plot(*_percentiles(run), color=colour)
    traffic.set_ylabel("rows/s")
    workers.set_ylabel("workers\n(pale: wanted)")
    queue.set_ylabel("rows waiting")
    slow.set_ylabel("p99, ms")
    slow.set_yscale("log")
    slow.set_xlabel("seconds")
    if len(runs) > 1:
        workers.legend(fontsize="small")
    for each in (traffic, workers, queue, slow):
        each.grid(alpha=0.3)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None, dpi=80)


def _mean(points: list[tuple[float, float]]) -> tuple[list[float], list[float]]:
    bins = _binned(points)
    return list(bins), [sum(values) / len(values) for values in bins.values()]


def _percentiles(run: Run) -> tuple[list[float], list[float]]:
    bins = _binned(sorted(run.latencies))
    worst = [sorted(each)[math.ceil(len(each) * 0.99) - 1] * 1000 for each in bins.values()]
    return list(bins), worst


def _binned(points: list[tuple[float, float]]) -> dict[float, list[float]]:
    bins: dict[float, list[float]] = defaultdict(list)
    for at, value in points:
        bins[at // RESOLUTION * RESOLUTION].append(value)
    return bins
