"""Pages of documentation that show figures."""

from __future__ import annotations

from bench.quick import BEGIN, END


def table_cells(page: str) -> list[list[str]]:
    """The rows of the table between the markers of `bench quick`."""
    shown = page.partition(BEGIN)[2].partition(END)[0]
    lines = [line for line in shown.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
