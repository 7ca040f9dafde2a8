"""A model whose cost is set, as Python functions are served: what many rows take is told, not measured."""

from __future__ import annotations

import time
from typing import Any


def paced(x: Any, *, seconds: float) -> Any:
    """The sum of each row; every row takes so many seconds, in which the processor is free."""
    time.sleep(seconds * len(x))
    return x.sum(axis=1)
