"""Jobs as they are kept: a row for each in the gateway's database, their rows and answers as blobs.

The blobs are in a folder of their own, so nothing here can take away a model's weights. Everything here
blocks: the gateway calls it in threads, several at once.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from common.errors import Conflict, NotFound
from common.tensor import TensorSpec
from gateway.jobs.job import UNFINISHED, Chunk, Event, Job, State, after, further
from gateway.state.blobs import BlobStore
from gateway.state.database import Connection, database_errors, transaction

_UNFINISHED = tuple(state.value for state in UNFINISHED)


class Page(NamedTuple):
    """Jobs, newest first; `cursor` asks for those behind them, None if there are none."""

    jobs: list[Job]
    cursor: int | None


class KeyReused(Conflict):
    """Raised when an idempotency key comes again with another body."""

    code = "key_reused"
    status = 422


class JobStore:
    """Invariant: a blob is there as long as a job or a chunk names it."""

    def __init__(self, connection: Connection, blobs: BlobStore) -> None:
        self._connection = connection
        self._blobs = blobs
        # Held from the writing of a blob to its being named, and while blobs are removed.
        self._turn = threading.Lock()

    def add(self, job: Job, key: str | None, rows: bytes | None) -> tuple[Job, bool]:
        """Keep a new job with its rows: (it, whether it is new). One that its owner sent with the same key
        before is found instead; `KeyReused` if that was asked for something else."""
        key = None if key is None else _own(key, job.owner)
        with self._turn:
            blob = self._write(rows) if rows is not None else None
            with transaction(self._connection) as connection:
                known = connection.execute(
                    "SELECT body FROM jobs WHERE key = ? AND key IS NOT NULL", (key,)
                ).fetchone()
                if known is not None:
                    return _same(_job(known[0]), job.digest), False
                connection.execute(
                    "INSERT INTO jobs (id, owner, key, sha256, state, expires, to_call, body)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    (job.id, job.owner, key, blob, *_columns(job)),
                )
                return job, True

    def find_key(self, key: str, digest: str, owner: str) -> Job | None:
        """The job that its owner sent with a key before; `KeyReused` if it was asked for something else."""
        found = self._one("SELECT body FROM jobs WHERE key = ?", _own(key, owner))
        return None if found is None else _same(found, digest)

    def get(self, job_id: str) -> Job:
        """A job; `NotFound`."""
        job = self._one("SELECT body FROM jobs WHERE id = ?", job_id)
        if job is None:
            raise NotFound(f"there is no job {job_id}")
        return job

    def happen(self, job_id: str, what: Event, now: float, error: str = "") -> Job:
        """Keep that something happened to a job, which is given back; `NotFound`, `Conflict`."""
        with transaction(self._connection) as connection:
            job = after(_read(connection, job_id), what, now, error)
            _update(connection, job)
            return job

    def called_back(self, job_id: str) -> None:
        """Keep that a job's callback_url was told, or given up."""
        with transaction(self._connection) as connection:
            _update(connection, msgspec.structs.replace(_read(connection, job_id), called_back=True))

    def put_chunk(self, job: Job, chunk: Chunk, answers: bytes, outputs: tuple[TensorSpec, ...]) -> Job:
        """Keep a chunk and how far the job is with it; `Conflict` unless it is the job's next, `NotFound`."""
        with self._turn:
            sha256 = self._write(answers)
            with transaction(self._connection) as connection:
                moved = further(_read(connection, job.id), chunk, outputs)
                connection.execute(
                    "INSERT INTO chunks VALUES (?, ?, ?, ?)", (job.id, chunk.number, chunk.rows, sha256)
                )
                _update(connection, moved)
                return moved

    def rows(self, job_id: str) -> bytes:
        """The rows that a job came with; `NotFound`."""
        (sha256,) = self._row("SELECT sha256 FROM jobs WHERE id = ?", job_id) or (None,)
        if sha256 is None:
            raise NotFound(f"the rows of job {job_id} are gone")
        return self._blobs.read(sha256)

    def answers(self, job_id: str, number: int) -> bytes:
        """One chunk's answers; `NotFound`."""
        row = self._row("SELECT sha256 FROM chunks WHERE job = ? AND number = ?", job_id, number)
        if row is None:
            raise NotFound(f"the answers of job {job_id} are gone")
        return self._blobs.read(row[0])

    def page(self, *, state: State | None, limit: int, cursor: int | None, owner: str | None = None) -> Page:
        """Jobs that came before `cursor`, of an owner or of all, newest first. Those that come meanwhile move
        none of them."""
        query = "SELECT seq, body FROM jobs WHERE seq < ?"
        told: list[int | str] = [2**62 if cursor is None else cursor]
        for column, value in (("state", None if state is None else state.value), ("owner", owner)):
            if value is not None:
                query += f" AND {column} = ?"  # nosec B608  # of constants
                told.append(value)
        with database_errors(self._connection.path):
            rows = self._connection.execute(
                f"{query} ORDER BY seq DESC LIMIT ?", (*told, limit + 1)
            ).fetchall()
            shown = rows[:limit]
            return Page([_job(body) for _, body in shown], shown[-1][0] if len(rows) > limit else None)

    def unfinished(self) -> list[Job]:
        """Every job that is not over, in the order they came."""
        return self._all(f"SELECT body FROM jobs WHERE state IN {_UNFINISHED} ORDER BY seq")  # nosec B608  # of constants

    def uncalled(self) -> list[Job]:
        """Every job that is over and whose callback_url was not told yet."""
        return self._all(f"SELECT body FROM jobs WHERE state NOT IN {_UNFINISHED} AND to_call ORDER BY seq")  # nosec B608  # of constants

    def due(self, now: float) -> list[Job]:
        """The jobs that expire by now. One that runs does not."""
        return self._all(
            "SELECT body FROM jobs WHERE expires <= ? AND state NOT IN ('running', 'expired')", now
        )

    def expire(self, job_id: str, now: float) -> Job:
        """Keep that a job expired, and nothing of its rows and answers; `NotFound`, `Conflict`."""
        with self._turn:
            with transaction(self._connection) as connection:
                job = after(_read(connection, job_id), Event.EXPIRE, now, "the job expired")
                blobs = _free(connection, job_id)
                _update(connection, job)
            self._remove(blobs)
            return job

    def forget(self, job_id: str) -> None:
        """Remove a job and all that is kept of it."""
        with self._turn:
            with transaction(self._connection) as connection:
                blobs = _free(connection, job_id)
                connection.execute("DELETE FROM jobs WHERE id = ?", (job_id,))
            self._remove(blobs)

    def forget_expired(self, before: float) -> None:
        """Remove what expired before a time: from then on nobody knows that it was there."""
        with transaction(self._connection) as connection:
            connection.execute("DELETE FROM jobs WHERE state = 'expired' AND expires < ?", (before,))

    def sweep(self) -> None:
        """Remove what unfinished writers left. For the start of a gateway."""
        query = "SELECT sha256 FROM jobs WHERE sha256 IS NOT NULL UNION SELECT sha256 FROM chunks"
        with database_errors(self._connection.path):
            named = {row[0] for row in self._connection.execute(query)}
        self._blobs.sweep(named)

    # --- inside

    def _write(self, data: bytes) -> str:
        with self._blobs.new() as writer:
            writer.write(data)
            return writer.commit().sha256

    def _remove(self, blobs: set[str]) -> None:
        for sha256 in blobs:
            used = self._row(
                "SELECT 1 FROM jobs WHERE sha256 = ?1 UNION SELECT 1 FROM chunks WHERE sha256 = ?1", sha256
            )
            if used is None:
                self._blobs.remove(sha256)

    def _row(self, query: str, *told: object) -> tuple[str, ...] | None:
        with database_errors(self._connection.path):
            row: tuple[str, ...] | None = self._connection.execute(query, told).fetchone()
            return row

    def _one(self, query: str, *told: object) -> Job | None:
        return next(iter(self._all(query, *told)), None)

    def _all(self, query: str, *told: object) -> list[Job]:
        with database_errors(self._connection.path):
            return [_job(row[0]) for row in self._connection.execute(query, told).fetchall()]


