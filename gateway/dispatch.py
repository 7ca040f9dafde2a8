"""Batch loops: what takes batches from the scheduler, flies them over a link and hands out the answers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Protocol

import trio

from common import wire
from common.errors import Draining, LinkError, NotFound, PipelineError, WireError, WorkerLost
from common.log import OncePer, event
from gateway.batches import encode_batch, grouped, split_answer
from gateway.requests import Answer, Batch, Provenance, Request
from gateway.scheduler import Scheduler
from gateway.surveys import Frame

log = logging.getLogger("pipeline.dispatch")

EXPIRE_TICK = 0.02


class Exchanger(Protocol):
    """What carries frames to one worker: the real link, or the one in memory."""

    async def exchange(self, frame: bytes) -> Frame: ...

    def kick(self) -> None: ...


class _Slots:
    """The batch loops of one worker that wait for work."""

    def __init__(self) -> None:
        self.idle = trio.lowlevel.ParkingLot()
        self.woken = False


class Dispatcher:
    """Owns the waking of batch loops. `on_leaving(worker)` is called when a worker says it takes no more."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler
        self.on_leaving: Callable[[str], None] = lambda worker: None
        self.bad_frames = 0
        self._slots: dict[str, _Slots] = {}
        self._bad_frames = OncePer(10.0)
        self._deadlines = trio.Event()

    # --- what doors and the fleet call

    def submit(self, request: Request) -> None:
        """Queue a request and wake whom it was queued for. Raises `QueueFull`."""
        worker = self.scheduler.submit(request)
        if worker is not None:
            self.wake(worker)
        self._deadlines.set()

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

    def lose(self, worker: str, *, strike: bool) -> None:
        """A worker is gone: move on what it had, and answer what must not be tried again."""
        poisoned, wake = self.scheduler.remove_worker(worker, trio.current_time(), strike=strike)
        for request, error in poisoned:
            event(log, logging.ERROR, "request poisoned", rows=request.rows, strikes=request.strikes)
            _reply(request, error)
        self.wake_all(wake)

    # --- tasks

    async def expire(self) -> None:
        """End requests whose deadline has passed. Sleeps while there are none."""
        while True:
            self._deadlines = trio.Event()
            if not self.scheduler.has_deadlines:
                await self._deadlines.wait()
            await trio.sleep(EXPIRE_TICK)
            for request, error in self.scheduler.expire(trio.current_time()):
                _reply(request, error)

    async def serve(self, worker: str, name: str, link: Exchanger, slots: int) -> None:
        """The batch loops of one ready worker, until cancelled."""
        own = self._slots[worker] = _Slots()
        try:
            async with trio.open_nursery() as nursery:
                for _ in range(slots):
                    nursery.start_soon(self._loop, worker, name, link, own)
        finally:
            if self._slots.get(worker) is own:
                del self._slots[worker]

    async def _loop(self, worker: str, name: str, link: Exchanger, slots: _Slots) -> None:
        while True:
            slots.woken = False
            batch = self.scheduler.take(worker, trio.current_time())
            if batch is None:
                await slots.idle.park()
                continue
            if self.scheduler.has_waiting(worker):
                self.wake(worker)
            await self._fly(batch, name, link)

    async def _fly(self, batch: Batch, name: str, link: Exchanger) -> None:
        """Send one batch, wait, and answer its requests."""
        sent = trio.current_time()
        groups = grouped(batch.requests)
        try:
            frame = await link.exchange(encode_batch(batch, groups, sent))
            message, buffers = wire.decode(frame.view)
            if isinstance(message, wire.Refused):
                self._refused(batch, message, link)
                return
            if not isinstance(message, wire.BatchAnswer) or message.id != batch.id:
                raise WireError(f"a {type(message).__name__} is not the answer to batch {batch.id}")
            there = message.waited + message.infer
            link_time = max(0.0, trio.current_time() - sent - there)
            by = Provenance(
                name, batch.key.version, batch=message.waited, link=link_time, infer=message.infer
            )
            replies = split_answer(message, buffers, groups, by)
        except (WorkerLost, LinkError):
            # The link broke or closed. The fleet hears of it from the link itself and moves the requests;
            # should it not, the kick makes sure.
            link.kick()
            await trio.lowlevel.checkpoint()
        except WireError as error:
            self._garbage(error, name)
            link.kick()
        else:
            self.scheduler.finish(batch)
            for request, answer in replies:
                _reply(request, answer)

    def _refused(self, batch: Batch, refusal: wire.Refused, link: Exchanger) -> None:
        """The worker ran nothing of the batch: it leaves, or it does not hold the version (any more)."""
        if refusal.code == Draining.code:
            self.on_leaving(batch.worker)
            self.wake_all(self.scheduler.give_back(batch))
        elif refusal.code == NotFound.code:
            link.kick()  # it comes back by itself, and is synced before it is ready again
            self.wake_all(self.scheduler.give_back(batch))
        else:
            event(log, logging.ERROR, "batch refused", code=refusal.code, message=refusal.message)
            for request in self.scheduler.finish(batch):
                _reply(request, PipelineError(f"the worker refused the batch: {refusal.message}"))

    def _garbage(self, error: WireError, name: str) -> None:
        self.bad_frames += 1
        suppressed = self._bad_frames.allow(name, trio.current_time())
        if suppressed is not None:
            event(log, logging.WARNING, "bad frame from a worker", worker=name, error=error, more=suppressed)


def _reply(request: Request, answer: Answer | PipelineError) -> None:
    """Answer one request; a fault in one client's answer is not the next client's."""
    try:
        request.reply(answer)
    except Exception:
        log.exception("an answer could not be given")
