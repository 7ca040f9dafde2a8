"""A worker manager over a network in memory, for the autoscaler's tests: who is wanted comes after a while,
who is not leaves in good order. Nothing here is a test."""

from __future__ import annotations

from typing import NamedTuple

import trio

from gateway.fleet.roster import State as Life
from tests.gateway.fakes import FakeWorker
from tests.gateway.site import Site


class Counts(NamedTuple):
    wanted: int
    ready: int
    starting: int
    draining: int
    failing: int


class Staff:
    """As many workers of a site as are wanted, each ready `start` seconds after it was; `how` is what they
    are like. While it `fails` none comes."""

    def __init__(self, site: Site, *, first: int = 1, start: float = 0.15, **how: float) -> None:
        self.target = first
        self.wanted: list[tuple[float, int, str]] = []
        self.limits: tuple[int, int, bool] | None = None
        self.fails = False
        self.trouble = ""
        self.most = 0
        self.there: list[FakeWorker] = []
        self._site, self._start, self._how = site, start, how
        self._coming = 0
        self._changed = trio.Event()

    def want(self, n: int, reason: str) -> None:
        self.wanted.append((trio.current_time(), n, reason))
        self.target = n
        self._changed.set()

    def limit(self, min_workers: int, max_workers: int, *, scale_to_zero: bool) -> None:
        self.limits = (min_workers, max_workers, scale_to_zero)

    def counts(self) -> Counts:
        ready = len(self._site.fleet.ids(Life.READY))
        missing = max(0, self.target - ready)
        return Counts(self.target, ready, 0 if self.fails else missing, 0, missing if self.fails else 0)

    async def run(self) -> None:
        while True:
            self._changed = trio.Event()
            for _ in range(self.target - len(self.there) - self._coming):
                self._coming += 1
                self._site.nursery.start_soon(self._bring)
            for worker in self.there[self.target :]:
                self.there.remove(worker)
                self._site.nursery.start_soon(self._send_away, worker)
            await self._changed.wait()

    async def _bring(self) -> None:
        await trio.sleep(self._start)
        while self.fails:  # noqa: ASYNC110 - a test says when not
            await trio.sleep(0.1)
        self._coming -= 1
        self.there.append(self._site.worker(**self._how))
        self.most = max(self.most, len(self.there))
        self._changed.set()

    async def _send_away(self, worker: FakeWorker) -> None:
        worker.says_draining = worker.refuses_batches = True
        await self._site.until(lambda: worker.in_hand == 0)
        worker.die()
