"""Weights on their way to becoming a version: they arrive in chunks, and wait in a nameless file."""

from __future__ import annotations

import contextlib
import hashlib
import re
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from common.errors import LoadError

_DIGEST = re.compile(r"[0-9a-f]{64}\Z")


class Staging:
    """Thread-safe. Invariant: at most one set of weights is on its way, in a file that has no name, so that
    nothing is left on the disk however this process ends."""

    def __init__(self) -> None:
        self._sha256 = ""
        self._file: BinaryIO | None = None
        self._lock = threading.Lock()

    def store(self, sha256: str, size: int, offset: int, data: memoryview) -> int:
        """Append a chunk of the weights `sha256`, `size` bytes in all; how many bytes are there now.

        Offset 0 begins anew, and forgets other weights that never became whole. A chunk at any other offset
        than the end, or one that is too long, changes nothing: the sender goes on from what the answer says.
        `LoadError` when the file cannot be written.
        """
        if not _DIGEST.match(sha256):
            raise LoadError(f"a digest is 64 hex digits, not {sha256[:80]!r}")
        fits = 0 <= offset <= size - len(data)
        with self._lock:
            if offset == 0 and fits:
                self._forget()
                self._file, self._sha256 = tempfile.TemporaryFile(), sha256  # noqa: SIM115 - until taken
            if self._file is None or self._sha256 != sha256:
                return 0
            if fits and self._file.tell() == offset:
                self._append(self._file, data)
            return self._file.tell()

    def _append(self, file: BinaryIO, data: memoryview) -> None:
        try:
            file.write(data)
            file.flush()
        except OSError as error:
            self._forget()
            raise LoadError(f"the weights cannot be stored: {error.strerror}") from error

    @contextlib.contextmanager
    def take(self, sha256: str, size: int) -> Iterator[Path]:
        """The complete file, checked against its digest; gone afterwards (a mapping of it lives on)."""
        with self._lock:
            file = self._file if self._sha256 == sha256 else None
            if file is not None:
                self._file, self._sha256 = None, ""
        if file is None:
            raise LoadError("the weights did not arrive")
        with file:
            if file.tell() != size:
                raise LoadError(f"the weights did not arrive whole: {file.tell()} of {size} bytes")
            if _digest(file) != sha256:
                raise LoadError("the weights were damaged on the way: their sha256 differs")
            yield Path(f"/proc/self/fd/{file.fileno()}")

    def close(self) -> None:
        """Forget whatever is on its way."""
        with self._lock:
            self._forget()

    def _forget(self) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):  # what a full disk could not take cannot be flushed either
                self._file.close()
        self._file, self._sha256 = None, ""


def _digest(file: BinaryIO) -> str:
    file.seek(0)
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()
