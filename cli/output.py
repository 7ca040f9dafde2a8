"""What a command prints on stdout: JSON for programs, tables for people."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from cli.failure import EXIT_USAGE, Failure

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

WIDE = 240  # characters, where nobody looks: a program that cuts lines gets whole ones


class Output:
    """`is_json`: programs read it; then each answer is one JSON value, and there are no tables."""

    def __init__(self, *, is_json: bool) -> None:
        self.is_json = is_json

    def check(self) -> None:
        """`Failure` if tables are wanted and cannot be made; before anything is asked of anybody."""
        if not self.is_json and importlib.util.find_spec("rich") is None:
            raise Failure(
                "tables need rich: pip install 'pipeline-inference[cli]', or give --json", EXIT_USAGE
            )

    def json(self, value: Any) -> None:
        """Print a value for programs."""
        print(json.dumps(value, indent=2, ensure_ascii=False), flush=True)

    def line(self, value: Any) -> None:
        """Print one of many values for programs, on a line of its own."""
        print(json.dumps(value, ensure_ascii=False), flush=True)

    def say(self, value: Any, sentence: str) -> None:
        """Print what became of it: the answer for programs, a sentence for people."""
        if self.is_json:
            self.json(value)
        else:
            print(sentence, flush=True)

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[Any]], *, empty: str = "") -> None:
        """Print rows for people; `empty` is said where there are none."""
        rows = list(rows)
        if not rows and empty:
            print(empty, flush=True)
            return
        console().print(make_table(columns, rows))

    def fields(self, pairs: Iterable[tuple[str, Any]]) -> None:
        """Print names and values for people."""
        from rich.table import Table

        grid = Table.grid(padding=(0, 2))
        for name, value in pairs:
            grid.add_row(_plain(name), _plain(shown(value)))
        console().print(grid)


def console() -> Console:
    """Where tables are printed: as wide as the terminal, or as they need to be where there is none."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else WIDE, highlight=False, soft_wrap=False)


def make_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], title: str | None = None) -> Table:
    """A table; numbers to the right."""
    from rich.table import Table

    rows = list(rows)
    table = Table(title=title, box=None, pad_edge=False, header_style="bold", padding=(0, 2))
    for number, name in enumerate(columns):
        is_number = bool(rows) and all(isinstance(row[number], int | float | None) for row in rows)
        table.add_column(name, justify="right" if is_number else "left", overflow="fold")
    for row in rows:
        table.add_row(*[_plain(shown(each)) for each in row])
    return table


def shown(value: Any) -> str:
    """A value as people read it."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 10_000 else f"{value:.0f}"
    if isinstance(value, list | tuple):
        return ", ".join(map(shown, value)) or "-"
    if isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False) if value else "-"
    return str(value)


def moment(seconds: float | None) -> str | None:
    """A time in unix seconds as people read it."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%d %H:%M:%SZ")


def size(count: float) -> str:
    """Bytes as people read them."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


def _plain(text: str) -> Any:
    """Text that is no markup, and brings no terminal codes of its own."""
    from rich.text import Text

    return Text("".join(each if each.isprintable() else "\ufffd" for each in text))