def _own(key: str, owner: str) -> str:
    """A key as it is kept: two owners may have the same, and neither holds a space."""
    return f"{owner} {key}" if owner else key


def _same(known: Job, digest: str) -> Job:
    if known.digest != digest:
        raise KeyReused(f"this Idempotency-Key came with another body before, for job {known.id}")
    return known


def _job(body: bytes) -> Job:
    return msgspec.json.decode(body, type=Job)


def _read(connection: sqlite3.Connection, job_id: str) -> Job:
    row = connection.execute("SELECT body FROM jobs WHERE id = ?", (job_id,)).fetchone()
    if row is None:
        raise NotFound(f"there is no job {job_id}")
    return _job(row[0])


def _update(connection: sqlite3.Connection, job: Job) -> None:
    connection.execute(
        "UPDATE jobs SET state = ?, expires = ?, to_call = ?, body = ? WHERE id = ?", (*_columns(job), job.id)
    )


def _columns(job: Job) -> tuple[object, ...]:
    to_call = job.callback_url is not None and not job.called_back
    return job.state.value, job.expires, to_call, msgspec.json.encode(job)


def _free(connection: sqlite3.Connection, job_id: str) -> set[str]:
    """Have a job name no blob any more; those it named."""
    query = "SELECT sha256 FROM jobs WHERE id = ?1 UNION SELECT sha256 FROM chunks WHERE job = ?1"
    blobs: Sequence[tuple[str | None]] = connection.execute(query, (job_id,)).fetchall()
    connection.execute("DELETE FROM chunks WHERE job = ?", (job_id,))
    connection.execute("UPDATE jobs SET sha256 = NULL WHERE id = ?", (job_id,))
    return {sha256 for (sha256,) in blobs if sha256 is not None}
