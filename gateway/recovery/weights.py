"""Whether the files of weights are what they were when they were stored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from common.errors import NotFound, StateError
from gateway.state.blobs import BlobStore, disk_errors
from gateway.state.state import State
from gateway.state.state_folder import what_to_do

MISSING, WRONG_SIZE, WRONG_BYTES = "blob_missing", "blob_size", "blob_sha256"

_SENTENCES = {
    MISSING: "is missing",
    WRONG_SIZE: "does not have the size that was stored",
    WRONG_BYTES: "does not have the sha256 that it is named for",
}


def damage_of(blobs: BlobStore, sha256: Any, size: int | None, *, reads: bool) -> str | None:
    """The word for what is wrong with a blob, None for nothing; only who `reads` it sees changed bytes."""
    try:
        path = blobs.path(sha256)
        with disk_errors(path):
            found = path.stat().st_size if path.exists() else None
        if found is None:
            return MISSING
        if size is not None and found != size:
            return WRONG_SIZE
        return WRONG_BYTES if reads and not blobs.verify(sha256) else None
    except (ValueError, TypeError, NotFound):  # its name is none; or it went this very moment
        return MISSING


def place_of(blobs: BlobStore, sha256: Any) -> Path:
    """Where a blob should be, whatever its name is."""
    return blobs.directory / str(sha256)[:2] / str(sha256)


def sentence(what: str) -> str:
    """What is wrong, behind the name of a file."""
    return _SENTENCES[what]


def check_weights(state: State, directory: Path) -> None:
    """`StateError` where a version's weights are gone, or where those of one that serves have changed.

    The others are not read, so that a start does not take longer the more is kept; a worker refuses what it
    is sent with another sha256.
    """
    serves = {record.key for record in [*state.all_active().values(), *state.all_serving()]}
    for record in state.all_versions():
        what = damage_of(state.blobs, record.sha256, record.size, reads=record.key in serves)
        if what is not None:
            named = f"{place_of(state.blobs, record.sha256)} (version {record.version} of {record.model})"
            raise StateError(f"{named} {sentence(what)}: {what_to_do(directory)}")
