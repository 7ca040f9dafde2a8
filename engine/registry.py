"""The model versions that a worker holds, and the weights on their way to becoming one."""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import torch

from common.errors import LoadError, NotFound
from common.wire import VersionKey
from engine.cache import PredictionCache
from engine.execution import Execution
from engine.runtimes import torch_state

DEFAULT_ARCHITECTURE = "sample"
MAX_BATCH = 4096  # rows the sample network is given at once


class Registry:
    """Loaded versions by model and version. Thread-safe; loading never blocks what serves."""

    def __init__(self, *, device: torch.device, cache_size: int) -> None:
        self.device = device
        self.cache_size = cache_size
        self._loaded: dict[tuple[str, str], tuple[VersionKey, Execution]] = {}
        self._lock = threading.Lock()

    def load(self, key: VersionKey, source: torch_state.Source) -> None:
        """Load, check and warm a version beside the others; `LoadError` says why it would not serve."""
        with self._lock:
            held = self._loaded.get((key.model, key.version))
        if held is not None and held[0].sha256 == key.sha256:
            return
        runtime = torch_state.load(source, DEFAULT_ARCHITECTURE, self.device)
        execution = Execution(runtime, PredictionCache(self.cache_size), max_batch=MAX_BATCH)
        with self._lock:
            self._loaded[key.model, key.version] = (key, execution)

    def drop(self, model: str, version: str) -> None:
        """Forget a version; batches that run it now finish."""
        with self._lock:
            self._loaded.pop((model, version), None)

    def get(self, model: str, version: str) -> Execution:
        """The execution of a loaded version; `NotFound` where it is not held."""
        try:
            return self._loaded[model, version][1]
        except KeyError:
            raise NotFound(f"this worker does not hold model {model!r} version {version!r}") from None

    def versions(self) -> list[VersionKey]:
        """Everything held now."""
        with self._lock:
            return [key for key, _ in self._loaded.values()]

    def caches(self) -> list[PredictionCache]:
        """The cache of every version held now."""
        with self._lock:
            return [execution.cache for _, execution in self._loaded.values()]


class Staging:
    """Weights that arrive in chunks, each in a temporary file until they are loaded or forgotten."""

    def __init__(self) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="pipeline-weights-")
        self._lock = threading.Lock()

    def store(self, sha256: str, size: int, offset: int, data: memoryview) -> int:
        """Append a chunk; how many bytes are there now. A chunk at another offset changes nothing, so
        that a sender which was cut off may start again from what the answer says."""
        path = self._path(sha256)
        with self._lock, path.open("ab") as file:
            if file.tell() == offset and offset + len(data) <= size:
                file.write(data)
            elif offset == 0:
                file.truncate(0)
                file.write(data)
            return file.tell()

    @contextlib.contextmanager
    def take(self, sha256: str, size: int) -> Iterator[Path]:
        """The complete file, checked against its digest, removed afterwards (a mapping of it lives on)."""
        path = self._path(sha256)
        try:
            if not path.exists() or path.stat().st_size != size:
                raise LoadError("the weights did not arrive whole")
            with path.open("rb") as file:
                if _digest(file) != sha256:
                    raise LoadError("the weights were damaged on the way: their sha256 differs")
            yield path
        finally:
            path.unlink(missing_ok=True)

    def close(self) -> None:
        """Remove whatever is left."""
        self._directory.cleanup()

    def _path(self, sha256: str) -> Path:
        if len(sha256) != 64 or not set(sha256) <= set("0123456789abcdef"):
            raise LoadError(f"a digest is 64 hex digits, not {sha256[:80]!r}")
        return Path(self._directory.name) / sha256


def _digest(file: BinaryIO) -> str:
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()
