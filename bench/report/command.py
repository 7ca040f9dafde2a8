"""A page of plots and tables: `python -m bench report a.json b.json … -o report.html`.

Files of the same name (`bench run --name`) are repeats of one thing. Exit codes: 0 written, 2 it could not.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.comparing import Groups, grouped
from bench.report.page import page
from bench.report.pictures import pictures
from bench.results import read_result

EXIT_OK, EXIT_USAGE = 0, 2


def main(argv: Sequence[str] | None = None) -> int:
    """Write the page, and PNG files if they are asked for; an exit code."""
    arguments = _parser().parse_args(argv)
    try:
        groups = grouped([(path, read_result(path)) for path in arguments.results])
        arguments.output.write_text(page(groups, arguments.title or " · ".join(groups)), "utf-8")
        written = [arguments.output]
        if arguments.png is not None:
            written += _write_pngs(groups, arguments.png)
    except (OSError, ValueError) as error:
        print(f"bench report: {error}", file=sys.stderr)
        return EXIT_USAGE
    except ModuleNotFoundError as error:
        print(
            f"bench report --png needs {error.name}: pip install 'pipeline-inference[bench]'", file=sys.stderr
        )
        return EXIT_USAGE
    for path in written:
        print(f"written to {path}")
    return EXIT_OK


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench report", description="A page of plots and tables that loads nothing else."
    )
    parser.add_argument("results", nargs="+", type=Path, help="files that `bench run` wrote")
    parser.add_argument("-o", "--output", type=Path, default=Path("report.html"), help="the page's file")
    parser.add_argument(
        "--png", type=Path, metavar="FOLDER", help="also write every plot as a PNG file there"
    )
    parser.add_argument("--title", help="of the page; else the names of the runs")
    return parser


def _write_pngs(groups: Groups, folder: Path) -> list[Path]:
    from bench.report.png import write_png  # matplotlib is needed for nothing else

    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for picture in pictures(groups):
        paths.append(folder / f"{picture.name}.png")
        write_png(picture, paths[-1])
    return paths
