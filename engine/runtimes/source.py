"""Where a model comes from: bytes that came over a link, or a file on this machine."""

from __future__ import annotations

import io
from pathlib import Path
from typing import IO

from common.errors import LoadError

Source = bytes | bytearray | memoryview | Path


def open_source(source: Source) -> IO[bytes]:
    """A file to read from its first byte; `LoadError` where it cannot be opened or holds nothing."""
    try:
        file: IO[bytes] = source.open("rb") if isinstance(source, Path) else io.BytesIO(source)
    except OSError as error:
        raise LoadError(f"the weights cannot be read: {error.strerror}") from error
    if file.read(1):
        file.seek(0)
        return file
    file.close()
    raise LoadError("the file is empty")


def read_source(source: Source) -> bytes:
    """All of it; `LoadError` as `open_source`."""
    with open_source(source) as file:
        return file.read()


def source_size(source: Source) -> int:
    """Bytes it holds; `LoadError` as `open_source`."""
    with open_source(source) as file:
        return file.seek(0, io.SEEK_END)
