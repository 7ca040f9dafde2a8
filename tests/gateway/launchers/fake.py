"""A launcher of fake workers, for the gateway's collaboration tests. Nothing here is a test."""

from __future__ import annotations

import time
from typing import Any

import trio

from common.errors import LaunchError
from gateway.launchers.ids import fresh_ids
from gateway.launchers.launcher import Launched, LaunchState, WorkerSpec
from tests.gateway.fakes import FakeWorker
from tests.gateway.site import Site


class FakeLauncher:
    """Starts workers on a site's network after `delay` seconds. It refuses with `refusal`, loses its answer
    once where `loses_answer`, does not answer while `hangs`, and its workers end at once where `crashes`
    says how."""

    def __init__(self, site: Site, **worker: Any) -> None:
        self.site = site
        self.worker = worker
        self.delay = 0.0
        self.refusal = self.crashes = ""
        self.loses_answer = self.hangs = False
        self.launched: dict[str, Launched] = {}
        self.workers: dict[str, FakeWorker] = {}
        self.started: list[tuple[float, str]] = []
        self.stopped: list[tuple[float, str]] = []

    async def start(self, n: int, spec: WorkerSpec) -> list[str]:
        await self._answer()
        ids = fresh_ids(n, spec.service, self.launched, time.time())
        for each in ids:
            self.launched[str(each)] = Launched(LaunchState.PENDING, "it is being started")
            self.started.append((trio.current_time(), str(each)))
            self.site.nursery.start_soon(self._begin, str(each), each.name, each.incarnation)
        if self.loses_answer:
            self.loses_answer = False
            raise LaunchError("the connection broke")
        return [str(each) for each in ids]

    async def stop(self, id: str, grace: float) -> None:
        await self._answer()
        self.stopped.append((trio.current_time(), id))
        self.end(id, "stopped")
        self.launched.pop(id, None)

    async def alive(self) -> dict[str, Launched]:
        await self._answer()
        return dict(self.launched)

    async def capacity(self, spec: WorkerSpec) -> int | None:
        return None

    def end(self, id: str, how: str) -> None:
        """A worker's process ends."""
        if id in self.workers:
            self.workers.pop(id).die()
        if id in self.launched:
            self.launched[id] = Launched(LaunchState.GONE, how)

    def named(self, name: str) -> FakeWorker:
        """The worker that has this name now."""
        (found,) = (each for id, each in self.workers.items() if id.startswith(f"{name}."))
        return found

    async def _begin(self, id: str, name: str, incarnation: int) -> None:
        await trio.sleep(self.delay)
        if id not in self.launched:
            return
        if self.crashes:
            self.launched[id] = Launched(LaunchState.GONE, self.crashes)
            return
        self.launched[id] = Launched(LaunchState.RUNNING)
        self.workers[id] = worker = self.site.worker(name, incarnation=incarnation, **self.worker)
        worker.on_end = lambda: self.end(id, "exit code 0")

    async def _answer(self) -> None:
        await trio.lowlevel.checkpoint()
        if self.hangs:
            await trio.sleep_forever()
        if self.refusal:
            raise LaunchError(self.refusal)
