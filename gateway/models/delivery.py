"""Weights on their way to workers: in the survey, by the file system, or over each worker's own link."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import msgspec
import trio

from common import wire
from common.errors import LinkClosed, LoadError, PipelineError, WorkerLost
from common.log import event
from gateway.fleet.fleet import Fleet
from gateway.fleet.roster import State
from gateway.models.catalog import Version
from gateway.scheduling.requests import ModelKey
from gateway.state.blobs import BlobStore

log = logging.getLogger("pipeline.rollout")

# Weights up to this size ride in the survey itself. Heartbeats wait behind it: a line that loses packets
# takes seconds for each MiB, and two seconds of silence are one too many.
INLINE_MAX = 64 << 10
# Chunks begin small and grow where they pass quickly: a batch waits behind a chunk.
CHUNK_MIN, CHUNK_MAX = 64 << 10, 4 << 20
CHUNK_TIME = 0.1
KEPT_CHUNKS = 4
LOAD_TIME = 30.0  # seconds to load weights, and …
LOAD_RATE = 10e6  # … bytes per second on top: a limit for the dead, not for the slow

Answers = dict[str, "wire.LoadAnswer | None"]


class Delivery:
    """Has workers load a version, all at once; who leaves meanwhile is no longer asked. Each worker loads one
    version at a time.

    `on_evicted(worker, key)` is told of each version that made room for one.
    """

    def __init__(self, fleet: Fleet, blobs: BlobStore) -> None:
        self.on_evicted: Callable[[str, ModelKey], None] = lambda worker, key: None
        self._fleet = fleet
        self._blobs = blobs
        self._turns: dict[str, trio.Lock] = {}

    async def load(
        self, version: Version, workers: Collection[str], *, awaited: bool = False, staged: bool = False
    ) -> Answers:
        """Answers by worker: None of one that is there and did not answer in time; one that left the fleet
        before it answered is not among them, even if it is back. For `awaited` and `staged` see `wire.Load`.
        """
        load = wire.Load(
            sorted(workers),
            version.loaded_as,
            version.size,
            "",
            version.file,
            version.settings,
            awaited,
            staged,
        )
        async with AsyncExitStack() as turns:
            for worker in load.workers:  # in one order: else two loads could wait for each other
                await turns.enter_async_context(self._turn(worker))
            return await self._load(load)

    @asynccontextmanager
    async def _turn(self, worker: str) -> AsyncIterator[None]:
        turn = self._turns.setdefault(worker, trio.Lock())
        try:
            async with turn:
                yield
        finally:
            if not turn.locked() and self._turns.get(worker) is turn:
                del self._turns[worker]

    async def _load(self, load: wire.Load) -> Answers:
        wanted = set(load.workers)
        near = {w for w in wanted if self._is_near(w)}
        if load.size <= INLINE_MAX and len(wanted) > len(near):
            weights = await trio.to_thread.run_sync(self._blobs.read, load.key.sha256)
            return await self._ask(load, wanted, buffers=[weights])
        answers, far = await self._send_all(load, wanted - near)
        if near:
            path = str(self._blobs.path(load.key.sha256).resolve())
            answers |= await self._ask(load, near, path=path)
        if far:
            answers |= await self._ask(load, far)
        return answers

    def _is_near(self, worker_id: str) -> bool:
        """Whether a worker reads the gateway's own files: those dialling a Unix socket do."""
        worker = self._fleet.roster.get(worker_id)
        return worker is not None and worker.hello.scheme == "ipc"

    async def _ask(
        self, load: wire.Load, workers: set[str], *, path: str = "", buffers: Sequence[bytes] = ()
    ) -> Answers:
        staying = set(workers)

        def expected() -> set[str]:
            # Who left once is out, even if it is back: it may not have heard the question.
            staying.intersection_update(self._fleet.ids(State.READY, State.SYNCING))
            return staying

        answers = await self._fleet.surveys.ask(
            msgspec.structs.replace(load, workers=sorted(workers), path=path),
            wire.LoadAnswer,
            LOAD_TIME + load.size / LOAD_RATE,
            expected=expected,
            buffers=buffers,
            on_answer=self._note_evicted,
        )
        return dict.fromkeys(expected()) | answers

    def _note_evicted(self, answer: wire.LoadAnswer) -> None:
        for key in answer.evicted:
            self.on_evicted(answer.worker, ModelKey(key.model, key.version))

    async def _send_all(self, load: wire.Load, workers: Collection[str]) -> tuple[Answers, set[str]]:
        """Send the weights to each worker over its own link: (what those say that could not be sent them,
        who has them now)."""
        failures: Answers = {}
        sent: set[str] = set()
        chunks = _Chunks(load, self._blobs)

        async def one(worker: str) -> None:
            try:
                await self._send(chunks, worker)
                sent.add(worker)
            except (trio.TooSlowError, PipelineError) as error:
                event(log, logging.WARNING, "weights could not be sent", worker=worker, error=error)
                if not isinstance(error, WorkerLost | LinkClosed):  # else it is synced when it comes back
                    why = f"the weights could not be sent: {str(error) or 'no answer in time'}"
                    failures[worker] = wire.LoadAnswer(worker, False, why)

        async with trio.open_nursery() as nursery:
            for worker in workers:
                nursery.start_soon(one, worker)
        return failures, sent

    async def _send(self, chunks: _Chunks, worker: str) -> None:
        """Send the weights in chunks, each acknowledged."""
        offset, size = 0, CHUNK_MIN
        while offset < chunks.size:
            # Up to a multiple of the size: so those who take the same size are at the same places.
            frame = await chunks.frame(offset, min(chunks.size, offset - offset % size + size))
            began = trio.current_time()
            link = self._fleet.link(worker)
            if link is None or worker not in self._fleet.ids(State.READY, State.SYNCING):
                raise WorkerLost("the worker left")
            with trio.fail_after(LOAD_TIME):
                answer = await link.exchange(frame)
            message, _ = wire.decode(answer.view)
            if isinstance(message, wire.Refused):
                raise LoadError(message.message)
            stored = message.stored if isinstance(message, wire.ChunkStored) else -1
            if stored <= offset:
                raise LoadError(f"a chunk at {offset} was answered {message!r}")
            offset = stored
            took = trio.current_time() - began
            if took < CHUNK_TIME:
                size = min(2 * size, CHUNK_MAX)
            elif took > 4 * CHUNK_TIME:
                size = max(size // 2, CHUNK_MIN)


class _Chunks:
    """A blob as frames. Workers that are sent it at once are at nearly the same place, so the last few
    frames are kept: each is read and put together once, not once a worker."""

    def __init__(self, load: wire.Load, blobs: BlobStore) -> None:
        self.size = load.size
        self._sha256 = load.key.sha256
        self._blobs = blobs
        self._frames: dict[tuple[int, int], bytes] = {}
        self._turn = trio.Lock()

    async def frame(self, offset: int, end: int) -> bytes:
        """The frame of the chunk from `offset` to `end`."""
        place = (offset, end)
        async with self._turn:
            if place not in self._frames:
                if len(self._frames) == KEPT_CHUNKS:
                    del self._frames[next(iter(self._frames))]
                self._frames[place] = await trio.to_thread.run_sync(self._read, offset, end - offset)
            return self._frames[place]

    def _read(self, offset: int, size: int) -> bytes:
        data = self._blobs.read(self._sha256, offset=offset, size=size)
        return wire.encode(wire.Chunk(self._sha256, self.size, offset), [data])
