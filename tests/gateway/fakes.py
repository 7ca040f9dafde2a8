"""What the gateway's collaboration tests share: a network in memory with workers on it, and the inside of a
gateway (state, fleet, dispatcher, rollouts, predictions) put together over it. Nothing here is a test.

Weights are text: `b"2"` makes a network that answers twice the sum of a row, `b"bad…"` does not load.
"""

from __future__ import annotations

import hashlib
import math
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import trio

from common import wire
from common.errors import LinkClosed, LinkError, PipelineError, WorkerLost
from common.tensor import TensorSpec, pack_vectors, vector_spec
from gateway.blobs import Blob
from gateway.catalog import Catalog
from gateway.dispatch import Dispatcher
from gateway.fleet import Bell, Fleet
from gateway.predictions import Predictions
from gateway.requests import Answer, Request
from gateway.rollout import Rolled, Rollouts
from gateway.roster import State as Life
from gateway.scheduler import Scheduler
from gateway.state import State, open_state
from gateway.surveys import Surveys

NN = "0123456789abcdef0123456789abcdef"
NN2 = "fedcba9876543210fedcba9876543210"
REDIAL = 0.02

Notify = Callable[[], None]


class Frame:
    def __init__(self, data: bytes) -> None:
        self.view = memoryview(data)


class FakeSurveyor:
    def __init__(self, network: FakeNetwork) -> None:
        self._network = network
        self.broken = False

    async def ask(self, question: bytes, survey_time: float, take: Callable[[Frame], bool]) -> None:
        if self.broken:
            raise LinkError("the survey cannot be sent")
        send, receive = trio.open_memory_channel[bytes](math.inf)
        with trio.move_on_after(survey_time), send, receive:
            for worker in list(self._network.workers):
                worker.nursery.start_soon(worker.survey, question, send)
            async for answer in receive:
                if take(Frame(answer)):
                    return


class FakeLink:
    """As the real one: at most one peer; sends wait for it; its end fails what it was asked."""

    def __init__(self, network: FakeNetwork, url: str, joined: Notify, left: Notify) -> None:
        self.url = url
        self._network = network
        self._hop = trio.lowlevel.current_trio_token().run_sync_soon
        self._joined, self._left = joined, left
        self._peer: FakeWorker | None = None
        self._news = trio.lowlevel.ParkingLot()
        self._calls: set[_Call] = set()
        self.closed = False

    async def exchange(self, frame: bytes) -> Frame:
        while self._peer is None and not self.closed:
            await self._news.park()
        if self.closed:
            raise LinkClosed("the link is closed")
        assert self._peer is not None
        call = _Call()
        self._calls.add(call)
        self._peer.nursery.start_soon(self._peer.exchange, frame, call)
        try:
            return await call.wait()
        finally:
            self._calls.discard(call)

    def kick(self) -> None:
        peer = self._peer
        self.disconnect()
        if peer is not None:
            peer.nursery.start_soon(peer.dial, self.url)

    def connect(self, worker: FakeWorker) -> None:
        assert self._peer is None
        self._peer = worker
        self._news.unpark_all()
        self._hop(self._joined)

    def disconnect(self, error: type[PipelineError] = WorkerLost) -> None:
        if self._peer is not None:
            self._peer = None
            self._hop(self._left)
        for call in self._calls:
            call.end(error("the worker's connection broke"))

    async def aclose(self) -> None:
        self.closed = True
        self._network.links.pop(self.url, None)
        self.disconnect(LinkClosed)
        self._news.unpark_all()
        await trio.lowlevel.checkpoint()


class _Call:
    def __init__(self) -> None:
        self._over = trio.Event()
        self._outcome: bytes | PipelineError = b""

    def end(self, outcome: bytes | PipelineError) -> None:
        if not self._over.is_set():
            self._outcome = outcome
            self._over.set()

    async def wait(self) -> Frame:
        await self._over.wait()
        if isinstance(self._outcome, PipelineError):
            raise self._outcome
        return Frame(self._outcome)


