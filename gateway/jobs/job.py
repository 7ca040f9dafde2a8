"""What a job is, the states it goes through, and how it counts its rows. Pure.

A chunk is rows of a job that are computed and kept together. `Job` says how far it has come, and is kept in
the same transaction as the chunk that took it there: so whatever crashes when, each row is in one chunk.
"""

from __future__ import annotations

import enum
from typing import Any

import msgspec

from common.errors import Conflict
from common.tensor import TensorSpec
from gateway.scheduling.requests import ModelKey

FORMATS = ("csv", "jsonl", "parquet")


class State(str, enum.Enum):
    """Where a job is."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"  # it waited too long, or its result was kept long enough and is gone


class Event(str, enum.Enum):
    """What can happen to a job."""

    START = "started"
    CHUNK = "a chunk further"
    INTERRUPT = "interrupted"  # the gateway went away: it goes on from its last chunk
    FINISH = "finished"
    FAIL = "failed"
    CANCEL = "cancelled"
    EXPIRE = "expired"


TRANSITIONS: dict[State, dict[Event, State]] = {
    State.QUEUED: {
        Event.START: State.RUNNING,
        Event.FAIL: State.FAILED,
        Event.CANCEL: State.CANCELLED,
        Event.EXPIRE: State.EXPIRED,
    },
    State.RUNNING: {
        Event.CHUNK: State.RUNNING,
        Event.INTERRUPT: State.QUEUED,
        Event.FINISH: State.DONE,
        Event.FAIL: State.FAILED,
        Event.CANCEL: State.CANCELLED,
    },
    State.DONE: {Event.EXPIRE: State.EXPIRED},
    State.FAILED: {Event.EXPIRE: State.EXPIRED},
    State.CANCELLED: {Event.EXPIRE: State.EXPIRED},
    State.EXPIRED: {},
}
UNFINISHED = (State.QUEUED, State.RUNNING)


class BatchFiles(msgspec.Struct, frozen=True, kw_only=True):
    """What a batch job reads and writes. `size` (bytes) and `stamp` are the input's as it was admitted."""

    input: str
    output: str
    format: str
    columns: tuple[str, ...] = ()  # csv and parquet: by name; none: all of them
    header: bool | None = None  # csv: None finds out
    size: int = 0
    stamp: str = ""


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A job as it is kept. Times are in unix seconds, 0 for what did not happen yet.

    Invariant: rows 0 to `rows_done` are in chunks 0 to `chunks`, and `position` is where the next row begins
    in its source. `rows_failed` of them have an error for an answer.
    """

    id: str
    model: str
    version: str
    nn_id: str
    shape: str  # vector, vectors, inputs: how its rows came; batch: it has files
    ttl: float
    owner: str = ""  # the id of the token that asked; empty where there were none
    digest: str = ""  # of what was asked, with which the same key has to come again
    priority: int = 0
    callback_url: str | None = None
    files: BatchFiles | None = None
    state: State = State.QUEUED
    error: str = ""
    created: float = 0.0
    started: float = 0.0
    finished: float = 0.0
    rows_total: int | None = None
    rows_done: int = 0
    rows_failed: int = 0
    chunks: int = 0
    position: int = 0
    outputs: tuple[TensorSpec, ...] = ()  # what one row's answer is; known with the first
    called_back: bool = False  # whether callback_url was told, or given up

    @property
    def key(self) -> ModelKey:
        """The version that it was admitted under, which answers all of it."""
        return ModelKey(self.model, self.version)

    @property
    def is_over(self) -> bool:
        """Whether nothing more will be computed."""
        return self.state not in UNFINISHED

    @property
    def expires(self) -> float:
        """When it goes if it still waits then, or when its result goes."""
        return (self.finished or self.created) + self.ttl

    @property
    def progress(self) -> float:
        """How much of it is computed, from 0 to 1: by rows, or by the input's bytes where nobody has counted
        its rows."""
        if self.state is State.DONE:
            return 1.0
        if self.rows_total is not None:
            return self.rows_done / max(1, self.rows_total)
        return min(1.0, self.position / max(1, self.files.size)) if self.files is not None else 0.0


class Chunk(msgspec.Struct, frozen=True, kw_only=True):
    """Answers of the rows from `first` on; `position` is where the source goes on behind them."""

    number: int
    first: int
    rows: int
    failed: int
    position: int


def after(job: Job, event: Event, now: float, error: str = "") -> Job:
    """The job once `event` has happened; `Conflict` for what was asked at the wrong time."""
    state = TRANSITIONS[job.state].get(event)
    if state is None:
        raise Conflict(f"job {job.id} is {job.state.value}: it cannot be {event.value}")
    changes: dict[str, Any] = {"state": state}
    if event is Event.START:
        changes["started"] = job.started or now
    elif event in (Event.FINISH, Event.FAIL, Event.CANCEL) or (event is Event.EXPIRE and not job.finished):
        changes |= {"finished": now, "error": error}
    return msgspec.structs.replace(job, **changes)


def next_chunk(job: Job, rows: int, failed: int, position: int) -> Chunk:
    """What these rows are, should they come next."""
    return Chunk(number=job.chunks, first=job.rows_done, rows=rows, failed=failed, position=position)


def further(job: Job, chunk: Chunk, outputs: tuple[TensorSpec, ...]) -> Job:
    """The job with one more chunk; `Conflict` unless it is the one that comes next."""
    moved = after(job, Event.CHUNK, 0.0)
    if (chunk.number, chunk.first) != (job.chunks, job.rows_done):
        raise Conflict(
            f"chunk {chunk.number} of job {job.id} begins at row {chunk.first}, and chunk {job.chunks}"
            f" at row {job.rows_done} comes next"
        )
    return msgspec.structs.replace(
        moved,
        chunks=job.chunks + 1,
        rows_done=job.rows_done + chunk.rows,
        rows_failed=job.rows_failed + chunk.failed,
        position=chunk.position,
        outputs=job.outputs or outputs,
    )
