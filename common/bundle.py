"""A model and the files that it needs beside it (a tokenizer, say), as one file: a tar archive, not
compressed, whose entries lie in no folder and of which exactly one is called `model.*`.

So they are uploaded, stored, sent and checked together. Made of the same files it has the same bytes.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from typing import IO, NamedTuple

from common.errors import LoadError

_PIECE = 4 << 20
_MAGIC_AT, _MAGIC = 257, b"ustar"
_MOST_FILES = 64
_LARGEST_COMPANION = 64 << 20


class Bundle(NamedTuple):
    """What a bundle holds: what the model's file is called, where it lies, and the others whole."""

    name: str
    offset: int
    size: int
    files: Mapping[str, bytes]


def pack_bundle(files: Iterable[tuple[str, IO[bytes]]]) -> Iterator[bytes]:
    """The bytes of a bundle, piece by piece, of names and open files."""
    for name, file in files:
        entry = tarfile.TarInfo(name)
        entry.size = file.seek(0, io.SEEK_END)
        file.seek(0)
        yield entry.tobuf(tarfile.USTAR_FORMAT)
        left = entry.size
        while left:
            piece = file.read(min(left, _PIECE))
            if not piece:
                raise OSError(f"{name} became shorter while it was read")
            left -= len(piece)
            yield piece
        yield bytes(-entry.size % tarfile.BLOCKSIZE)
    yield bytes(2 * tarfile.BLOCKSIZE)


def is_bundle(file: IO[bytes]) -> bool:
    """Whether a file is a tar archive, which no model's own file is."""
    file.seek(_MAGIC_AT)
    found = file.read(len(_MAGIC)) == _MAGIC
    file.seek(0)
    return found


def read_bundle(file: IO[bytes]) -> Bundle:
    """What is in a bundle; `LoadError` says what is wrong with it."""
    try:
        with tarfile.open(fileobj=file, mode="r:") as archive:
            entries = [entry for entry in archive if entry.isfile() and not _is_hidden(entry.name)]
            if len(entries) > _MOST_FILES:
                raise LoadError(f"the archive holds {len(entries)} files: at most {_MOST_FILES} are allowed")
            models = [entry for entry in entries if _name(entry).startswith("model.")]
            if len(models) != 1:
                names = ", ".join(_name(entry) for entry in entries) or "nothing"
                raise LoadError(f"an archive has exactly one file called model.*, and this one holds {names}")
            (model,) = models
            files = {_name(entry): _read(archive, entry) for entry in entries if entry is not model}
    except (tarfile.TarError, EOFError, ValueError, OSError) as error:
        raise LoadError(f"the archive cannot be read: {error}") from error
    return Bundle(_name(model), model.offset_data, model.size, files)


def _name(entry: tarfile.TarInfo) -> str:
    return entry.name.removeprefix("./")


def _is_hidden(name: str) -> bool:
    """What some systems put beside each file, and what lies in folders."""
    bare = name.removeprefix("./")
    return bare.startswith(".") or "/" in bare


def _read(archive: tarfile.TarFile, entry: tarfile.TarInfo) -> bytes:
    if entry.size > _LARGEST_COMPANION:
        raise LoadError(
            f"{_name(entry)} has {entry.size} bytes: a file beside a model has at most {_LARGEST_COMPANION}"
        )
    file = archive.extractfile(entry)
    data = file.read() if file is not None else b""
    if len(data) != entry.size:
        raise LoadError(f"the archive ends within {_name(entry)}")
    return data
