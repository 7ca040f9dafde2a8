"""Jobs at work: taken in, run a few at a time, cancelled, waited for and, in the end, forgotten."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial

import trio

from common.errors import Conflict, Draining, NotFound, PipelineError, QueueFull, StateError
from common.log import event
from gateway.jobs.going import Going
from gateway.jobs.job import Event, Job, State
from gateway.jobs.line import Line
from gateway.jobs.storage import StorageError
from gateway.jobs.store import JobStore, Page
from gateway.models.catalog import Catalog, Version
from gateway.models.rollout import as_version
from gateway.models.switching import Switching
from gateway.observing.events import JOB, Publish, nobody
from gateway.scheduling.requests import ModelKey
from gateway.state.state import State as Kept

log = logging.getLogger("pipeline.jobs")

SWEEP = 1.0  # seconds between two looks for what expired
TOMBSTONE = 86_400.0  # how long an expired job is still known to have been there
RETRIES = (1.0, 5.0, 25.0)  # pauses after which a file that could not be read or written is tried again


class Jobs:
    """Every change is kept before it is seen here. The line holds what is unfinished and nothing else."""

    publish: Publish = staticmethod(nobody)

    def __init__(
        self,
        kept: Kept,
        catalog: Catalog,
        switching: Switching,
        going: Going,
        call_back: Callable[[Job], Awaitable[None]],
        *,
        jobs_max: int,
    ) -> None:
        self.line = Line()
        self.jobs_max = jobs_max
        self._kept = kept
        self._store: JobStore = kept.jobs
        self._catalog = catalog
        self._switching = switching
        self._going = going
        self._call_back = call_back
        self._coming: dict[str, Job] = {}  # on their way into the line
        self._scopes: dict[str, trio.CancelScope] = {}
        self._over: dict[str, trio.Event] = {}  # of those that somebody waits for
        self._ended: list[Job] = []  # those that nobody saw to yet
        self._news = trio.Event()
        self._draining = False

    # --- what doors ask for

    async def submit(self, job: Job, key: str | None, rows: bytes | None) -> Job:
        """Take a job in, for good once this returns; the one that came with the same key before, if one did.
        There must be no checkpoint since the catalog was asked. `QueueFull`, `Draining`, `KeyReused`."""
        if self._draining:
            raise Draining("Server is shutting down")
        if len(self.line) + len(self._coming) >= self.jobs_max:
            raise QueueFull(f"{self.jobs_max} jobs are not over yet: come back when one is (see --jobs_max)")
        self._coming[job.id] = job
        try:
            with trio.CancelScope(shield=True):  # a client that goes leaves no job that nobody runs
                kept, is_new = await trio.to_thread.run_sync(self._store.add, job, key, rows)
                if is_new:
                    self.line.add(kept)
        finally:
            del self._coming[job.id]
            self._news.set()
        if is_new:
            event(log, logging.INFO, "job accepted", job=job.id, model=job.model, version=job.version)
            self.publish(JOB, "job accepted", job=job.id, model=job.model, version=job.version)
        return kept

    async def known(self, key: str, digest: str, owner: str) -> Job | None:
        """The job that its owner sent with an idempotency key before; `KeyReused`."""
        return await trio.to_thread.run_sync(self._store.find_key, key, digest, owner)

    async def page(self, state: State | None, limit: int, cursor: int | None, owner: str | None) -> Page:
        """Jobs of an owner or of all, newest first."""
        return await trio.to_thread.run_sync(
            partial(self._store.page, state=state, limit=limit, cursor=cursor, owner=owner)
        )

    async def get(self, job_id: str) -> Job:
        """A job as it is now; `NotFound`."""
        known = self.line.get(job_id)
        return await trio.to_thread.run_sync(self._store.get, job_id) if known is None else known

    async def wait(self, job_id: str, seconds: float) -> None:
        """Until a job is over, the gateway drains, or so long."""
        if self.line.get(job_id) is not None and not self._draining:
            with trio.move_on_after(seconds):
                await self._over.setdefault(job_id, trio.Event()).wait()

    async def cancel(self, job_id: str) -> Job | None:
        """End a job that is not over, at once; one that is over is forgotten, and then there is none."""
        job = None
        with trio.CancelScope(shield=True):
            try:
                job = await self._happen(job_id, Event.CANCEL, "the job was cancelled")
            except Conflict:
                await trio.to_thread.run_sync(self._store.forget, job_id)
        return job

    def drain(self) -> None:
        """Start nothing more, and let go of those who wait; what runs is stopped where it is."""
        self._draining = True
        for each in [*self._over.values(), self._news]:
            each.set()
        for scope in self._scopes.values():
            scope.cancel()

    # --- what a rollout asks

    def needs(self, key: ModelKey) -> Job | None:
        """A job that has to be answered by this version, if there is one."""
        return next(iter(self.line.needs(key)), None) or next(
            (job for job in self._coming.values() if job.key == key), None
        )

    # --- what the gateway does

    async def restore(self) -> None:
        """Take up the unfinished jobs, and have their versions held again though they may serve no more."""
        await trio.to_thread.run_sync(self._store.sweep)
        for job in await trio.to_thread.run_sync(self._store.unfinished):
            if job.state is State.RUNNING:
                job = await self._happen(job.id, Event.INTERRUPT)
            if self._version(job.key) is None:
                record = await trio.to_thread.run_sync(self._kept.version, *job.key)
                if record is not None:
                    self._switching.retiring[job.key] = as_version(record)
            self.line.add(job)

    async def run(self) -> None:
        """Run jobs until cancelled."""
        self._ended += await trio.to_thread.run_sync(self._store.uncalled)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._expire)
            while True:
                self._news = trio.Event()
                try:
                    await self._start_all(nursery)
                except PipelineError as error:  # a full disk: later
                    event(log, logging.ERROR, "jobs cannot be started", because=error)
                    await trio.sleep(SWEEP)
                    continue
                await self._news.wait()

    async def _start_all(self, nursery: trio.Nursery) -> None:
        """See to the jobs that are over, and start those that there is room for."""
        while self._ended:
            nursery.start_soon(self._tell, self._ended.pop())
            await self._switching.drop_retired()
        while not self._draining and (job := self.line.next()) is not None:
            try:
                job = await self._happen(job.id, Event.START)
            except (Conflict, NotFound):  # it was cancelled, and leaves the line in a moment
                await trio.lowlevel.checkpoint()
                continue
            nursery.start_soon(self._run, job.id)

    async def _run(self, job_id: str) -> None:
        """One job from where it is to its end."""
        with trio.CancelScope() as scope:
            self._scopes[job_id] = scope
            try:
                if not self._draining and self.line.get(job_id) is not None:
                    await self._end(job_id, await self._try(job_id))
            finally:
                del self._scopes[job_id]
        self._news.set()

    async def _try(self, job_id: str) -> str:
        """Why a job failed; empty where it is done."""
        for pause in (*RETRIES, 0.0):
            job = self.line.get(job_id)
            version = None if job is None else self._version(job.key)
            if job is None or version is None:
                return "the version that the job was admitted under is no longer there"
            try:
                await self._going.run(job, version, self.line.change)
                return ""
            except (StorageError, StateError) as error:
                if not pause:
                    return str(error)
                event(log, logging.WARNING, "job tries its files again", job=job_id, because=error)
                await trio.sleep(pause)
            except PipelineError as error:
                return str(error)
            except Exception:
                log.exception("job %s failed", job_id)
                return "the server failed on this job"
        raise AssertionError("the last pause is 0")

    async def _end(self, job_id: str, error: str) -> None:
        """Keep how a job ended, as soon as the disk takes it."""
        while True:
            try:
                with trio.CancelScope(shield=True):
                    job = await self._happen(job_id, Event.FAIL if error else Event.FINISH, error)
            except (Conflict, NotFound):  # it was cancelled meanwhile
                return
            except PipelineError as refusal:
                event(log, logging.ERROR, "job's end cannot be kept", job=job_id, because=refusal)
                await trio.sleep(SWEEP)
            else:
                event(log, logging.INFO, "job over", job=job_id, state=job.state.value, rows=job.rows_done)
                return

    async def _happen(self, job_id: str, what: Event, error: str = "") -> Job:
        """Keep that something happened to a job, then have it happen here."""
        job = await trio.to_thread.run_sync(self._store.happen, job_id, what, time.time(), error)
        self._put(job)
        if what is Event.CANCEL and job_id in self._scopes:
            self._scopes[job_id].cancel()
        return job

    def _put(self, job: Job) -> None:
        self.line.change(job)
        if job.is_over:
            self.publish(JOB, f"job {job.state.value}", job=job.id, model=job.model, version=job.version)
            self._over.pop(job.id, trio.Event()).set()
            self._ended.append(job)
            self._news.set()

    async def _expire(self) -> None:
        while True:
            try:
                await self.expire(time.time())
            except PipelineError as error:  # a full disk: later
                event(log, logging.ERROR, "jobs cannot be expired", because=error)
            await trio.sleep(SWEEP)

    async def expire(self, now: float) -> None:
        """Free what waited too long and results that were kept long enough."""
        for job in await trio.to_thread.run_sync(self._store.due, now):
            with suppress(Conflict, NotFound):
                self._put(await trio.to_thread.run_sync(self._store.expire, job.id, now))
        await trio.to_thread.run_sync(self._store.forget_expired, now - TOMBSTONE)

    async def _tell(self, job: Job) -> None:
        """Call back, and remember that."""
        if job.callback_url is not None and not job.called_back:
            await self._call_back(job)
            with suppress(PipelineError):
                await trio.to_thread.run_sync(self._store.called_back, job.id)

    def _version(self, key: ModelKey) -> Version | None:
        if self._catalog.serves(key):
            return self._catalog.find(*key)
        return self._switching.retiring.get(key)
