"""How a scoring function tells its caller how far it is: `ml_pool.report(0.3)`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

_report: Callable[[Any], None] | None = None


def report(value: Any) -> None:
    """Have `on_progress` of the job that runs here called with the value; nothing where no job runs."""
    if _report is not None:
        _report(value)


@contextlib.contextmanager
def reporting(to: Callable[[Any], None]) -> Iterator[None]:
    """For the worker: while this lasts, `report` goes there."""
    global _report
    _report = to
    try:
        yield
    finally:
        _report = None
