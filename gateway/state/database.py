"""The gateway's SQLite database as a file: its schema, how it is made, opened and brought up to date.

What is in its tables, and what may be done with it, is in `state`.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import msgspec

from common.errors import DiskFull, StateError
from gateway.state.blobs import sync_directory
from gateway.state.state_folder import what_to_do

# Entry n takes the database from schema n to n + 1. Entries are added, never changed.
MIGRATIONS = (
    """
    CREATE TABLE versions (
        id INTEGER PRIMARY KEY,
        model TEXT NOT NULL,
        version TEXT NOT NULL,
        nn_id TEXT NOT NULL,
        sha256 TEXT NOT NULL CHECK (length(sha256) = 64),
        size INTEGER NOT NULL CHECK (size >= 0),
        created REAL NOT NULL,
        checked INTEGER NOT NULL CHECK (checked IN (0, 1)),
        UNIQUE (model, version)
    );
    CREATE TABLE activations (
        model TEXT PRIMARY KEY,
        active TEXT,
        previous TEXT,
        FOREIGN KEY (model, active) REFERENCES versions (model, version),
        FOREIGN KEY (model, previous) REFERENCES versions (model, version)
    );
    """,
    """
    ALTER TABLE versions ADD COLUMN file TEXT NOT NULL DEFAULT '';
    ALTER TABLE versions ADD COLUMN settings TEXT NOT NULL DEFAULT '{}';
    ALTER TABLE versions ADD COLUMN inputs TEXT NOT NULL DEFAULT '[]';
    ALTER TABLE versions ADD COLUMN outputs TEXT NOT NULL DEFAULT '[]';
    ALTER TABLE versions ADD COLUMN serves INTEGER NOT NULL DEFAULT 0 CHECK (serves IN (0, 1));
    """,
    """
    CREATE TABLE experiments (
        name TEXT PRIMARY KEY,
        body BLOB NOT NULL
    );
    CREATE TABLE arms (
        experiment TEXT NOT NULL REFERENCES experiments (name) ON DELETE CASCADE,
        model TEXT NOT NULL,
        version TEXT NOT NULL,
        PRIMARY KEY (experiment, model, version),
        FOREIGN KEY (model, version) REFERENCES versions (model, version)
    );
    """,
    """
    CREATE TABLE models (
        model TEXT PRIMARY KEY,
        settings TEXT NOT NULL
    );
    """,
    """
    CREATE TABLE jobs (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        key TEXT UNIQUE,
        state TEXT NOT NULL,
        expires REAL NOT NULL,
        to_call INTEGER NOT NULL CHECK (to_call IN (0, 1)),
        sha256 TEXT,
        body BLOB NOT NULL
    );
    CREATE INDEX jobs_by_state ON jobs (state, seq);
    CREATE INDEX jobs_by_expiry ON jobs (expires);
    CREATE INDEX jobs_by_blob ON jobs (sha256);
    CREATE TABLE chunks (
        job TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
        number INTEGER NOT NULL,
        rows INTEGER NOT NULL,
        sha256 TEXT NOT NULL,
        PRIMARY KEY (job, number)
    );
    CREATE INDEX chunks_by_blob ON chunks (sha256);
    """,
    """
    CREATE TABLE kept (
        name TEXT PRIMARY KEY,
        body BLOB NOT NULL
    );
    """,
    """
    ALTER TABLE jobs ADD COLUMN owner TEXT NOT NULL DEFAULT '';
    CREATE INDEX jobs_by_owner ON jobs (owner, seq);
    """,
)


class Connection(sqlite3.Connection):
    """A connection that several threads share; a transaction is one thread's at a time."""

    def __init__(self, *told: Any, **named: Any) -> None:
        super().__init__(*told, **named)
        self.path = Path()
        self.turn = threading.Lock()


@contextmanager
def transaction(connection: Connection) -> Iterator[Connection]:
    """All of what is done inside or nothing, on the disk when this ends."""
    with connection.turn, database_errors(connection.path):
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:  # a full disk makes SQLite roll back by itself
                connection.execute("ROLLBACK")
            raise


def create(path: Path) -> None:
    """Give a new state its database under its name only once it is whole: one of 0 bytes is damaged."""
    if path.exists():
        return
    unfinished = path.with_name(f"{path.name}.new")
    # A log left beside a database that somebody removed would be replayed into the new one.
    for stale in [*path.parent.glob(f"{path.name}-*"), *path.parent.glob(f"{unfinished.name}*")]:
        stale.unlink()
    with closing(connect(unfinished)) as connection:
        migrate(connection, path, is_new=True)
    unfinished.rename(path)
    sync_directory(path.parent)


def connect(path: Path) -> Connection:
    """A connection on which every commit is on the disk before it returns."""
    with database_errors(path):
        connection = sqlite3.connect(
            path, timeout=5.0, isolation_level=None, check_same_thread=False, factory=Connection
        )
        connection.path = path
        try:
            for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
                connection.execute(f"PRAGMA {pragma}")
        except BaseException:
            connection.close()
            raise
        return connection


def migrate(connection: sqlite3.Connection, path: Path, *, is_new: bool) -> None:
    """Check a database and bring it to the schema of today; `StateError` if that cannot be."""
    with database_errors(path):
        (problem,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        (schema,) = connection.execute("PRAGMA user_version").fetchone()
        if problem != "ok" or (schema == 0 and not is_new):
            raise sqlite3.DatabaseError("it holds no tables" if problem == "ok" else problem)
        if schema > len(MIGRATIONS):
            raise StateError(
                f"{path} is of a newer release (schema {schema}, this one knows {len(MIGRATIONS)}):"
                " start that release, or give another --state"
            )
        for number in range(schema, len(MIGRATIONS)):
            connection.executescript(
                f"BEGIN IMMEDIATE; {MIGRATIONS[number]} PRAGMA user_version = {number + 1}; COMMIT"
            )


def error_of(path: Path, error: sqlite3.Error) -> StateError:
    """What a database cannot do for now; a full disk has a word of its own."""
    kind = DiskFull if "full" in str(error) else StateError
    return kind(f"{path} cannot be used ({error}): has the disk room, and may we write?")


@contextmanager
def database_errors(path: Path) -> Iterator[None]:
    """The one place that knows sqlite3's exceptions."""
    try:
        yield
    except (sqlite3.OperationalError, sqlite3.IntegrityError) as error:
        raise error_of(path, error) from error
    except (
        sqlite3.Error,
        UnicodeDecodeError,
        msgspec.MsgspecError,
    ) as error:  # sqlite3 decodes even what it says of the damage
        raise StateError(f"{path} is damaged ({error}): {what_to_do(path.parent)}") from error
