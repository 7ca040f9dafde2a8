"""Looks for everything that is wrong with a state directory, and changes nothing: a gateway may run on it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec

from common.errors import StateError
from gateway.recovery.documents import DOCUMENTS
from gateway.recovery.findings import Finding, Report
from gateway.recovery.weights import WRONG_BYTES, damage_of, place_of, sentence
from gateway.state.blobs import BlobStore
from gateway.state.database import MIGRATIONS
from gateway.state.state_folder import BLOBS, DATABASE, JOB_BLOBS

BUSY_TIME = 5.0
_MOST = 100  # lines that SQLite may say of the damage


def check(directory: Path) -> Report:
    """All that can be found. `StateError` where there is no state at all, or it may not be read."""
    path = directory / DATABASE
    stores = {name: BlobStore(directory / name) for name in (BLOBS, JOB_BLOBS)}
    files = sum(len(_files(store)) for store in stores.values())
    if not path.exists() and not files:
        raise StateError(f"{directory} holds no state: say which folder does by --state")
    findings: list[Finding] = []
    schema, versions, jobs = None, 0, 0
    try:
        if not path.exists():
            raise sqlite3.OperationalError("it is missing")
        with closing(look_into(path)) as connection:
            connection.execute("BEGIN")  # all that follows is of one moment
            schema = connection.execute("PRAGMA user_version").fetchone()[0]
            findings += _database(connection, path, schema)
            findings += _missing(connection, stores[BLOBS])
            findings += _missing_of_jobs(connection, stores[JOB_BLOBS])
            findings += [
                each for name, named in names_in(connection).items() for each in _orphans(stores[name], named)
            ]
            versions, jobs = (len(_rows(connection, table, "rowid")) for table in ("versions", "jobs"))
    except sqlite3.Error as error:
        findings.append(Finding("database", str(path), f"the database cannot be read: {error}"))
    told = {each.file for each in findings if each.is_damage}
    findings += [each for store in stores.values() for each in _changed(store) if each.file not in told]
    return Report(str(directory), schema, versions, jobs, files, findings)


def look_into(path: Path) -> sqlite3.Connection:
    """The database as it is at this moment; nothing can be written over this connection."""
    # The part of a path that a URI would understand in another way is quoted.
    return sqlite3.connect(
        f"file:{quote(str(path))}?mode=ro", uri=True, timeout=BUSY_TIME, isolation_level=None
    )


def _database(connection: sqlite3.Connection, path: Path, schema: int) -> Iterator[Finding]:
    for (said,) in connection.execute(f"PRAGMA integrity_check({_MOST})").fetchall():
        if said != "ok":
            yield Finding("database", str(path), f"the database is damaged: {' '.join(said.split())}")
    if not 0 < schema <= len(MIGRATIONS):
        yield Finding(
            "schema", str(path), f"its schema is {schema}, and this release knows 1 to {len(MIGRATIONS)}"
        )
    for table, rowid, parent, _ in connection.execute("PRAGMA foreign_key_check").fetchall():
        yield Finding(
            "reference", str(path), f"row {rowid} of {table} names something that {parent} does not hold"
        )
    for table, column, kind in DOCUMENTS:
        for rowid, body in _rows(connection, table, f"rowid, {column}"):
            try:
                msgspec.json.decode(body, type=kind)
            except (msgspec.MsgspecError, TypeError, ValueError) as error:
                what = f"{column} of row {rowid} of {table} cannot be read: {error}"
                yield Finding("document", str(path), what)


def _missing(connection: sqlite3.Connection, blobs: BlobStore) -> Iterator[Finding]:
    for model, version, sha256, size in _rows(connection, "versions", "model, version, sha256, size"):
        what = damage_of(blobs, sha256, size, reads=False)
        if what is not None:
            where = place_of(blobs, sha256)
            yield Finding(what, str(where), f"the file {sentence(what)} (version {version} of {model})")


def _missing_of_jobs(connection: sqlite3.Connection, blobs: BlobStore) -> Iterator[Finding]:
    for table, column in (("jobs", "id"), ("chunks", "job")):
        for job, sha256 in _rows(connection, table, f"{column}, sha256"):
            if sha256 is not None and damage_of(blobs, sha256, None, reads=False) is not None:
                where = str(place_of(blobs, sha256))
                kept = "rows" if table == "jobs" else "answers"
                yield Finding("job_blob_missing", where, f"the file is missing ({kept} of job {job})")


def _changed(blobs: BlobStore) -> Iterator[Finding]:
    for path in _files(blobs):
        if damage_of(blobs, path.name, None, reads=True) == WRONG_BYTES:
            yield Finding(WRONG_BYTES, str(path), f"the file {sentence(WRONG_BYTES)}")


def _orphans(blobs: BlobStore, named: set[str]) -> Iterator[Finding]:
    """What nobody names; a gateway at work may be about to name it."""
    for path in _files(blobs):
        if path.name not in named:
            text = "nothing names the file: a gateway removes it when it starts"
            yield Finding("orphan", str(path), text, is_damage=False)


def names_in(connection: sqlite3.Connection) -> dict[str, set[str]]:
    """The sha256 of everything that a version or a job has on the disk, by the folder that it is in."""
    named = {BLOBS: {each for (each,) in _rows(connection, "versions", "sha256")}, JOB_BLOBS: set()}
    for table in ("jobs", "chunks"):
        named[JOB_BLOBS] |= {each for (each,) in _rows(connection, table, "sha256") if each is not None}
    return named


def _rows(connection: sqlite3.Connection, table: str, columns: str) -> list[tuple[Any, ...]]:
    """Some columns of a table; nothing where an older release had no such table or column."""
    known = {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}
    if not known or not (known | {"rowid"}).issuperset(columns.split(", ")):
        return []
    rows: list[tuple[Any, ...]] = connection.execute(f"SELECT {columns} FROM {table}").fetchall()  # nosec B608  # our own names
    return rows


def _files(blobs: BlobStore) -> list[Path]:
    """Everything that is named as a blob is."""
    return sorted(path for path in blobs.directory.glob("??/*") if len(path.name) == 64)
