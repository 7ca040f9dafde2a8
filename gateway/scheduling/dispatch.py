"""Batch loops: what takes batches from the scheduler, flies them over a link and hands out the answers."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Protocol

import trio

from common import wire
from common.errors import (
    Draining,
    InvalidRequest,
    LinkError,
    NotCached,
    NotFound,
    Overloaded,
    PipelineError,
    TooLarge,
    WireError,
    WorkerLost,
)
from common.log import OncePer, event
from common.stats import Latency
from gateway.autoscaler.meter import Meter
from gateway.fleet.surveys import Frame
from gateway.metrics.recorder import Recorder
from gateway.observing.statistics import Statistics
from gateway.scheduling.batches import encode_batch, grouped, split_answer
from gateway.scheduling.deadlines import TICK
from gateway.scheduling.requests import Answer, Batch, ModelKey, Provenance, Request
from gateway.scheduling.scheduler import HOPE_TICK, Scheduler

log = logging.getLogger("pipeline.dispatch")

# A batch may be out so long past the last deadline in it. A worker that answers heartbeats and no batch
# would otherwise keep its slots, and its share of the requests, for ever.
OVERDUE = 5.0


class Exchanger(Protocol):
    """What carries frames to one worker: the real link, or the one in memory."""

    async def exchange(self, frame: bytes) -> Frame: ...


class _Slots:
    """The batch loops of one worker that wait for work."""

    def __init__(self) -> None:
        self.idle = trio.lowlevel.ParkingLot()
        self.woken = False
        self.landed = 0.0  # when a batch came back last


class Dispatcher:
    """Owns the waking of batch loops.

    `on_leaving(worker)` is called when a worker says it takes no more; `on_lost(worker, strike)` when its
    link broke, or has to be dropped for what came over it, and must have moved its requests when it returns:
    with a strike each, unless what it had certainly did not kill it. `is_served(key)` says whether workers
    should hold a version, `on_missing(worker, key)` is told that one does not, `on_unserved` that
    requests wait which no worker can take, and `on_failed(key, error)` that one was answered with an error.
    """

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler
        self.on_leaving: Callable[[str], None] = lambda worker: None
        self.on_lost: Callable[[str, bool], None] = lambda worker, strike: self.lose(worker, strike=strike)
        self.is_served: Callable[[ModelKey], bool] = lambda key: True
        self.on_missing: Callable[[str, ModelKey], None] = lambda worker, key: None
        self.on_unserved: Callable[[], None] = lambda: None
        self.on_failed: Callable[[ModelKey, PipelineError], None] = lambda key, error: None
        self.bad_frames = 0
        self.statistics = Statistics()
        self.recorder = Recorder()
        self.meter = Meter()
        self.handling = Latency()  # of every request that was answered, since it was admitted
        self._slots: dict[str, _Slots] = {}
        self._bad_frames = OncePer(10.0)
        self._awake = trio.Event()  # somebody has to look for who is late before `_due`
        self._due = math.inf

    # --- what doors and the fleet call

    def submit(self, request: Request) -> None:
        """Queue a request and wake whom it was queued for. Raises `QueueFull`."""
        self.meter.arrived += request.rows
        try:
            worker = self.scheduler.submit(request)
        except PipelineError:
            self.statistics.failed(request.key, 0.0)
            raise
        if worker is not None:
            self.wake(worker)
        else:
            self.on_unserved()
            self._look_by(trio.current_time() + HOPE_TICK)
        self._look_by(request.deadline)

    def forget(self, key: ModelKey) -> None:
        """A version serves no more; of those that went before it only the last keep figures of their own."""
        self.scheduler.forget(key, trio.current_time())
        for gone in self.recorder.fold(self.is_served):
            self.statistics.forget(gone)

    def wake(self, worker: str) -> None:
        """There may be something to take for this worker."""
        slots = self._slots.get(worker)
        if slots is not None and not slots.woken and slots.idle:
            slots.woken = True
            slots.idle.unpark()

    def wake_all(self, workers: Iterable[str]) -> None:
        """There may be something to take for each of these workers."""
        for worker in workers:
            self.wake(worker)
        if self.scheduler.unrouted.versions():
            self.on_unserved()
            self._look_by(trio.current_time() + HOPE_TICK)

    def give_up(self, key: ModelKey, error: PipelineError) -> None:
        """No worker will have a version: answer who waits for one."""
        for request in self.scheduler.give_up(key):
            self._reply(request, error)

    def lose(self, worker: str, *, strike: bool) -> None:
        """A worker is gone: move on what it had, and answer what must not be tried again."""
        self._slots.pop(worker, None)
        poisoned, wake = self.scheduler.remove_worker(worker, trio.current_time(), strike=strike)
        for request, error in poisoned:
            event(log, logging.ERROR, "request poisoned", rows=request.rows, strikes=request.strikes)
            self._reply(request, error)
        self.wake_all(wake)

    # --- tasks

    async def expire(self) -> None:
        """End requests whose deadline has passed. Sleeps until one may have."""
        while True:
            self._awake, self._due = trio.Event(), self.scheduler.next_expiry(trio.current_time())
            with trio.move_on_at(self._due):
                await self._awake.wait()
            for request, error in self.scheduler.expire(trio.current_time()):
                self._reply(request, error)

    def _look_by(self, moment: float) -> None:
        """Have `expire` look at this moment at the latest, give or take a tick."""
        if moment < self._due - TICK:
            self._awake.set()

    async def serve(self, worker: str, name: str, link: Exchanger, slots: int) -> None:
        """The batch loops of one ready worker, until cancelled."""
        own = self._slots[worker] = _Slots()
        try:
            async with trio.open_nursery() as nursery:
                for _ in range(slots + 1):  # the one more is for look-ups
                    nursery.start_soon(self._loop, worker, name, link, own)
        finally:
            if self._slots.get(worker) is own:
                del self._slots[worker]

    async def _loop(self, worker: str, name: str, link: Exchanger, slots: _Slots) -> None:
        while True:
            slots.woken = False
            now = trio.current_time()
            batch = self.scheduler.take(worker, now)
            if batch is None:
                due = self.scheduler.next_due(worker, now)
                if due == math.inf:
                    await slots.idle.park()
                else:
                    with trio.move_on_at(due):
                        await slots.idle.park()
                continue
            if self.scheduler.has_waiting(worker):
                self.wake(worker)
            try:
                await self._fly(batch, name, link, slots)
            except Exception as error:
                self._failed(error, worker, name, slots)

    async def _fly(self, batch: Batch, name: str, link: Exchanger, slots: _Slots) -> None:
        """Send one batch, wait, and answer its requests. What it raises tells of the link and the worker."""
        sent = trio.current_time()
        groups = grouped(batch.requests)
        with trio.fail_at(max([request.deadline for request in batch.requests]) + OVERDUE):
            frame = await link.exchange(encode_batch(batch, groups, sent))
        message, buffers = wire.decode(frame.view)
        if isinstance(message, wire.Refused):
            self._refused(batch, message)
            return
        if not isinstance(message, wire.BatchAnswer) or message.id != batch.id:
            raise WireError(f"a {type(message).__name__} is not the answer to batch {batch.id}")
        there = message.waited + message.infer
        now = trio.current_time()
        link_time = max(0.0, now - sent - there)
        by = Provenance(name, batch.key.version, batch=message.waited, link=link_time, infer=message.infer)
        replies = split_answer(message, buffers, groups, by)
        if batch.is_lookup:
            unknown = {request for request, answer in replies if isinstance(answer, NotCached)}
            wanted, wake = self.scheduler.look_further(batch, unknown)
            self.wake_all(wake)
        else:
            limits = self.scheduler.limits_of(batch.key.model)
            self.meter.batches.add(batch.rows, now - max(sent, slots.landed), limits.max_batch)
            slots.landed = now
            wanted = self.scheduler.finish(batch)
        if len(wanted) < len(replies):  # the others were cancelled, expired or moved on while it was out
            still = set(wanted)
            replies = [reply for reply in replies if reply[0] in still]
        self.statistics.answered(batch.key, replies, message.parts, now, time.time())
        hits = self.recorder.flew(batch.key, replies, message.parts, by)
        self.scheduler.lookups.note(batch.key, message.infer, hits, len(replies))
        for request, answer in replies:
            self._reply(request, answer, now)

    def _failed(self, error: Exception, worker: str, name: str, slots: _Slots) -> None:
        """A batch did not come back: the worker's link goes, and its requests with it."""
        if isinstance(error, WireError | InvalidRequest):
            self._garbage(error, name)
        elif isinstance(error, trio.TooSlowError):
            event(log, logging.WARNING, "batch overdue", worker=name)
        elif not isinstance(error, WorkerLost | LinkError):
            log.error("a batch failed", exc_info=error)
        if self._slots.get(worker) is slots:  # else these loops are being cancelled, and the link is up anew
            self.on_lost(worker, True)

    def _refused(self, batch: Batch, refusal: wire.Refused) -> None:
        """The worker ran nothing of the batch: it leaves, or it does not hold the version (any more)."""
        if refusal.code == Draining.code:
            self.on_leaving(batch.worker)
            self.wake_all(self.scheduler.give_back(batch))
        elif refusal.code == NotFound.code and self.is_served(batch.key):
            event(log, logging.INFO, "version not held", worker=batch.worker, version=batch.key.version)
            self.on_missing(batch.worker, batch.key)
            self.wake_all(self.scheduler.give_back(batch))
        elif refusal.code == NotFound.code:
            for request in self.scheduler.finish(batch):
                self._reply(request, Overloaded(f"version {batch.key.version} no longer serves"))
        elif refusal.code == WorkerLost.code:  # it lives, and can run nothing
            event(log, logging.WARNING, "worker of no use", worker=batch.worker, because=refusal.message)
            raise WorkerLost(refusal.message)
        elif refusal.code == TooLarge.code:
            for request in self.scheduler.finish(batch):
                self._reply(request, TooLarge(refusal.message))
        else:
            event(log, logging.ERROR, "batch refused", code=refusal.code, message=refusal.message)
            for request in self.scheduler.finish(batch):
                self._reply(request, PipelineError(f"the worker refused the batch: {refusal.message}"))

    def _reply(self, request: Request, answer: Answer | PipelineError, now: float | None = None) -> None:
        """Answer one request; a fault in one client's answer is not the next client's."""
        seconds = (trio.current_time() if now is None else now) - request.admitted
        self.handling.record(seconds)
        count = request.count
        if isinstance(answer, PipelineError):
            self.statistics.failed(request.key, seconds)
            self.on_failed(request.key, answer)
            if count is not None:
                count.failed(answer.code, seconds)
        else:
            if answer.hit:
                self.scheduler.known_rows.note(request)
            if count is not None:
                count.answered(seconds)
        if request.trace is not None:
            request.trace.ended(answer)
        try:
            request.reply(answer)
        except Exception:
            log.exception("an answer could not be given")
            with suppress(Exception):  # unless a part of it was given
                request.reply(PipelineError("The server failed on this request."))

    def _garbage(self, error: PipelineError, name: str) -> None:
        self.bad_frames += 1
        suppressed = self._bad_frames.allow(name, trio.current_time())
        if suppressed is not None:
            event(log, logging.WARNING, "bad frame from a worker", worker=name, error=error, more=suppressed)
