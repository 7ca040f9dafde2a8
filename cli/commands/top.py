"""`pipeline top`: what `status` shows, again and again."""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from cli.asked import Asked
from cli.commands.status import COLUMNS, summary, worker_rows
from cli.failure import EXIT_LATER, EXIT_NO_GATEWAY, Failure
from cli.output import console, make_table
from cli.parser import Tree, seconds

if TYPE_CHECKING:
    from rich.console import RenderableType

Status = dict[str, Any]


def add(tree: Tree) -> None:
    """`top`."""
    parser = tree.leaf("top", "the fleet as it is now, until Ctrl-C", run)
    parser.add_argument(
        "--interval", type=seconds, default=1.0, metavar="SECONDS", help="between two looks (default: 1)"
    )
    parser.add_argument("--count", type=_count, default=None, metavar="N", help="looks (default: for ever)")


def run(asked: Asked) -> None:
    """A view that is drawn anew, on a terminal; elsewhere one view after the other; JSON: one line a look."""
    if asked.output.is_json or not sys.stdout.isatty():
        for look in _looks(asked):
            if asked.output.is_json:
                asked.output.line(look.status if look.failure is None else {"error": look.failure})
            else:
                console().print(look.view(asked.url))
        return
    from rich.live import Live

    with Live(console=console(), screen=True, auto_refresh=False) as live:
        for look in _looks(asked):
            live.update(look.view(asked.url), refresh=True)


class Look:
    """What the gateway said, or why it said nothing; `rate` is in requests a second since the look before."""

    def __init__(self, status: Status, rate: float | None, failure: str | None) -> None:
        self.status = status
        self.rate = rate
        self.failure = failure

    def view(self, url: str) -> RenderableType:
        """For a terminal."""
        from rich.console import Group
        from rich.text import Text

        parts: list[RenderableType] = []
        if self.failure is not None:
            parts.append(Text(self.failure, style="bold red"))
        if self.status:
            pairs = list(summary(url, self.status))
            rate = "-" if self.rate is None else f"{self.rate:.1f} requests/s"
            parts.append(make_table(("", ""), [*pairs, ("rate", rate)]))
            parts.append(Text())
            parts.append(make_table(COLUMNS, worker_rows(self.status)))
        return Group(*parts)


def _looks(asked: Asked) -> Iterator[Look]:
    """Looks at the gateway; one that is not there is tried again."""
    given = asked.arguments
    last: tuple[float, Status] | None = None
    for number in itertools.count(1):
        now = time.monotonic()
        try:
            status = asked.do("GET", "status")
        except Failure as failure:
            if failure.code not in (EXIT_NO_GATEWAY, EXIT_LATER) or given.count == number == 1:
                raise
            yield Look(last[1] if last else {}, None, str(failure))
        else:
            yield Look(status, None if last is None else _rate(last, (now, status)), None)
            last = now, status
        if number == given.count:
            return
        time.sleep(given.interval)


def _rate(before: tuple[float, Status], after: tuple[float, Status]) -> float | None:
    """Requests answered a second; None where the gateway was started anew in between."""
    counts = [status["count_requests_handled"] for _, status in (before, after)]
    return None if counts[1] < counts[0] else (counts[1] - counts[0]) / max(1e-9, after[0] - before[0])


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 10**9):
        raise argparse.ArgumentTypeError(f"should be a whole number above 0, not {text!r}")
    return int(text)
