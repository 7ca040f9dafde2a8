"""What a gateway still knows after `kill -9`: models, their versions, which of them serve, and experiments.

A SQLite database and the blobs, in one folder that one gateway at a time may hold. Every change is one
transaction, committed to the disk before the method returns. Everything here blocks: the gateway calls it
in a thread, one thread at a time.
"""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import msgspec

from common.errors import Conflict, NotFound
from common.models import DEFAULTS, ModelSettings
from common.tensor import TensorSpec
from gateway.jobs.store import JobStore
from gateway.scheduling.requests import ModelKey
from gateway.state.blobs import BlobStore, disk_errors, sync_directory
from gateway.state.database import Connection, connect, create, database_errors, migrate, transaction
from gateway.state.kept import Kept
from gateway.state.state_folder import BLOBS, DATABASE, JOB_BLOBS, claim, lock

_COLUMNS = "model, version, nn_id, sha256, size, created, checked, file, settings, inputs, outputs, serves"
Signature = tuple[TensorSpec, ...]

_PLAIN = str, int, float
_SELECT = f"SELECT {_COLUMNS} FROM versions"  # nosec B608  # of constants
_SET_SETTINGS = "UPDATE versions SET settings = ? WHERE model = ? AND version = ?"


@dataclass(frozen=True)
class VersionRecord:
    """One version of a model: whose bytes it is, when it came (unix seconds), whether it is known to load,
    what its file was called, and whether it serves those who name it (who name none get the active one)."""

    model: str
    version: str
    nn_id: str
    sha256: str
    size: int
    created: float
    checked: bool = False
    file: str = ""
    settings: ModelSettings = DEFAULTS
    inputs: Signature = ()
    outputs: Signature = ()
    serves: bool = False

    @property
    def key(self) -> ModelKey:
        """The queue of requests for it."""
        return ModelKey(self.model, self.version)


