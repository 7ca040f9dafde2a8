"""Copies a state directory while a gateway runs on it. The copy is one too: `--state` takes it.

The database is copied by SQLite as of one moment; blobs never change once they have a name, so a second name
for them will do where the copy is on the same file system.
"""

from __future__ import annotations

import os
import shutil
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from common.errors import StateError
from gateway.recovery.check import check, look_into, names_in
from gateway.recovery.findings import Finding
from gateway.state.blobs import BlobStore, disk_errors, second_name, sync_directory
from gateway.state.database import database_errors
from gateway.state.state_folder import DATABASE

TRIES = 3  # a job's answers may expire while they are copied; then the database is asked again


class Backup(NamedTuple):
    """What was copied, and what is wrong with it as it was with the original."""

    directory: str
    versions: int
    jobs: int
    blobs: int
    size: int
    findings: list[Finding]


def backup(directory: Path, target: Path) -> Backup:
    """Copy a state into a folder that is not there yet, and check the copy. `StateError` if it cannot be."""
    if not (directory / DATABASE).exists():
        raise StateError(f"{directory} holds no state: say which folder does by --state")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise StateError(f"{target} is there already: name a new folder")
    unfinished = target.with_name(f"{target.name}.unfinished-{os.getpid()}")
    with disk_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            unfinished.mkdir(mode=0o700)
            _copy(directory, unfinished)
            _sync(unfinished)
            unfinished.rename(target)
            sync_directory(target.parent)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    found = check(target)
    size = sum(path.stat().st_size for path in target.rglob("*") if path.is_file())
    return Backup(str(target), found.versions, found.jobs, found.blobs, size, found.damage)


def _copy(directory: Path, target: Path) -> None:
    for left in reversed(range(TRIES)):
        named = _snapshot(directory / DATABASE, target / DATABASE)
        copied = [_copy_blobs(directory / each, target / each, names) for each, names in named.items()]
        if all(copied) or not left:
            return


def _snapshot(source: Path, copy: Path) -> dict[str, set[str]]:
    """Copy the database as it is at one moment; the blobs that it names, by their folder."""
    copy.unlink(missing_ok=True)
    with database_errors(source), closing(look_into(source)) as connection:
        connection.execute("VACUUM INTO ?", (str(copy),))
    copy.chmod(0o600)
    with database_errors(copy), closing(look_into(copy)) as connection:
        return names_in(connection)


def _copy_blobs(source: Path, copy: Path, named: set[str]) -> bool:
    """Whether each of them was there."""
    copy.mkdir(mode=0o700, exist_ok=True)
    is_whole = True
    for sha256 in sorted(named):
        old, new = BlobStore(source).path(sha256), BlobStore(copy).path(sha256)
        new.parent.mkdir(mode=0o700, exist_ok=True)
        try:
            if not new.exists():
                second_name(old, new)
        except FileNotFoundError:
            is_whole = False
    return is_whole


def _sync(directory: Path) -> None:
    """Make it last: what is in the files, and their names."""
    for path in [directory, *directory.rglob("*")]:
        if path.is_dir():
            sync_directory(path)
        else:
            with path.open("rb") as file:
                os.fsync(file.fileno())
