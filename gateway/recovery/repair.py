"""Makes a state directory usable again: what can be read goes into a new database, what is damaged stays
beside it.

Nothing is removed. The database is there under its name at every moment, the damaged one or the new one: a
gateway that finds none would begin anew.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from common.errors import StateError
from gateway.recovery.check import check, names_in
from gateway.recovery.findings import Report
from gateway.recovery.restoring import Restoring
from gateway.recovery.salvage import salvage
from gateway.state.blobs import BlobStore, disk_errors, second_name, sync_directory
from gateway.state.database import MIGRATIONS, connect, database_errors, migrate
from gateway.state.state_folder import BLOBS, DATABASE, JOB_BLOBS, lock


class Repaired(NamedTuple):
    """What a repair did: sentences about what is lost, and the files that are kept beside. `was_damaged` is
    False where there was nothing to do."""

    directory: str
    was_damaged: bool
    versions: int
    jobs: int
    lost: list[str]
    kept: list[str]


def repair(directory: Path, now: float | None = None) -> Repaired:
    """Repair the state in a folder that no gateway has. `StateError` where one has, or it cannot be done."""
    if not directory.is_dir():
        raise StateError(f"{directory} holds no state: say which folder does by --state")
    with disk_errors(directory), lock(directory):
        found = check(directory)
        if found.schema is not None and found.schema > len(MIGRATIONS):
            raise StateError(
                f"{directory / DATABASE} is of a newer release (schema {found.schema}): repair it by that one"
            )
        if not found.damage:
            return Repaired(str(directory), False, found.versions, found.jobs, [], [])
        stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime(now))
        return _repair(directory, found, stamp)


def _repair(directory: Path, found: Report, stamp: str) -> Repaired:
    path, new = directory / DATABASE, directory / f"{DATABASE}.new"
    blobs, job_blobs = BlobStore(directory / BLOBS), BlobStore(directory / JOB_BLOBS)
    for stale in directory.glob(f"{new.name}*"):
        stale.unlink()
    with closing(connect(new)) as connection:
        migrate(connection, new, is_new=True)
        restoring = Restoring(connection, blobs, job_blobs)
        restoring.fill(salvage(path))
        with database_errors(new):
            named = names_in(connection)
            versions, jobs = (_count(connection, table) for table in ("versions", "jobs"))
    kept = [each for store in (blobs, job_blobs) for each in _set_aside(store, named, stamp)]
    kept += _exchange(path, new, stamp)
    return Repaired(str(directory), True, versions, jobs, restoring.lost, kept)


def _set_aside(blobs: BlobStore, named: dict[str, set[str]], stamp: str) -> Iterator[str]:
    """Move what nobody names any more out of a gateway's way, which would remove it."""
    aside = blobs.directory.with_name(f"{blobs.directory.name}.damaged-{stamp}")
    for path in sorted(blobs.directory.glob("??/*")):
        if path.name not in named[blobs.directory.name]:
            aside.mkdir(mode=0o700, exist_ok=True)
            path.rename(aside / path.name)
            yield str(aside / path.name)
    if aside.exists():
        sync_directory(aside)


def _exchange(path: Path, new: Path, stamp: str) -> Iterator[str]:
    """Put the new database in the place of the old one, whose files stay under names of their own."""
    aside = f"{DATABASE}.damaged-{stamp}"
    for suffix in ("", "-wal"):
        old = path.with_name(path.name + suffix)
        if old.exists() and (not suffix or old.stat().st_size):
            kept = path.with_name(aside + suffix)
            second_name(old, kept)
            yield str(kept)
    for suffix in ("-wal", "-shm"):  # the log of the old one would be replayed into the new one
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    new.rename(path)
    sync_directory(path.parent)


def _count(connection: sqlite3.Connection, table: str) -> int:
    count: int = connection.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0]  # nosec B608  # our own name
    return count
