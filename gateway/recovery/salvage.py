"""Takes out of a damaged database whatever can still be read.

A copy of it is read, with the log beside it, so the original stays as it was found.
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

# Each table before those that refer to it.
TABLES = ("versions", "models", "activations", "experiments", "arms", "jobs", "chunks", "kept")
# A page that cannot be read hides dozens of rows, one above others hundreds: so far we look behind it.
_GAP = 20_000


class Table(NamedTuple):
    """What was read of one table; `is_whole` unless some of it could not be."""

    name: str
    columns: list[str]
    rows: list[tuple[Any, ...]]
    is_whole: bool


def salvage(path: Path) -> list[Table]:
    """Every table of the state, as far as it can be read; nothing at all of what is no database."""
    with _copy_of(path) as copy:
        try:
            with closing(sqlite3.connect(copy, isolation_level=None)) as connection:
                # SQLite gives up where a page is missing that the header counts, unless told that we know.
                connection.execute("PRAGMA writable_schema = ON")
                return [_table(connection, name) for name in TABLES]
        except sqlite3.Error:
            return [Table(name, [], [], is_whole=False) for name in TABLES]


@contextmanager
def _copy_of(path: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="pipeline-") as directory:
        for name in (path.name, f"{path.name}-wal"):
            with suppress(FileNotFoundError):
                shutil.copyfile(path.with_name(name), Path(directory) / name)
        yield Path(directory) / path.name


def _table(connection: sqlite3.Connection, name: str) -> Table:
    try:
        columns = [row[1] for row in connection.execute(f"PRAGMA table_info({name})")]
        known = connection.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (name,)).fetchone()
    except sqlite3.Error:
        return Table(name, [], [], is_whole=False)
    if not columns:  # a release before this one had none, or the schema is what is damaged
        return Table(name, [], [], is_whole=known is None and name != TABLES[0])
    rows, is_whole = _rows(connection, name)
    return Table(name, columns, rows, is_whole)


def _rows(connection: sqlite3.Connection, table: str) -> tuple[list[tuple[Any, ...]], bool]:
    """Row by row in the order of their ids; behind one that cannot be read, the next that can."""
    rows: list[tuple[Any, ...]] = []
    is_whole, after, left = True, 0, _GAP
    query = f"SELECT rowid, * FROM {table} NOT INDEXED WHERE rowid > ? ORDER BY rowid"  # nosec B608  # our own name
    while left:
        try:
            for rowid, *row in connection.execute(query, (after,)):
                if rowid <= after:  # pages that lead back to each other
                    raise sqlite3.DatabaseError("ids go back")
                rows.append(tuple(row))
                after = rowid
            break
        except sqlite3.Error:
            is_whole = False
            after += 1
            left -= 1
    return rows, is_whole
