"""Figures with the bound that each has to keep, and the table of them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

EXIT_OK, EXIT_MISSED, EXIT_FAILED = 0, 1, 2


class Figure(NamedTuple):
    """One measured number. It has a bound from below, one from above, or none."""

    name: str
    value: float
    unit: str
    at_least: float | None = None
    at_most: float | None = None
    note: str = ""

    @property
    def verdict(self) -> str:
        """`reached` or `missed`; empty without a bound."""
        if self.at_least is not None:
            return "reached" if self.value >= self.at_least else "missed"
        if self.at_most is not None:
            return "reached" if self.value <= self.at_most else "missed"
        return ""

    @property
    def bound(self) -> str:
        """The bound as text."""
        if self.at_least is not None:
            return f"≥ {number(self.at_least)}"
        return f"≤ {number(self.at_most)}" if self.at_most is not None else ""


def number(value: float) -> str:
    """Three digits or so, thousands apart."""
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"


def exit_code(figures: Iterable[Figure]) -> int:
    """What a benchmark ends with that could be run: whether a bound was missed."""
    return EXIT_MISSED if any(figure.verdict == "missed" for figure in figures) else EXIT_OK


def table(figures: Iterable[Figure]) -> str:
    """Lines of aligned columns: figure, value, bound, verdict, note."""
    rows = [("figure", "value", "bound", "", "")]
    rows += [
        (each.name, f"{number(each.value)} {each.unit}".strip(), each.bound, each.verdict, each.note)
        for each in figures
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return "\n".join(_line(row, widths) for row in rows)


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(
        (*(cell.ljust(width) for cell, width in zip(row[:4], widths, strict=True)), row[4])
    ).rstrip()
