"""Files of batch jobs: on this machine below one folder, or in S3. Everything here blocks.

A file is read in order from any byte on. One that is written is there under its name whole, or not at all:
a local one is renamed once it is on the disk, an upload to S3 in parts is completed at its end.
"""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple
from urllib.parse import unquote, urlsplit

from common.errors import CallerError, InvalidRequest
from gateway.state.blobs import sync_directory

EXTRA = "pip install 'pipeline-inference[jobs]'"
_READ = 1 << 20
_PART = 8 << 20  # bytes of a part of an upload; S3 takes at least 5 MiB
_TIMES = {"connect_timeout": 10, "read_timeout": 30, "retries": {"max_attempts": 5, "mode": "standard"}}


class StorageError(CallerError):
    """Raised when a file of a batch job cannot be read or written as things are; later it may."""

    code = "storage"


class Facts(NamedTuple):
    """A file as it is now: `stamp` changes when its bytes do."""

    size: int
    stamp: str


class Storage:
    """`root` is the folder that local files have to be below; None: there are none."""

    def __init__(self, root: Path | None) -> None:
        self._root = root

    def facts(self, url: str) -> Facts:
        """What a file to read is like; `InvalidRequest` where it may not be read, `StorageError`."""
        with _foreign_errors(url):
            if (path := self._path(url)) is not None:
                found = path.stat()
                _check_plain(found.st_mode, url)
                return Facts(found.st_size, f"{found.st_ino}-{found.st_mtime_ns}")
            info = _s3().info(_object(url), refresh=True)
            if info["type"] != "file":
                raise InvalidRequest(f"{url} is not an object")
            return Facts(info["size"], str(info.get("ETag") or info.get("LastModified")))

    def check_writable(self, url: str) -> None:
        """`InvalidRequest` for where nothing may be written."""
        path = self._path(url)
        if path is None:
            _object(url)
        elif not path.parent.is_dir():
            raise InvalidRequest(f"{url}: there is no folder of that name to write it to")
        elif path.is_dir():
            raise InvalidRequest(f"{url} is a folder: give the name of a file")

    @contextmanager
    def reading(self, url: str) -> Iterator[BinaryIO]:
        """An open file."""
        with _foreign_errors(url):
            if (path := self._path(url)) is not None:
                # Not to wait for a writer, should it have become a pipe since it was looked at.
                opened = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
                with os.fdopen(opened, "rb") as file:
                    _check_plain(os.fstat(opened).st_mode, url)
                    yield file
            else:
                raw = _s3().open(_object(url), "rb", block_size=_READ, cache_type="readahead")
                with io.BufferedReader(raw, _READ) as buffered:  # whose lines can be bounded
                    yield buffered

    @contextmanager
    def replacing(self, url: str, mark: str) -> Iterator[BinaryIO]:
        """A file to write, which takes its name's place when the block ends, and leaves nothing when it
        fails. `mark` tells it from what others write there."""
        with _foreign_errors(url):
            if (path := self._path(url)) is None:
                file: Any = _s3().open(_object(url), "wb", block_size=_PART, autocommit=False)
                try:
                    yield file
                    file.close()
                    file.commit()
                except BaseException:
                    with suppress(Exception):
                        file.discard()
                    raise
                return
            unfinished = path.with_name(f".{path.name}.{mark}.part")
            try:
                with unfinished.open("wb") as local:
                    yield local
                    local.flush()
                    os.fsync(local.fileno())
                unfinished.rename(path)
                sync_directory(path.parent)
            finally:
                unfinished.unlink(missing_ok=True)

    def _path(self, url: str) -> Path | None:
        """Where a local file is, with every link followed; None for one that is not local."""
        parts = urlsplit(url)
        if parts.scheme == "s3":
            return None
        if parts.scheme != "file" or parts.netloc not in ("", "localhost"):
            raise InvalidRequest(f"{url!r} should begin with file:/// or s3://")
        if self._root is None:
            raise InvalidRequest("this gateway reads and writes no local files: start it with --batch_root")
        root, asked = self._root.resolve(), unquote(parts.path)
        if "\0" in asked:
            raise InvalidRequest("a path holds no zero byte")
        path = Path(asked).resolve()
        if root not in path.parents:
            raise InvalidRequest(f"{url} is not below the folder that --batch_root names")
        return path


def _check_plain(mode: int, url: str) -> None:
    if not stat.S_ISREG(mode):
        raise InvalidRequest(f"{url} is not a plain file")


def _object(url: str) -> str:
    parts = urlsplit(url)
    if not parts.netloc or not parts.path.strip("/"):
        raise InvalidRequest(f"{url!r} should be s3:// with a bucket and a key")
    return url.removeprefix("s3://")


def _s3() -> Any:
    try:
        import s3fs
    except ImportError:
        raise InvalidRequest(f"s3:// takes the extra jobs on the gateway: {EXTRA}") from None
    return s3fs.S3FileSystem(config_kwargs=_TIMES, use_listings_cache=False)


@contextmanager
def _foreign_errors(url: str) -> Iterator[None]:
    """The one place that knows what files and S3 raise."""
    try:
        yield
    except CallerError:
        raise
    except FileNotFoundError:
        raise StorageError(f"{url} is not there") from None
    except PermissionError as error:
        raise StorageError(f"{url} may not be read or written: {error.strerror or error}") from None
    except OSError as error:
        raise StorageError(f"{url}: {error.strerror or error}") from error
    except Exception as error:
        if type(error).__module__.partition(".")[0] in ("botocore", "aiobotocore", "aiohttp", "fsspec"):
            raise StorageError(f"{url}: {error}") from error
        raise
