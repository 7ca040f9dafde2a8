"""What requests failed of lately: of each kind the last one, and how many there were. Pure."""

from __future__ import annotations

from typing import NamedTuple

from common.errors import PipelineError
from gateway.scheduling.requests import ModelKey

ROOM = 100
LONGEST = 500  # characters of a message


class Failure(NamedTuple):
    """Requests that failed with one code, for one version (none, where they had none yet): how many `times`,
    from `first` to `last` in unix seconds; `message` is the last one's."""

    key: ModelKey
    code: str
    message: str
    times: int
    first: float
    last: float


class Failures:
    """Invariant: at most `room` kinds, in the order of their last times; `count` of all of them."""

    def __init__(self, room: int = ROOM) -> None:
        self._room = room
        self._kinds: dict[tuple[ModelKey, str], Failure] = {}
        self.count = 0

    def note(self, key: ModelKey, error: PipelineError, at: float) -> None:
        """A request failed."""
        self.count += 1
        kind = (key, error.code)
        before = self._kinds.pop(kind, None)
        times, first = (before.times, before.first) if before is not None else (0, at)
        self._kinds[kind] = Failure(key, error.code, str(error)[:LONGEST], times + 1, first, at)
        if len(self._kinds) > self._room:
            del self._kinds[next(iter(self._kinds))]

    def latest(self) -> list[Failure]:
        """Every kind, that which happened last at the front."""
        return list(reversed(self._kinds.values()))
