"""Weights, and what jobs keep, as files named for what is in them: `ab/abcd…`, where the name is the sha256.

A file under its final name is whole and on the disk, also after a power cut: it is written under another
name, synced, renamed, and the folder synced. What a blob means is the business of gateway/state/state.py.
Everything here blocks: the gateway calls it in a thread. What the disk refuses is a `StateError`.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from common.errors import DiskFull, NotFound, StateError

_SHA256 = re.compile(r"[0-9a-f]{64}")
_TEMPORARY = ".tmp"
# Bytes after which the disk is told to begin, so that it writes while the next ones are hashed: 100 MB in
# 110 ms, where one fsync at the end takes 135 (measured; hashing alone takes 80).
_STRIDE = 8 << 20
_READ = 1 << 20
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class Blob:
    """A blob that is on the disk for good; `size` in bytes."""

    sha256: str
    size: int
    path: Path


class BlobStore:
    """A folder of blobs, each named by the sha256 of its bytes; equal bytes are kept once.

    Several threads may write, and even the same bytes at once; `sweep` must be alone.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @contextmanager
    def new(self) -> Iterator[BlobWriter]:
        """A blob to write. One that is left without `commit` never was, and leaves no file."""
        path = self.directory / f"{secrets.token_hex(8)}{_TEMPORARY}"
        with disk_errors(path):
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            yield BlobWriter(self, path, file)
        finally:
            os.close(file)
            path.unlink(missing_ok=True)

    def path(self, sha256: str) -> Path:
        """Where a blob is or would be; `ValueError` unless the name is 64 lower-case hex digits."""
        if not _SHA256.fullmatch(sha256):
            raise ValueError(f"a sha256 is 64 lower-case hex digits, not {sha256!r}")
        return self.directory / sha256[:2] / sha256

    def read(self, sha256: str, *, offset: int = 0, size: int = -1) -> bytes:
        """The bytes of a blob, or `size` of them from `offset` (fewer at its end); `NotFound` without it."""
        with self._open(sha256) as file:
            file.seek(offset)
            return file.read(size)

    def verify(self, sha256: str) -> bool:
        """Whether the bytes still have the digest that they are named for; `NotFound` without it."""
        digest = hashlib.sha256()
        buffer = memoryview(bytearray(_READ))
        with self._open(sha256) as file:
            while length := file.readinto(buffer):
                digest.update(buffer[:length])
        return digest.hexdigest() == sha256

    def remove(self, sha256: str) -> None:
        """Remove a blob that nobody names any more. Not there: nothing."""
        path = self.path(sha256)
        with disk_errors(path):
            path.unlink(missing_ok=True)

    def sweep(self, keep: Collection[str]) -> int:
        """Remove every blob not in `keep` and what unfinished writers left; how many files went.

        For the start of a gateway: it would take the file of a writer at work, and a blob that is committed
        but not yet referred to.
        """
        removed = 0
        with disk_errors(self.directory):
            for path in [*self.directory.glob(f"*{_TEMPORARY}"), *self.directory.glob("??/*")]:
                if path.name.endswith(_TEMPORARY) or (_SHA256.fullmatch(path.name) and path.name not in keep):
                    path.unlink()
                    removed += 1
            for shard in self.directory.glob("??"):
                with suppress(OSError):  # it is not empty
                    shard.rmdir()
        return removed

    @contextmanager
    def _open(self, sha256: str) -> Iterator[FileIO]:
        path = self.path(sha256)
        with disk_errors(path):
            try:
                file = path.open("rb", buffering=0)
            except FileNotFoundError:
                raise NotFound(f"there is no blob {sha256}") from None
            with file:
                yield file


class BlobWriter:
    """A blob that is being written; no longer writable once it is committed."""

    def __init__(self, store: BlobStore, path: Path, file: int) -> None:
        self._store = store
        self._path = path
        self._file = file
        self._digest = hashlib.sha256()
        self._size = 0
        self._blob: Blob | None = None

    @property
    def sha256(self) -> str:
        """The digest of what was written so far."""
        return self._digest.hexdigest()

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self._size

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append bytes; nothing is copied, and the interpreter is free while they are hashed and written."""
        if self._blob is not None:
            raise ValueError("a committed blob cannot be written to")
        view = memoryview(data).cast("B")
        for start in range(0, len(view), _STRIDE):
            self._append(view[start : start + _STRIDE])

    def commit(self) -> Blob:
        """Name the file for its bytes; when this returns it survives a power cut. Again: the same blob."""
        if self._blob is None:
            sha256 = self.sha256
            path = self._store.path(sha256)
            with disk_errors(path):
                os.fsync(self._file)
                path.parent.mkdir(mode=0o700, exist_ok=True)
                self._path.rename(path)
                sync_directory(path.parent)
                sync_directory(self._store.directory)
            self._blob = Blob(sha256, self._size, path)
        return self._blob

    def _append(self, view: memoryview) -> None:
        stride = self._size // _STRIDE
        with disk_errors(self._path):
            left = view
            while left:
                left = left[os.write(self._file, left) :]
            self._size += len(view)
            if self._size // _STRIDE > stride:
                # Of pages not yet written this begins the writing and keeps them; those that are clean it
                # drops, so it never names them twice.
                os.posix_fadvise(self._file, stride * _STRIDE, _STRIDE, os.POSIX_FADV_DONTNEED)
        self._digest.update(view)


def second_name(old: Path, new: Path) -> None:
    """Give a file another name; a copy, where that is elsewhere or the file system has no such thing."""
    try:
        os.link(old, new)
    except FileNotFoundError:
        raise
    except OSError:
        shutil.copy2(old, new)


def sync_directory(path: Path) -> None:
    """Make the names in a folder durable: a rename is on the disk only after this (fsync(2))."""
    file = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turns what the file system refuses into `StateError`."""
    try:
        yield
    except OSError as error:
        kind = DiskFull if error.errno in _FULL else StateError
        raise kind(f"{error.filename or path}: {error.strerror or error}") from error