class FakeNetwork:
    def __init__(self) -> None:
        self.workers: list[FakeWorker] = []
        self.links: dict[str, FakeLink] = {}
        self.surveyor = FakeSurveyor(self)
        self.joined: Notify = lambda: None
        self.left: Notify = lambda: None

    @asynccontextmanager
    async def open_surveyor(
        self, urls: list[str], joined: Notify, left: Notify
    ) -> AsyncIterator[FakeSurveyor]:
        self.joined, self.left = joined, left
        yield self.surveyor

    def listen_link(self, url: str, joined: Notify, left: Notify) -> FakeLink:
        if url in self.links:
            raise LinkError("the address is in use: is another gateway running?")
        link = self.links[url] = FakeLink(self, url, joined, left)
        return link


class FakeWorker:
    """A worker process: it holds versions, answers surveys and batches, and fails in every way asked for."""

    def __init__(
        self,
        network: FakeNetwork,
        nursery: trio.Nursery,
        name: str,
        *,
        scheme: str = "ws",
        worker_id: str = "",
        slots: int = 2,
        holds: dict[str, bytes] | None = None,
        refuses: set[bytes] | None = None,
        takes: float = 0.0,
        load_takes: float = 0.0,
    ) -> None:
        self.network, self.nursery, self.name, self.scheme = network, nursery, name, scheme
        self.id = worker_id or uuid.uuid4().hex
        self.slots = slots
        self.weights = dict(holds or {})  # by version
        self.refuses = set(refuses or ())
        self.takes, self.load_takes = takes, load_takes
        self.draining = self.says_draining = False
        self.finds_link = True
        self.running = trio.Event()  # not set: stopped, as by SIGSTOP
        self.running.set()
        self.redials_while_stopped = False
        self.gate = trio.Event()  # not set: batches wait inside it
        self.gate.set()
        self.deadly = -1.0  # a row with this number in it kills the worker
        self.garbage: list[bytes | wire.Message] = []  # said instead of the next answers to batches
        self.batches: list[tuple[str, list[float]]] = []
        self.loads: list[str] = []
        self.dropped: list[str] = []
        self.staged: dict[str, bytes] = {}
        self.alive = True
        self.max_in_hand = self.in_hand = 0
        network.workers.append(self)
        network.joined()

    # --- its life

    def die(self) -> None:
        self.alive = False
        self.network.workers.remove(self)
        self._hang_up()
        self.network.left()

    def stop(self, *, redials: bool = False) -> None:
        self.running = trio.Event()
        self.redials_while_stopped = redials

    def go_on(self) -> None:
        self.running.set()

    def _hang_up(self) -> None:
        for link in self.network.links.values():
            if link._peer is self:
                link.disconnect()

    async def dial(self, url: str) -> None:
        await trio.sleep(REDIAL)
        if not self.redials_while_stopped:
            await self.running.wait()
        link = self.network.links.get(url)
        if link is not None and link._peer is None and self.alive:
            link.connect(self)

    # --- surveys

    async def survey(self, question: bytes, send: trio.MemorySendChannel[bytes]) -> None:
        await self.running.wait()
        if not self.alive:
            return
        message, buffers = wire.decode(question)
        answer = await self._answer(message, [bytes(b) for b in buffers])
        await self.running.wait()
        if answer is not None and self.alive:
            with suppress(trio.ClosedResourceError, trio.BrokenResourceError):  # the survey is over
                send.send_nowait(answer if isinstance(answer, bytes) else wire.encode(answer))

    async def _answer(self, message: Any, buffers: list[bytes]) -> wire.Message | bytes | None:
        if isinstance(message, wire.Hello):
            return self.hello()
        if isinstance(message, wire.Status):
            return wire.StatusAnswer(
                self.id, ["10.0.0.1"], 3, 4, 0.25, 0.125, 0.5, 0.75, 1.0, 5, 6, 7, 8, 2**20, self.keys()
            )
        if isinstance(message, wire.LinkUp):
            if self.id not in message.endpoints or not self.finds_link:
                return None
            url = message.endpoints[self.id]
            if (link := self.network.links.get(url)) is not None and link._peer is None:
                link.connect(self)
            return wire.Done(self.id)
        if self.id not in message.workers:
            return None
        if isinstance(message, wire.Load):
            return await self._load(message, buffers)
        if isinstance(message, wire.Drop):
            self.dropped.append(message.version)
            self.weights.pop(message.version, None)
        return wire.Done(self.id)

    def hello(self) -> wire.HelloAnswer:
        return wire.HelloAnswer(
            self.id,
            self.name,
            "host",
            1,
            self.scheme,
            self.slots,
            "cpu",
            self.says_draining,
            True,
            self.keys(),
        )

    def keys(self) -> list[wire.VersionKey]:
        return [
            wire.VersionKey("default", version, hashlib.sha256(weights).hexdigest())
            for version, weights in self.weights.items()
        ]

    async def _load(self, load: wire.Load, buffers: list[bytes]) -> wire.LoadAnswer:
        self.loads.append(load.key.version)
        await trio.sleep(self.load_takes)
        if buffers:
            weights = buffers[0]
        elif load.path:
            weights = Path(load.path).read_bytes()  # noqa: ASYNC240 - a few bytes
        else:
            weights = self.staged.pop(load.key.sha256, b"")
        if hashlib.sha256(weights).hexdigest() != load.key.sha256:
            return wire.LoadAnswer(self.id, False, "the weights did not arrive whole")
        if weights.startswith(b"bad") or weights in self.refuses:
            return wire.LoadAnswer(self.id, False, "Traceback\nLoadError: it does not fit")
        self.weights[load.key.version] = weights
        return wire.LoadAnswer(self.id, True)

    # --- its link

    async def exchange(self, frame: bytes, call: _Call) -> None:
        await self.running.wait()
        message, buffers = wire.decode(frame)
        if isinstance(message, wire.Chunk):
            stored = self.staged.get(message.sha256, b"")[: message.offset] + bytes(buffers[0])
            self.staged[message.sha256] = stored
            answer: bytes | wire.Message = wire.ChunkStored(message.sha256, len(stored))
            call.end(wire.encode(answer))
            return
        self.in_hand += 1
        self.max_in_hand = max(self.max_in_hand, self.in_hand)
        try:
            answered = await self._run(message, buffers)
        finally:
            self.in_hand -= 1
        await self.running.wait()
        if answered is not None and self.alive:
            call.end(answered)

    async def _run(self, batch: wire.Batch, buffers: list[memoryview]) -> bytes | None:
        if self.draining:
            return wire.encode(wire.Refused("draining", "the worker is leaving"))
        weights = self.weights.get(batch.version)
        if weights is None:
            return wire.encode(wire.Refused("not_found", f"no version {batch.version}"))
        rows = [float(x) for buffer in buffers for x in buffer.cast("f")]
        self.batches.append((batch.version, rows))
        await trio.sleep(self.takes)
        await self.gate.wait()
        if self.deadly in rows:
            self.die()
            return None
        if self.garbage:
            said = self.garbage.pop(0)
            return said if isinstance(said, bytes) else wire.encode(said)
        factor = float(weights.split()[0])
        parts, outputs = [], []
        for part, buffer in zip(batch.parts, buffers, strict=True):
            width = part.inputs[0].row_shape[0]
            flat = buffer.cast("f").tolist()
            sums = [[factor * sum(flat[i : i + width])] for i in range(0, len(flat), width)]
            parts.append(wire.PartAnswer((TensorSpec("result", "FP32", (1,)),), [], bytes(len(part.counts))))
            outputs.append(pack_vectors(sums)[1])
        return wire.encode(wire.BatchAnswer(batch.id, 0.001, 0.002, parts), outputs)


