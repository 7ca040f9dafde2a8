"""Shows how a run goes: in place on a terminal, else a line now and then."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator

from bench.executor.progress import Moment

LINE_TIME = 5.0  # seconds between two lines, where there is no terminal

Show = Callable[[Moment], None]


@contextlib.contextmanager
def display(duration: float) -> Iterator[Show]:
    """What shows a moment, on stderr."""
    if not sys.stderr.isatty():
        yield _Lines(duration)
        return
    try:
        from rich.console import Console, Group
        from rich.live import Live
        from rich.progress_bar import ProgressBar
        from rich.text import Text
    except ModuleNotFoundError:
        print("for a display in place: pip install 'pipeline-inference[bench]'", file=sys.stderr)
        yield _Lines(duration)
        return
    with Live(console=Console(stderr=True), refresh_per_second=4) as live:

        def show(moment: Moment) -> None:
            bar = ProgressBar(total=duration, completed=max(moment.at, 0.0), width=60)
            live.update(Group(bar, Text(text(moment, duration))))

        yield show


class _Lines:
    def __init__(self, duration: float) -> None:
        self._duration = duration
        self._next = LINE_TIME

    def __call__(self, moment: Moment) -> None:
        if moment.at >= self._next:
            self._next += LINE_TIME
            print(text(moment, self._duration).replace("\n", "; "), file=sys.stderr, flush=True)


def text(moment: Moment, duration: float) -> str:
    """A moment in two lines. Pure."""
    when = f"{moment.at:.0f} of {duration:.0f} s" if moment.at >= 0 else f"warm-up, {-moment.at:.0f} s left"
    if moment.at < 0:
        return when
    workers = ", ".join(f"{name} {share:.0%}" for name, share in list(moment.workers.items())[:8])
    return (
        f"{when}: {moment.rate:,.0f} a second, p50 {moment.p50 * 1e3:.2f} ms, p99 {moment.p99 * 1e3:.2f} ms,"
        f" {moment.in_flight:,} in flight, {moment.errors:,} errors ({moment.all_errors:,} in all)"
        + (f"\nworkers: {workers}" if workers else "")
    )
