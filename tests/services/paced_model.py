"""end to end: a model whose cost is set. It sleeps, so that many workers on few cores hold many times as much
as one."""

from __future__ import annotations

import time
from typing import Any


def paced(x: Any, *, seconds: float) -> Any:
    """The sum of each row, so many seconds later, however many rows there are."""
    time.sleep(seconds)
    return x.sum(axis=1)