class Asked:
    """One prediction that somebody asked for: everything it was answered."""

    def __init__(self) -> None:
        self.request: Request
        self.replies: list[float | PipelineError] = []
        self.versions: list[str] = []
        self.workers: list[str] = []
        self._answered = trio.Event()

    def reply(self, answer: Answer | PipelineError) -> None:
        if isinstance(answer, PipelineError):
            self.replies.append(answer)
        else:
            self.replies.append(answer.buffers[0].cast("f")[0])
            self.versions.append(answer.by.version)
            self.workers.append(answer.by.worker)
        self._answered.set()

    async def answer(self) -> float | PipelineError:
        """The one answer."""
        with trio.fail_after(1000):
            await self._answered.wait()
        assert len(self.replies) == 1, self.replies
        return self.replies[0]


class Site:
    """A gateway without doors, over a network in memory."""

    def __init__(self, state: State, *, queue_max: int = 1000, timeout: float = 10.0) -> None:
        self.network = FakeNetwork()
        self.state = state
        self.catalog = Catalog()
        self.scheduler = Scheduler(queue_max=queue_max, max_batch=64, worker_wait=5.0)
        self.dispatcher = Dispatcher(self.scheduler)
        self.predictions = Predictions(self.catalog, self.dispatcher, timeout=timeout, max_rows=1000)
        self.came = Bell()
        self.surveys: Surveys
        self.fleet: Fleet
        self.rollouts: Rollouts
        self.nursery: trio.Nursery
        self.names = 0

    def open_link(self, hello: wire.HelloAnswer, joined: Notify, left: Notify) -> tuple[FakeLink, str]:
        url = f"mem://{hello.worker}"
        return self.network.listen_link(url, joined, left), url

    # --- workers

    def worker(self, name: str = "", **how: Any) -> FakeWorker:
        """A new worker process; the gateway notices by itself."""
        self.names += 1
        return FakeWorker(self.network, self.nursery, name or f"w{self.names}", **how)

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

    async def until(self, condition: Callable[[], bool], *, seconds: float = 100.0) -> None:
        with trio.fail_after(seconds):
            while not condition():  # noqa: ASYNC110 - what is waited for has no event
                await trio.sleep(0.001)

    # --- weights and predictions

    def blob(self, weights: bytes) -> Blob:
        with self.state.blobs.new() as writer:
            writer.write(weights)
            return writer.commit()

    async def set_weights(self, weights: bytes, nn_id: str = NN) -> Rolled:
        return await self.rollouts.set_weights(nn_id, self.blob(weights))

    def ask(self, *row: float, seconds: float | None = None) -> Asked:
        asked = Asked()
        signature = vector_spec(len(row))
        buffer = pack_vectors([row])[1]
        asked.request = self.predictions.start(signature, (buffer,), 1, seconds, asked.reply)
        return asked

    async def predict(self, *row: float, seconds: float | None = None) -> float | PipelineError:
        return await self.ask(*row, seconds=seconds).answer()

    def assert_empty(self) -> None:
        """No request anywhere, no slot taken."""
        assert self.scheduler.waiting == 0
        assert self.scheduler.unfinished == 0
        assert not self.scheduler.has_deadlines
        for worker in self.fleet.roster:
            assert self.scheduler.in_flight(worker.id) == 0


@asynccontextmanager
async def open_site(directory: Path | None = None, **how: Any) -> AsyncIterator[Site]:
    """A gateway at work. At the end nothing may be left in it."""
    with open_state(directory) as state:
        site = Site(state, **how)
        network = site.network
        async with network.open_surveyor([], site.came.ring, site.came.ring) as surveyor:
            site.surveys = Surveys(surveyor)
            site.fleet = Fleet(site.surveys, site.dispatcher, open_link=site.open_link, came=site.came)
            site.rollouts = Rollouts(site.fleet, site.catalog, site.scheduler, state)
            site.fleet.sync = site.rollouts.sync
            site.dispatcher.is_served = site.rollouts.is_served
            await site.rollouts.restore()
            async with trio.open_nursery() as site.nursery:
                await site.nursery.start(site.fleet.run)
                site.nursery.start_soon(site.dispatcher.expire)
                yield site
                with trio.fail_after(1000):
                    await site.until(
                        lambda: not any(site.scheduler.in_flight(w.id) for w in site.fleet.roster)
                    )
                site.assert_empty()
                site.nursery.cancel_scope.cancel()
        assert network.links == {}
