"""Who is past the deadline? A timer wheel over anything hashable. Pure: time is an argument.

Adding and removing cost O(1), which a heap does not give to requests that nearly always end before their
deadline.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)

TICK = 0.01


class DeadlineWheel(Generic[T]):
    """Invariant: an item is in the spoke of its deadline, rounded up to a tick, until removed or expired."""

    def __init__(self) -> None:
        self._spokes: dict[int, dict[T, None]] = {}

    def add(self, item: T, deadline: float) -> None:
        """Watch `item`; the same `deadline` is needed to remove it."""
        spoke = self._spoke(deadline)
        items = self._spokes.get(spoke)
        if items is None:
            self._spokes[spoke] = {item: None}
        else:
            items[item] = None

    def remove(self, item: T, deadline: float) -> None:
        """Watch `item` no longer; nothing happens if it is not watched."""
        spoke = self._spoke(deadline)
        items = self._spokes.get(spoke)
        if items is not None:
            items.pop(item, None)
            if not items:
                del self._spokes[spoke]

    def earliest(self) -> float:
        """When `expire` has something to return next; infinite if there is nothing."""
        return min(self._spokes, default=math.inf) * TICK

    def expire(self, now: float) -> list[T]:
        """Remove and return everything whose deadline, rounded up to a tick, has come; earliest first."""
        due = sorted(spoke for spoke in self._spokes if spoke * TICK <= now)
        return [item for spoke in due for item in self._spokes.pop(spoke)]

    @staticmethod
    def _spoke(deadline: float) -> int:
        return -int(-deadline // TICK)
