"""Zip archives of which nobody knows who made them: what they would unpack to is bounded first."""

from __future__ import annotations

import io
import zipfile
from typing import IO

from common.errors import LoadError

MOST_ENTRIES = 32_768  # a model of so many tensors has yet to be seen, and each costs a reader time
_SPARE, _FACTOR = 64 << 20, 100  # of zeros deflate makes a thousandth, of weights hardly less than they are


def check_archive(file: IO[bytes]) -> list[zipfile.ZipInfo]:
    """The archive's entries; `LoadError` where there are too many, or they unpack to far more than it is.

    What zipfile raises for what is no archive goes through. The file is at its beginning afterwards.
    """
    size = file.seek(0, io.SEEK_END)
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
    file.seek(0)
    if len(entries) > MOST_ENTRIES:
        raise LoadError(f"the archive holds {len(entries)} files: at most {MOST_ENTRIES} are allowed")
    unpacked = sum(entry.file_size for entry in entries)
    if unpacked > _SPARE + _FACTOR * size:
        raise LoadError(
            f"the archive of {size} bytes would unpack to {unpacked}, which is more than any model does"
        )
    return entries
