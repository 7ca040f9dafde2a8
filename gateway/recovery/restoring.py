"""Puts the rows that were read out of a damaged database into a new one, and says of what it could not.

A version without its file is none; what refers to a lost one goes with it, or does without.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any

import msgspec

from gateway.jobs.job import Job, State
from gateway.recovery.documents import DOCUMENTS
from gateway.recovery.salvage import Table
from gateway.recovery.weights import damage_of, sentence
from gateway.state.blobs import BlobStore
from gateway.state.database import Connection, transaction

_TYPES: dict[str, tuple[type, ...]] = {
    "TEXT": (str,), "INTEGER": (int,), "REAL": (float, int), "BLOB": (bytes,),
}  # fmt: skip
# What a row of each table is called, by its columns.
_NAMES = {
    "versions": "version {version} of {model}",
    "models": "settings of {model}",
    "activations": "which version of {model} serves",
    "experiments": "experiment {name}",
    "arms": "arm {version} of experiment {experiment}",
    "jobs": "job {id}",
    "chunks": "rows {number} of job {job}",
    "kept": "{name}",
}

Row = dict[str, Any]


class Restoring:
    """One repair: `lost` has a sentence for everything that is not in the new database."""

    def __init__(self, connection: Connection, blobs: BlobStore, job_blobs: BlobStore) -> None:
        self.lost: list[str] = []
        self._connection = connection
        self._blobs = blobs
        self._job_blobs = job_blobs

    def fill(self, tables: list[Table]) -> None:
        """Put in all that there is; the tables come in the order in which they refer to each other."""
        with transaction(self._connection):
            for table in tables:
                if not table.is_whole:
                    self.lost.append(f"not all of the table {table.name} could be read")
                for values in table.rows:
                    self._put(table.name, dict(zip(table.columns, values, strict=True)))
            for job, why in list(self._incomplete()):
                self._connection.execute("DELETE FROM jobs WHERE id = ?", (job,))
                self.lost.append(f"job {job}: {why}")

    def _put(self, table: str, row: Row) -> None:
        why = self._wrong_shape(table, row) or self._wrong_file(table, row)
        if why is None:
            if table == "activations":
                self._without_lost(row)
            columns = ", ".join(row)
            marks = ", ".join("?" * len(row))
            insert = f"INSERT INTO {table} ({columns}) VALUES ({marks})"  # nosec B608  # our own schema's names
            try:
                self._connection.execute(insert, (*row.values(),))
                return
            except sqlite3.IntegrityError:
                why = "it does not fit what else could be read"
        self.lost.append(f"{_NAMES[table].format_map(_Lenient(row))}: {why}")
        if table == "arms":  # an experiment does without none of its versions
            self._connection.execute("DELETE FROM experiments WHERE name = ?", (row["experiment"],))

    def _wrong_shape(self, table: str, row: Row) -> str | None:
        """Why a row is none, as damage may have changed its bytes; drops what no release of today knows."""
        about = {each[1]: each for each in self._connection.execute(f"PRAGMA table_info({table})")}
        for name in [name for name in row if name not in about]:
            del row[name]
        for name, value in row.items():
            _, _, kind, needed, _, is_key = about[name]
            if value is None and not needed and not is_key:
                continue
            if not isinstance(value, _TYPES[kind]):
                return f"its {name} cannot be read"
        for where, column, kind in DOCUMENTS:
            if where == table and column in row:
                try:
                    msgspec.json.decode(row[column], type=kind)
                except (msgspec.MsgspecError, ValueError) as error:
                    return f"its {column} cannot be read ({error})"
        return None

    def _wrong_file(self, table: str, row: Row) -> str | None:
        if table == "versions":
            what = damage_of(self._blobs, row["sha256"], row["size"], reads=True)
        elif table in ("jobs", "chunks") and row["sha256"] is not None:
            what = damage_of(self._job_blobs, row["sha256"], None, reads=True)
        else:
            return None
        return None if what is None else f"its file {sentence(what)}"

    def _without_lost(self, row: Row) -> None:
        """Let a model serve none of the versions that are lost."""
        query = "SELECT 1 FROM versions WHERE model = ? AND version = ?"
        for column in ("active", "previous"):
            version = row.get(column)
            if (
                version is not None
                and not self._connection.execute(query, (row["model"], version)).fetchone()
            ):
                row[column] = None
                if column == "active":
                    self.lost.append(
                        f"version {version} of {row['model']} was active: none is until one is activated"
                    )

    def _incomplete(self) -> Iterator[tuple[str, str]]:
        """The jobs that some of what was answered is missing of."""
        counts = "SELECT job, COUNT(*) FROM chunks GROUP BY job"
        there = dict(self._connection.execute(counts).fetchall())
        for name, body in self._connection.execute("SELECT id, body FROM jobs").fetchall():
            job = msgspec.json.decode(body, type=Job)
            if job.state is not State.EXPIRED and there.get(name, 0) != job.chunks:
                yield name, f"{there.get(name, 0)} of {job.chunks} parts of its answers are there"


class _Lenient(dict[str, Any]):
    def __missing__(self, key: str) -> str:
        return "?"
