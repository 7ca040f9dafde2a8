"""Pictures as PNG files, by matplotlib, the same pictures as the same bytes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from bench.report.pictures import Heat, Picture
from bench.report.scales import Scale


def write_png(picture: Picture, path: Path) -> None:
    """Draw it into the file."""
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    x, y = picture.scales()
    for line in picture.lines:
        points = [(x.place(across), up) for across, up in line.points]
        style = "--" if line.is_dashed else "-"
        axes.plot(
            *(zip(*points, strict=True) if points else ([], [])), style, color=f"C{line.colour}",
            label=line.name or None, linewidth=1.4, marker="o" if picture.has_marks else None, markersize=4,
        )  # fmt: skip
    if picture.heat is not None:
        _heat(axes, picture.heat, x)
    _axes(axes, picture, x, y)
    figure.savefig(path, dpi=120, metadata={"Software": None})


def _axes(axes: Axes, picture: Picture, x: Scale, y: Scale) -> None:
    axes.set_title(picture.title)
    axes.set_xlabel(picture.x)
    axes.set_ylabel(picture.y)
    axes.set_xlim(0, 1)
    axes.set_xticks([x.place(tick.value) for tick in x.ticks()], [tick.label for tick in x.ticks()])
    axes.set_yscale("log" if y.kind == "log" else "linear")
    axes.set_ylim(y.low, y.high)
    axes.set_yticks([tick.value for tick in y.ticks()], [tick.label for tick in y.ticks()])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    if any(line.name for line in picture.lines):
        axes.legend(fontsize="small")


def _heat(axes: Axes, heat: Heat, x: Scale) -> None:
    counts = np.ma.masked_equal(np.array(heat.counts).T, 0)
    edges = [*heat.edges, heat.end]
    seconds = [x.place(float(t)) for t in range(len(heat.counts) + 1)]
    shown = axes.pcolormesh(seconds, edges, counts, norm=LogNorm(1, max(2, counts.max())), cmap="viridis")
    axes.figure.colorbar(shown, ax=axes, label="answers")
