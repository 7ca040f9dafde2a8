"""The model versions that a worker holds."""

from __future__ import annotations

import threading
from typing import NamedTuple

import torch

from common.errors import NotFound
from common.wire import VersionKey
from engine.cache import PredictionCache
from engine.execution import Execution
from engine.runtimes.formats import load_runtime
from engine.runtimes.options import LoadOptions
from engine.runtimes.source import Source

DEFAULT_FORMAT = "torch"
DEFAULT_OPTIONS = LoadOptions(architecture="sample")
MAX_BATCH = 4096  # rows the sample network is given at once


class CacheFigures(NamedTuple):
    """All caches together: what they hold now, and hits and misses since the worker started."""

    size: int
    capacity: int
    hits: int
    misses: int


class Registry:
    """Loaded versions by model and version. Thread-safe; loading never blocks what serves."""

    def __init__(self, *, device: torch.device, cache_size: int) -> None:
        self.device = device
        self.cache_size = cache_size
        self._loaded: dict[tuple[str, str], tuple[VersionKey, Execution]] = {}
        self._past_hits = 0  # of versions that were dropped
        self._past_misses = 0
        self._lock = threading.Lock()

    def load(self, key: VersionKey, source: Source) -> None:
        """Load, check and warm a version beside the others; `LoadError` says why it would not serve."""
        with self._lock:
            held = self._loaded.get((key.model, key.version))
        if held is not None and held[0].sha256 == key.sha256:
            return
        runtime = load_runtime(source, DEFAULT_FORMAT, DEFAULT_OPTIONS, self.device)
        execution = Execution(runtime, PredictionCache(self.cache_size), max_batch=MAX_BATCH)
        with self._lock:
            self._forget(key.model, key.version)
            self._loaded[key.model, key.version] = (key, execution)

    def drop(self, model: str, version: str) -> None:
        """Forget a version; batches that run it now finish."""
        with self._lock:
            self._forget(model, version)

    def _forget(self, model: str, version: str) -> None:
        held = self._loaded.pop((model, version), None)
        if held is not None:
            self._past_hits += held[1].cache.hits
            self._past_misses += held[1].cache.misses

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

    def cache_figures(self) -> CacheFigures:
        """What the caches hold and did."""
        with self._lock:
            caches = [execution.cache for _, execution in self._loaded.values()]
            return CacheFigures(
                size=sum(map(len, caches)),
                capacity=sum(cache.capacity for cache in caches),
                hits=self._past_hits + sum(cache.hits for cache in caches),
                misses=self._past_misses + sum(cache.misses for cache in caches),
            )
