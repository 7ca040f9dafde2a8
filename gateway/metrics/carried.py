"""What workers count of their caches, added up so that it never goes back: a worker that dies takes its
counters with it, and what it had counted stays. Pure."""

from __future__ import annotations

from typing import NamedTuple

from common.wire import StatusAnswer

MOST = 4096  # processes that are remembered


class CacheCounts(NamedTuple):
    """Rows looked up in caches; of the hits, those that waited for an equal row; entries that went."""

    hits: int = 0
    misses: int = 0
    coalesced: int = 0
    evicted: int = 0
    forgotten: int = 0


class Carried:
    """Invariant: `caches` is what every process that ever answered had counted when it last did.

    Processes are told apart by their ids, which are made anew by each. One that was given up may come back
    with what it had, so those heard last are remembered, whether they are in the fleet or not.
    """

    def __init__(self, most: int = MOST) -> None:
        self.caches = CacheCounts()
        self._most = most
        self._last: dict[str, CacheCounts] = {}  # the one heard last at the end

    def take(self, said: StatusAnswer) -> None:
        """A worker told its counters. One that is less than before counts as it was."""
        before = self._last.pop(said.worker, CacheCounts())
        now = CacheCounts(
            said.cache_hits, said.cache_misses, said.cache_coalesced, said.cache_evicted, said.cache_forgotten
        )
        now = self._last[said.worker] = CacheCounts(*map(max, now, before))
        grown = [new - old for new, old in zip(now, before, strict=True)]
        self.caches = CacheCounts(*[sum(pair) for pair in zip(self.caches, grown, strict=True)])
        if len(self._last) > self._most:
            del self._last[next(iter(self._last))]
