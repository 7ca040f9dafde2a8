"""Weights as a load finds them: in the survey, in chunks that came before, or in a file of the gateway's.

Nothing reads them before their sha256, and their signature where one is asked for, is what it should be.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from common import wire
from common.errors import LoadError
from common.signatures import TrustedKeys, split
from engine.runtimes.source import Source, open_source
from engine.staging import Staging

_DAMAGED = "the weights were damaged on the way: their sha256 differs"
_REMEMBERED = 256


class Receiving:
    """Thread-safe. With `trusted`, only files that one of these keys has signed."""

    def __init__(self, staging: Staging, trusted: TrustedKeys | None = None) -> None:
        self._staging = staging
        self._trusted = trusted
        self._files: dict[tuple[object, ...], str] = {}  # what was read whole once: its sha256
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def take(self, load: wire.Load, buffers: Sequence[memoryview]) -> Iterator[Source]:
        """The model's file, without its signature, for as long as the block takes. `LoadError` where it is
        not what was sent, or not signed as it has to be."""
        with contextlib.ExitStack() as stack:
            source: Source
            if buffers:
                source = bytes(buffers[0])
                if hashlib.sha256(source).hexdigest() != load.key.sha256:
                    raise LoadError(_DAMAGED)
            elif load.path:
                source = Path(load.path)
                if self._sha256(source) != load.key.sha256:
                    raise LoadError(_DAMAGED)
            else:
                source = stack.enter_context(self._staging.take(load.key.sha256, load.size))
            yield self._unsigned(source)

    def _sha256(self, path: Path) -> str:
        with open_source(path) as file:
            stat = os.fstat(file.fileno())
            name = (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
            with self._lock:
                found = self._files.get(name)
            if found is None:
                digest = hashlib.sha256()
                while block := file.read(1 << 20):
                    digest.update(block)
                found = digest.hexdigest()
                with self._lock:
                    self._files[name] = found
                    if len(self._files) > _REMEMBERED:
                        del self._files[next(iter(self._files))]
        return found

    def _unsigned(self, source: Source) -> Source:
        with open_source(source) as file:
            signed = split(file)
            if self._trusted is not None:
                self._trusted.check(signed)
            if signed.signature is None:
                return source
            file.seek(0)
            return file.read(signed.size)
