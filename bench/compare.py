"""Results beside each other: `python -m bench compare a.json b.json …`.

Files of the same name (`bench run --name`) are repeats of one thing; the others are compared to the first
thing. Exit codes: 0 compared, 2 it could not be done.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from bench.comparing import Compared, Groups, Quantity, compare, grouped, reservations
from bench.figures import number
from bench.results import read_result

EXIT_OK, EXIT_USAGE = 0, 2


def main(argv: Sequence[str] | None = None) -> int:
    """Print the comparison; an exit code."""
    arguments = _parser().parse_args(argv)
    try:
        groups = grouped([(path, read_result(path)) for path in arguments.results])
        lines = list(_lines(groups, are_paired=arguments.paired))
    except (OSError, ValueError) as error:
        print(f"bench compare: {error}", file=sys.stderr)
        return EXIT_USAGE
    print("\n".join(lines))
    return EXIT_OK


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench compare",
        description="Ratios of the others to the first, with 95 %% confidence intervals.",
    )
    parser.add_argument("results", nargs="+", type=Path, help="files that `bench run` wrote")
    parser.add_argument(
        "--paired", action="store_true",
        help="the runs were made in rotation: the n-th of one beside the n-th of the other",
    )  # fmt: skip
    return parser


def _lines(groups: Groups, *, are_paired: bool) -> Iterator[str]:
    first, *others = groups
    if not others:
        raise ValueError("there is nothing to compare: give the results of two runs or more")
    for other in others:
        if are_paired and len(groups[first]) != len(groups[other]):
            raise ValueError(
                f"pairs need as many runs of each: {first} has {len(groups[first])}, "
                f"{other} {len(groups[other])}"
            )
        found = compare(groups[first], groups[other], are_paired=are_paired)
        yield from aligned([("", first, other, "ratio", "95 %", ""), *map(row, found)])
        yield ""
    yield from reservations(groups)


def row(each: Compared) -> tuple[str, str, str, str, str, str]:
    """The words of one line of the table."""
    value = (shown(each.quantity, each.first), shown(each.quantity, each.second))
    if each.ratio is None:
        return (each.quantity.name, *value, "", "", each.verdict)
    interval = f"{each.ratio.low:.3g} to {each.ratio.high:.3g}"
    return (each.quantity.name, *value, f"{each.ratio.ratio:.3g}", interval, each.verdict)


def shown(quantity: Quantity, value: float) -> str:
    """A value with its unit."""
    if quantity.unit == "share":
        return f"{100 * value:.3g} %"
    if quantity.share is not None:
        return f"{number(1000 * value)} ms"
    return f"{number(value)} {quantity.unit}".replace(" /", "/")


def aligned(rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Rows as lines, the first column to the left and figures to the right."""
    table = list(rows)
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for first, *others, last in table:
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:-1], strict=True)]
        yield "  ".join([first.ljust(widths[0]), *cells, last]).rstrip()
