"""The model versions that a process holds: a worker's, or those of a `ModelServer`."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch

from common.errors import InvalidRequest, LoadError, ModelNotFound
from common.wire import Load, VersionKey
from engine.cache import PredictionCache
from engine.execution import Execution
from engine.runtimes.formats import detect, load_runtime
from engine.runtimes.options import LoadOptions
from engine.runtimes.runtime import warm_up, warm_up_with
from engine.runtimes.source import Source

MAX_BATCH = 4096  # rows the sample network is given at once
NOTHING_ALLOWED = LoadOptions()


class CacheFigures(NamedTuple):
    """All caches together: what they hold now, and hits and misses since the worker started."""

    size: int
    capacity: int
    hits: int
    misses: int


class Registry:
    """Loaded versions by model and version. Thread-safe; loading never blocks what serves.

    Of each model one version is active: the one that `activate` named, else the one loaded last.
    """

    def __init__(
        self, *, device: torch.device, cache_size: int, allowed: LoadOptions = NOTHING_ALLOWED
    ) -> None:
        self.device = device
        self.cache_size = cache_size
        self._allowed = allowed  # what the operator lets models do: pickle, code, types
        # In the order they were loaded.
        self._loaded: dict[tuple[str, str], tuple[VersionKey, Execution]] = {}
        self._staged: dict[tuple[str, str], tuple[VersionKey, Execution]] = {}  # of what is in `_loaded` too
        self._loading: set[tuple[str, str]] = set()  # named by `reserve`
        self._activated: dict[str, str] = {}
        self._past_hits = 0  # of versions that were dropped
        self._past_misses = 0
        self._lock = threading.Lock()

    def load(
        self,
        key: VersionKey,
        source: Source,
        *,
        kind: str | None = None,
        options: LoadOptions = NOTHING_ALLOWED,
        max_batch: int = MAX_BATCH,
        cache: PredictionCache | None = None,
        device: torch.device | None = None,
        warmup_rows: int | Sequence[Sequence[float]] = 1,
        staged: bool = False,
    ) -> Execution:
        """Load, check and warm a version beside the others; `LoadError` says why it would not serve.

        A version that is held with the same key stays as it is; one without a sha256 is not known again. One
        that is `staged` takes the place of what is held only by a `commit`.
        `kind` is the model's format, None asks the file. `cache` is its own, one of `cache_size` by default.
        `warmup_rows` are run before it serves: so many rows of zeros, or these.
        """
        with self._lock:
            held = self._loaded.get((key.model, key.version))
            if held is not None and key.sha256 and held[0] == key:
                self._staged.pop((key.model, key.version), None)
                return held[1]
        runtime = load_runtime(source, kind, options, device or self.device)
        if not isinstance(warmup_rows, int):
            warm_up_with(runtime, warmup_rows)
        elif warmup_rows > 1:  # one is what every runtime begins with by itself
            warm_up(runtime, warmup_rows)
        execution = Execution(
            runtime, PredictionCache(self.cache_size) if cache is None else cache, max_batch=max_batch
        )
        name = key.model, key.version
        with self._lock:
            if staged and name in self._loaded:
                self._staged[name] = (key, execution)
            else:
                self._forget(*name)
                self._loaded[name] = (key, execution)
        return execution

    def load_version(self, load: Load, source: Source) -> Execution:
        """Load what a gateway asks for, as the model's settings and this process's operator say."""
        settings = load.settings
        options = replace(
            self._allowed,
            architecture=settings.architecture or None,
            arguments=settings.arguments,
            inputs=settings.signature or None,
        )
        size = self.cache_size if settings.cache_size is None else settings.cache_size
        return self.load(
            load.key,
            source,
            kind=settings.runtime or detect(source, load.file),
            options=options,
            max_batch=settings.max_batch,
            cache=PredictionCache(size, round_decimals=settings.round_decimals),
            device=self._device_of(settings.device),
            warmup_rows=settings.warmup_rows,
            staged=load.staged,
        )

    def _device_of(self, wanted: str | None) -> torch.device:
        """Where a model runs that says so, or says nothing; `LoadError` where there is no such device."""
        if wanted is None or wanted == "auto":
            return self.device
        if wanted.startswith("cuda") and not torch.cuda.is_available():
            raise LoadError(f"the model wants the device {wanted}, and torch finds no CUDA device here")
        return torch.device(wanted)

    def commit(self, model: str, version: str, settings: str) -> None:
        """What is staged of a version serves if it was loaded by settings of this digest, and goes if not."""
        with self._lock:
            staged = self._staged.get((model, version))
            if staged is not None and staged[0].settings == settings:
                self._forget(model, version)
                self._loaded[model, version] = staged
            self._staged.pop((model, version), None)

    def forget_staged(self) -> None:
        """Whoever had versions staged has gone."""
        with self._lock:
            self._staged.clear()

    def drop(self, model: str, version: str) -> None:
        """Forget a version; batches that run it now finish."""
        with self._lock:
            self._forget(model, version)
            if self._activated.get(model) == version:
                del self._activated[model]

    def _forget(self, model: str, version: str) -> None:
        self._staged.pop((model, version), None)
        held = self._loaded.pop((model, version), None)
        if held is not None:
            self._past_hits += held[1].cache.hits
            self._past_misses += held[1].cache.misses

    @contextlib.contextmanager
    def reserve(self, model: str, version: str | None) -> Iterator[str]:
        """A version's name, nobody else's while it is being loaded: the one given, or the next free of
        "1", "2", …. `InvalidRequest` where the one given is taken."""
        with self._lock:
            taken = {v for m, v in self._loaded.keys() | self._loading if m == model}
            if version is None:
                numbers = [int(v) for v in taken if len(v) < 10 and v.isascii() and v.isdecimal()]
                version = str(max(numbers, default=0) + 1)
            elif version in taken:
                raise InvalidRequest(
                    f"model {model!r} has a version {version!r}: unload it first, or name another"
                )
            self._loading.add((model, version))
        try:
            yield version
        finally:
            with self._lock:
                self._loading.discard((model, version))

    def get(self, model: str, version: str) -> Execution:
        """The execution of a loaded version; `ModelNotFound` where it is not held."""
        try:
            return self._loaded[model, version][1]
        except KeyError:
            raise ModelNotFound(f"this worker does not hold model {model!r} version {version!r}") from None

    def activate(self, model: str, version: str) -> None:
        """Make a loaded version the active one, until it is dropped; `ModelNotFound` where it is not held."""
        with self._lock:
            if (model, version) not in self._loaded:
                raise ModelNotFound(f"model {model!r} has no version {version!r} loaded")
            self._activated[model] = version

    def active(self, model: str) -> str | None:
        """The version that serves who names none; None where the model has no version."""
        with self._lock:
            newest = next((v for m, v in reversed(self._loaded) if m == model), None)
            return self._activated.get(model, newest)

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