class State:
    """The versions of every model and which one serves; made by `open_state`.

    A version, once added, never changes its bytes; the one that is active cannot be forgotten.
    """

    def __init__(self, connection: Connection, *, blobs: BlobStore, job_blobs: BlobStore) -> None:
        self._connection = connection
        self._path = connection.path
        self.blobs = blobs
        self.jobs = JobStore(connection, job_blobs)
        self.kept = Kept(connection)

    def add_version(self, record: VersionRecord) -> None:
        """Remember a version. Again the same: the first one's `created` and `checked` stay, and its settings
        while it serves.

        `Conflict` if its name is taken by other bytes or another nn_id.
        """
        with self._transaction() as connection:
            known = self._version(record.model, record.version)
            if known is None:
                values = _row(record)
                marks = ", ".join("?" * len(values))
                connection.execute(f"INSERT INTO versions ({_COLUMNS}) VALUES ({marks})", values)  # nosec B608  # of constants
            elif (known.sha256, known.size, known.nn_id) != (record.sha256, record.size, record.nn_id):
                raise Conflict(
                    f"version {record.version} of {record.model} is already there with other weights"
                    f" (nn_id {known.nn_id}, sha256 {known.sha256})"
                )
            elif not known.serves:
                values = _json(record.settings), record.model, record.version
                connection.execute(_SET_SETTINGS, values)

    def version(self, model: str, version: str) -> VersionRecord | None:
        """One version, or None if there is none of that name."""
        with database_errors(self._path):
            return self._version(model, version)

    def versions(self, model: str) -> list[VersionRecord]:
        """Every version of a model, in the order they were added."""
        return self._records(f"{_SELECT} WHERE model = ? ORDER BY id", model)

    def all_versions(self) -> list[VersionRecord]:
        """Every version of every model, those of one in the order they were added."""
        return self._records(f"{_SELECT} ORDER BY model, id")

    def mark_checked(self, model: str, version: str, inputs: Signature = (), outputs: Signature = ()) -> None:
        """Remember that a worker has loaded it, and what it takes and gives. `NotFound` if there is no such
        version."""
        with self._transaction() as connection:
            self._expect(model, version)
            connection.execute(
                "UPDATE versions SET checked = 1, inputs = ?, outputs = ? WHERE model = ? AND version = ?",
                (_json(inputs), _json(outputs), model, version),
            )

    def set_serving(self, model: str, version: str, serves: bool) -> None:
        """Remember whether a version serves those who name it. `NotFound` if there is no such version."""
        with self._transaction() as connection:
            self._expect(model, version)
            values = serves, model, version
            connection.execute("UPDATE versions SET serves = ? WHERE model = ? AND version = ?", values)

    def activate(self, model: str, version: str | None) -> None:
        """Make a version the one that serves, or none of them; the one before becomes `previous`.

        The one that serves already: nothing happens. `NotFound` if there is no such version.
        """
        with self._transaction() as connection:
            if version is not None:
                self._expect(model, version)
            connection.execute(
                "INSERT INTO activations (model, active) VALUES (?, ?)"
                " ON CONFLICT (model) DO UPDATE SET active = excluded.active, previous = active"
                " WHERE active IS NOT excluded.active",
                (model, version),
            )

    def active(self, model: str) -> VersionRecord | None:
        """The version that serves, if any does."""
        return self._activated(model, "active")

    def previous(self, model: str) -> VersionRecord | None:
        """The version that served before the active one, if there was one and it is still there."""
        return self._activated(model, "previous")

    def all_serving(self) -> list[VersionRecord]:
        """Every version that serves by its name."""
        return self._records(f"{_SELECT} WHERE serves ORDER BY id")

    def all_active(self) -> dict[str, VersionRecord]:
        """The version that serves, of every model of which one does."""
        query = f"{_SELECT} JOIN activations USING (model) WHERE version = active ORDER BY model"
        return {record.model: record for record in self._records(query)}

    def forget_version(self, model: str, version: str) -> None:
        """Remove a version; its blob stays until a sweep. Unknown: nothing.

        `Conflict` while it is active or an arm of an experiment.
        """
        with self._transaction() as connection:
            row = connection.execute("SELECT active FROM activations WHERE model = ?", (model,)).fetchone()
            if row is not None and row[0] == version:
                raise Conflict(f"version {version} of {model} is active: activate another one first")
            names = (model, version)
            arm = connection.execute(
                "SELECT experiment FROM arms WHERE model = ? AND version = ?", names
            ).fetchone()
            if arm is not None:
                raise Conflict(f"version {version} of {model} is an arm of experiment {arm[0]}: end it first")
            connection.execute(
                "UPDATE activations SET previous = NULL WHERE model = ? AND previous = ?", names
            )
            connection.execute("DELETE FROM versions WHERE model = ? AND version = ?", names)

    def settings(self, model: str) -> ModelSettings | None:
        """What was said of a model by `set_settings`; None where nothing was."""
        with database_errors(self._path):
            query = "SELECT settings FROM models WHERE model = ?"
            row = self._connection.execute(query, (model,)).fetchone()
            return None if row is None else msgspec.json.decode(row[0], type=ModelSettings)

    def set_settings(
        self,
        model: str,
        settings: ModelSettings,
        versions: Mapping[str, ModelSettings],
        *,
        untried: Iterable[str] = (),
    ) -> None:
        """Remember a model's settings, those that each of its versions has now, and which of these no worker
        has tried to load so."""
        with self._transaction() as connection:
            connection.execute("INSERT OR REPLACE INTO models VALUES (?, ?)", (model, _json(settings)))
            connection.executemany(
                _SET_SETTINGS,
                [(_json(each), model, version) for version, each in versions.items()],
            )
            connection.executemany(
                "UPDATE versions SET checked = 0 WHERE model = ? AND version = ?",
                [(model, version) for version in untried],
            )

    def put_experiment(self, name: str, body: bytes, model: str, versions: Iterable[str]) -> None:
        """Remember an experiment, whose versions cannot be forgotten meanwhile; `NotFound` without them."""
        with self._transaction() as connection:
            connection.execute("DELETE FROM experiments WHERE name = ?", (name,))
            connection.execute("INSERT INTO experiments VALUES (?, ?)", (name, body))
            for version in versions:
                self._expect(model, version)
                connection.execute("INSERT INTO arms VALUES (?, ?, ?)", (name, model, version))

    def forget_experiment(self, name: str) -> None:
        """Forget an experiment. Unknown: nothing."""
        with self._transaction() as connection:
            connection.execute("DELETE FROM experiments WHERE name = ?", (name,))

    def experiments(self) -> dict[str, bytes]:
        """Every experiment that is remembered."""
        with database_errors(self._path):
            return dict(self._connection.execute("SELECT name, body FROM experiments ORDER BY name"))

    def referenced(self) -> set[str]:
        """The sha256 of every version's blob: what a sweep has to keep."""
        with database_errors(self._path):
            return {row[0] for row in self._connection.execute("SELECT DISTINCT sha256 FROM versions")}

    def _records(self, query: str, *values: str) -> list[VersionRecord]:
        with database_errors(self._path):
            rows = self._connection.execute(query, values).fetchall()
            return [_record(row) for row in rows]

    def _version(self, model: str, version: str) -> VersionRecord | None:
        return next(iter(self._records(f"{_SELECT} WHERE model = ? AND version = ?", model, version)), None)

    def _activated(self, model: str, column: str) -> VersionRecord | None:
        query = f"{_SELECT} JOIN activations USING (model) WHERE model = ? AND version = activations.{column}"
        return next(iter(self._records(query, model)), None)

    def _expect(self, model: str, version: str) -> None:
        if self._version(model, version) is None:
            raise NotFound(f"there is no version {version} of {model}")

    def _transaction(self) -> AbstractContextManager[sqlite3.Connection]:
        return transaction(self._connection)


def _row(record: VersionRecord) -> tuple[object, ...]:
    """A record as the database has it, in the order of its columns."""
    plain = (getattr(record, each.name) for each in fields(record))
    return tuple(value if isinstance(value, _PLAIN) else _json(value) for value in plain)


def _record(row: tuple[Any, ...]) -> VersionRecord:
    model, version, nn_id, sha256, size, created, checked, file, settings, inputs, outputs, serves = row
    return VersionRecord(
        model, version, nn_id, sha256, size, created, bool(checked), file,
        msgspec.json.decode(settings, type=ModelSettings),
        msgspec.json.decode(inputs, type=Signature),
        msgspec.json.decode(outputs, type=Signature),
        bool(serves),
    )  # fmt: skip


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


@contextmanager
def open_state(directory: Path | None) -> Iterator[State]:
    """The state in `directory`, made if it is not there; None: one that is gone afterwards.

    `StateError`, with a sentence that says what to do, if another gateway holds it, if it is damaged, of a
    newer release, or cannot be read and written.
    """
    with ExitStack() as stack:
        is_ephemeral = directory is None
        if directory is None:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pipeline-")))
            path = Path(":memory:")
        else:
            path = directory / DATABASE
            with disk_errors(directory):
                claim(directory)
                stack.enter_context(lock(directory))
                create(path)
        connection = stack.enter_context(closing(connect(path)))
        migrate(connection, path, is_new=is_ephemeral)
        blobs, job_blobs = BlobStore(directory / BLOBS), BlobStore(directory / JOB_BLOBS)
        with disk_errors(directory):
            for each in (blobs, job_blobs):
                each.directory.mkdir(mode=0o700, exist_ok=True)
            sync_directory(directory)
        yield State(connection, blobs=blobs, job_blobs=job_blobs)
