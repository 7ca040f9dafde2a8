"""Weights on their way to workers: in the survey, by the file system, or over each worker's own link."""

from __future__ import annotations

import logging
from collections.abc import Collection

import trio

from common import wire
from common.errors import PipelineError
from common.log import event
from gateway.blobs import BlobStore
from gateway.catalog import Active
from gateway.fleet import Fleet
from gateway.roster import State

log = logging.getLogger("pipeline.rollout")

INLINE_MAX = 16 << 20  # weights up to this size ride in the survey itself
CHUNK = 4 << 20
LOAD_TIME = 30.0  # seconds to load weights, and …
LOAD_RATE = 10e6  # … bytes per second on top: a limit for the dead, not for the slow


class Delivery:
    """Has workers load a version. Everybody is asked at once; who dies meanwhile is no longer asked."""

    def __init__(self, fleet: Fleet, blobs: BlobStore) -> None:
        self._fleet = fleet
        self._blobs = blobs

    async def load(self, active: Active, workers: Collection[str]) -> dict[str, wire.LoadAnswer]:
        """Answers by worker; a worker that left the fleet before it answered is not among them."""
        wanted = set(workers)
        near = {w for w in wanted if self._is_near(w)}
        if active.size <= INLINE_MAX and len(wanted) > len(near):
            return await self._ask(active, wanted, inline=True)
        path = str(self._blobs.path(active.sha256).resolve())
        answers: dict[str, wire.LoadAnswer] = {}

        async def by_path() -> None:
            answers.update(await self._ask(active, near, path=path))

        async def over_link() -> None:
            sent = await self._send_all(active, wanted - near)
            answers.update(await self._ask(active, sent))

        async with trio.open_nursery() as nursery:
            if near:
                nursery.start_soon(by_path)
            if wanted - near:
                nursery.start_soon(over_link)
        return answers

    def _is_near(self, worker_id: str) -> bool:
        """Whether a worker reads the gateway's own files: those dialling a Unix socket do."""
        worker = self._fleet.roster.get(worker_id)
        return worker is not None and worker.hello.scheme == "ipc"

    async def _ask(
        self, active: Active, workers: Collection[str], *, inline: bool = False, path: str = ""
    ) -> dict[str, wire.LoadAnswer]:
        key = wire.VersionKey(active.key.model, active.key.version, active.sha256)
        buffers = [await trio.to_thread.run_sync(self._blobs.read, active.sha256)] if inline else []
        return await self._fleet.surveys.ask(
            wire.Load(sorted(workers), key, active.size, path),
            wire.LoadAnswer,
            LOAD_TIME + active.size / LOAD_RATE,
            expected=lambda: set(workers) & self._fleet.ids(State.READY, State.SYNCING),
            buffers=buffers,
        )

    async def _send_all(self, active: Active, workers: Collection[str]) -> set[str]:
        sent: set[str] = set()

        async def one(worker: str) -> None:
            if await self._send(active, worker):
                sent.add(worker)

        async with trio.open_nursery() as nursery:
            for worker in workers:
                nursery.start_soon(one, worker)
        return sent

    async def _send(self, active: Active, worker: str) -> bool:
        """Send the weights in chunks, each acknowledged; False if the worker left on the way."""
        offset = 0

        def read(at: int) -> bytes:
            return self._blobs.read(active.sha256, offset=at, size=CHUNK)

        while offset < active.size:
            link = self._fleet.link(worker)
            if link is None:
                return False
            data = await trio.to_thread.run_sync(read, offset)
            frame = wire.encode(wire.Chunk(active.sha256, active.size, offset), [data])
            try:
                with trio.fail_after(LOAD_TIME):
                    answer = await link.exchange(frame)
                stored = wire.expect(wire.ChunkStored, answer.view)[0].stored
            except (trio.TooSlowError, PipelineError) as error:
                event(log, logging.WARNING, "weights could not be sent", worker=worker, error=error)
                return False
            if stored <= offset:
                return False  # it keeps nothing of what it is sent: its load will say why
            offset = stored
        return True
