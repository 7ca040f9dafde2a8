"""The inside of a gateway (state, fleet, dispatcher, rollouts, predictions), put together as `gateway.serve`
does but over a network in memory. Nothing here is a test.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from common import wire
from common.errors import PipelineError
from common.link.fake import FakeLink, FakeNetwork, FakeSurveyor
from common.models import ModelSettings
from common.tensor import pack_vectors, vector_spec
from gateway.bell import Bell
from gateway.core import Core
from gateway.fleet.roster import State as Life
from gateway.models.catalog import DEFAULT_MODEL
from gateway.models.switching import Rolled
from gateway.scheduling.requests import Answer, Request
from gateway.scheduling.scheduler import Scheduler
from gateway.state.blobs import Blob
from gateway.state.state import State, VersionRecord, open_state
from gateway.state.state_folder import JOB_BLOBS
from tests.gateway.fakes import SERVICE, FakeWorker

NN = "0123456789abcdef0123456789abcdef"
NN2 = "fedcba9876543210fedcba9876543210"
WORKER_WAIT = 5.0


class Asked:
    """One prediction that somebody asked for, and everything it was answered."""

    def __init__(self) -> None:
        self.request: Request
        self.replies: list[float | PipelineError] = []
        self.version = ""
        self.worker = ""
        self._answered = trio.Event()

    def reply(self, answer: Answer | PipelineError) -> None:
        if isinstance(answer, PipelineError):
            self.replies.append(answer)
        else:
            self.replies.append(answer.buffers[0].cast("f")[0])
            self.version, self.worker = answer.by.version, answer.by.worker
        self._answered.set()

    async def answer(self) -> float | PipelineError:
        """The one answer."""
        with trio.fail_after(1000):
            await self._answered.wait()
        assert len(self.replies) == 1, self.replies
        return self.replies[0]


class Site(Core):
    """A gateway over a network in memory; made by `open_site`."""

    def __init__(
        self, state: State, surveyor: FakeSurveyor, network: FakeNetwork, came: Bell, how: Any
    ) -> None:
        self.network = network
        self.surveyor = surveyor
        self.came = came
        scheduler = Scheduler(queue_max=how.get("queue_max", 1000), max_batch=64, worker_wait=WORKER_WAIT)
        timeout = how.get("timeout", 10.0)
        super().__init__(
            state, surveyor, came, self.open_link, scheduler, timeout=timeout, max_rows=1000,
            jobs_max=how.get("jobs_max", 1000),
        )  # fmt: skip
        self.job_blobs = state.blobs.directory.with_name(JOB_BLOBS)
        self.nursery: trio.Nursery
        self._names = 0

    def open_link(
        self, hello: wire.HelloAnswer, joined: Callable[[], None], left: Callable[[], None]
    ) -> tuple[FakeLink, str]:
        url = f"mem://link/{hello.worker}"
        return self.network.listen_link(url, joined, left), url

    # --- workers

    def worker(self, name: str = "", **how: Any) -> FakeWorker:
        """A new worker process; the gateway notices by itself."""
        self._names += 1
        return FakeWorker(self.network, self.nursery, name or f"w{self._names}", **how)

    async def ready(self, *workers: FakeWorker) -> None:
        """Until these workers are ready."""
        await self.until(lambda: {w.id for w in workers} <= self.fleet.ids(Life.READY))

    async def ready_worker(self, name: str = "", **how: Any) -> FakeWorker:
        worker = self.worker(name, **how)
        await self.ready(worker)
        return worker

    def life(self, worker: FakeWorker) -> Life:
        known = self.fleet.roster.get(worker.id)
        return Life.GONE if known is None else known.state

    def trouble(self, worker: FakeWorker) -> str:
        known = self.fleet.roster.get(worker.id)
        assert known is not None
        return known.trouble

    async def until_life(self, worker: FakeWorker, life: Life) -> None:
        await self.until(lambda: self.life(worker) is life)

    async def until(self, condition: Callable[[], bool]) -> None:
        with trio.fail_after(100):
            while not condition():  # noqa: ASYNC110 - what is waited for has no event
                await trio.sleep(0.001)

    # --- weights and predictions

    def blob(self, weights: bytes) -> Blob:
        with self.state.blobs.new() as writer:
            writer.write(weights)
            return writer.commit()

    async def set_weights(self, weights: bytes, nn_id: str = NN) -> Rolled:
        return await self.rollouts.set_weights(nn_id, self.blob(weights))

    async def add(self, model: str, version: str, weights: bytes, **settings: Any) -> Rolled:
        """Upload a version of a model, active if it is the first; `settings` are the model's."""
        blob = self.blob(weights)
        record = VersionRecord(
            model, version, version, blob.sha256, blob.size, 0.0, settings=ModelSettings(**settings)
        )
        return await self.rollouts.add(record, activate=False)

    def ask(self, *row: float, seconds: float | None = None, model: str = DEFAULT_MODEL) -> Asked:
        asked = Asked()
        buffer = pack_vectors([row])[1]
        version, signature = self.catalog.active(model), vector_spec(len(row))
        asked.request = self.predictions.start(
            version, signature, (buffer,), 1, seconds, asked.reply, door="test"
        )
        return asked

    async def predict(
        self, *row: float, seconds: float | None = None, model: str = DEFAULT_MODEL
    ) -> float | PipelineError:
        return await self.ask(*row, seconds=seconds, model=model).answer()

    def assert_empty(self) -> None:
        """No request anywhere, no slot taken."""
        assert self.scheduler.waiting == 0
        assert self.scheduler.unfinished == 0
        assert self.scheduler.next_expiry(0.0) == math.inf
        for worker in self.fleet.roster:
            assert self.scheduler.in_flight(worker.id) == 0


@asynccontextmanager
async def open_site(directory: Path | None = None, **how: Any) -> AsyncIterator[Site]:
    """A gateway at work (`queue_max`, `timeout`, `jobs_max`). At the end nothing may be left in it."""
    network, came = FakeNetwork(), Bell()
    with open_state(directory) as state:
        async with network.open_surveyor([SERVICE], came.ring, came.ring) as surveyor:
            site = Site(state, surveyor, network, came, how)
            async with trio.open_nursery() as site.nursery:
                await site.nursery.start(site.run)
                yield site
                await site.until(lambda: not any(site.scheduler.in_flight(w.id) for w in site.fleet.roster))
                site.assert_empty()
                site.nursery.cancel_scope.cancel()
    assert network.listening == {}
