"""The tree of commands. Every command takes `--url`, `--token`, `--timeout` and `--json`, before its name or
after it."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from cli.asked import DEFAULT_TIMEOUT, DEFAULT_URL

if TYPE_CHECKING:
    from cli.asked import Asked

Run = Callable[["Asked"], "int | None"]


class Tree:
    """A place in the tree where commands are added."""

    def __init__(self, parser: argparse.ArgumentParser, metavar: str = "COMMAND") -> None:
        self._parser = parser
        self._places = parser.add_subparsers(metavar=metavar, required=True, title="commands")

    def branch(self, name: str, help: str) -> Tree:
        """A command that has commands."""
        parser = self._places.add_parser(name, help=help, description=sentence(help), allow_abbrev=False)
        add_common(parser)
        return Tree(parser)

    def leaf(
        self, name: str, help: str, run: Run, *, has_tables: bool = True, epilog: str | None = None
    ) -> argparse.ArgumentParser:
        """A command that does something; `has_tables` says that it prints tables for people."""
        parser = self._places.add_parser(
            name, help=help, description=sentence(help), epilog=epilog, allow_abbrev=False
        )
        add_common(parser)
        parser.set_defaults(run=run, has_tables=has_tables)
        return parser


def add_common(parser: argparse.ArgumentParser) -> None:
    """What every command takes; nothing is set where nothing is given, so the place does not matter."""
    group = parser.add_argument_group("the gateway")
    unset = argparse.SUPPRESS
    group.add_argument(
        "--url", default=unset, metavar="URL", help=f"where it is (default: {DEFAULT_URL}) [PIPELINE_URL]"
    )
    group.add_argument("--token", default=unset, metavar="TOKEN", help="what it asks for [PIPELINE_TOKEN]")
    group.add_argument(
        "--timeout", type=seconds, default=unset, metavar="SECONDS",
        help=f"how long an answer may take (default: {DEFAULT_TIMEOUT:g})",
    )  # fmt: skip
    group.add_argument("--json", action="store_true", default=unset, help="print JSON, for programs")


def seconds(text: str) -> float:
    """A duration of a command line."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"should be a number of seconds above 0, not {text!r}")
    return value


def sentence(help: str) -> str:
    """A line of help as the description of a command."""
    return f"{help[0].upper()}{help[1:]}."
