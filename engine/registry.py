"""The model versions that a process holds: a worker's, or those of a `ModelServer`."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import torch

from common.errors import InvalidRequest, LoadError, ModelNotFound
from common.log import event
from common.wire import Load, VersionKey
from engine.budget import Tenant
from engine.bundles import unpack
from engine.cache import CacheFigures, PredictionCache
from engine.execution import Execution
from engine.loading import Loader, Wanted
from engine.room import Room
from engine.runtimes.formats import detect
from engine.runtimes.options import LoadOptions
from engine.runtimes.runtime import Runtime
from engine.runtimes.source import Source
from engine.typed import make_typed

log = logging.getLogger("pipeline.worker")

MAX_BATCH = 4096  # rows the sample network is given at once
NOTHING_ALLOWED = LoadOptions()

_Name = tuple[str, str]  # of the model, and of the version


class _Held(NamedTuple):
    """A loaded version, and the room that it takes."""

    key: VersionKey
    execution: Execution
    tenant: Tenant


class Registry:
    """Loaded versions by model and version. Thread-safe; loading never blocks what serves.

    Of each model one version is active: the one that `activate` named, else the one loaded last. Within a
    `memory_limit` (bytes; None: there is none) versions that are not in use make room for new ones.
    """

    def __init__(
        self,
        *,
        device: torch.device,
        cache_size: int,
        allowed: LoadOptions = NOTHING_ALLOWED,
        memory_limit: int | None = None,
    ) -> None:
        self.device = device
        self.cache_size = cache_size
        self.room = Room(memory_limit, self._evict)
        self._loader = Loader(self.room)
        self._allowed = allowed  # what the operator lets models do: pickle, code, types
        # In the order they were loaded.
        self._loaded: dict[_Name, _Held] = {}
        self._staged: dict[_Name, _Held] = {}  # they may take the place of what is loaded
        self._evicted: list[VersionKey] = []  # since `take_evicted`
        self._loading: set[tuple[str, str]] = set()  # named by `reserve`
        self._activated: dict[str, str] = {}
        self._past = CacheFigures()  # of versions that were dropped
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
        finish: Callable[[Runtime], Runtime] = lambda runtime: runtime,
    ) -> Execution:
        """Load, check and warm a version beside the others; `LoadError` says why it would not serve.

        A version that is held with the same key stays as it is; one without a sha256 is not known again. One
        that is `staged` serves only after a `commit`; until then what is held of it serves on.
        For `kind`, `warmup_rows` and `finish` see `Wanted`. `cache` is its own, by default one of
        `cache_size`.
        """
        name = key.model, key.version
        wanted = Wanted(source, kind, options, device or self.device, warmup_rows, finish)
        with self.room.turn:
            if staged:
                with self._lock:
                    self._unstage(name)
            held = self._held(*name)
            if held is not None and key.sha256 and held.key == key:
                return held.execution
            beside = held.tenant if held is not None else None
            with self._loader.load(key, wanted, staged=staged, beside=beside) as (runtime, tenant):
                execution = Execution(
                    runtime, PredictionCache(self.cache_size) if cache is None else cache, max_batch=max_batch
                )
                with self._lock:
                    if not staged:
                        self._forget(name)
                    (self._staged if staged else self._loaded)[name] = _Held(key, execution, tenant)
        return execution

    def load_version(self, load: Load, source: Source) -> Execution:
        """Load what a gateway asks for, as the model's settings and this process's operator say."""
        settings = load.settings
        source, name, files = unpack(source, load.file)
        options = replace(
            self._allowed,
            architecture=settings.architecture or None,
            arguments=settings.arguments,
            inputs=settings.model_signature or None,
        )
        size = self.cache_size if settings.cache_size is None else settings.cache_size
        return self.load(
            load.key,
            source,
            kind=settings.runtime or detect(source, name),
            options=options,
            max_batch=settings.max_batch,
            cache=PredictionCache(size, round_decimals=settings.round_decimals),
            device=self._device_of(settings.device),
            warmup_rows=settings.warmup_rows,
            staged=load.staged,
            finish=partial(make_typed, settings=settings, files=files),
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
        name = model, version
        with self._lock:
            staged = self._staged.get(name)
            if staged is None or staged.key.settings != settings:
                self._unstage(name)
                return
            self._forget(name)
            self._loaded[name] = self._staged.pop(name)
            self.room.settle(staged.tenant)

    def forget_staged(self) -> None:
        """Whoever had versions staged has gone."""
        with self._lock:
            for name in list(self._staged):
                self._unstage(name)

    def drop(self, model: str, version: str) -> None:
        """Forget a version; batches that run it now finish."""
        with self._lock:
            self._unstage((model, version))
            self._forget((model, version))
            self._loader.forget(model, version)
            if self._activated.get(model) == version:
                del self._activated[model]

    def _unstage(self, name: _Name) -> None:
        staged = self._staged.pop(name, None)
        if staged is not None:
            self.room.drop(staged.tenant)

    def _forget(self, name: _Name) -> None:
        held = self._loaded.pop(name, None)
        if held is not None:
            self.room.drop(held.tenant)
            self._past = self._past.plus(held.execution.cache.figures().of_past())

    def _evict(self, tenants: list[Tenant]) -> None:
        with self._lock:
            for held in [held for held in self._loaded.values() if held.tenant in tenants]:
                self._forget((held.key.model, held.key.version))
                self._evicted.append(held.key)
                event(log, logging.INFO, "version evicted", model=held.key.model, version=held.key.version)

    def take_evicted(self) -> list[VersionKey]:
        """What made room for others since this was asked last, and was not loaded again."""
        with self._lock:
            evicted, self._evicted = self._evicted, []
            return [key for key in evicted if (key.model, key.version) not in self._loaded]

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
        held = self._held(model, version)
        if held is None:
            raise _not_held(model, version)
        return held.execution

    @contextlib.contextmanager
    def use(self, model: str, version: str) -> Iterator[Execution]:
        """The same; it is not evicted meanwhile."""
        held = self._held(model, version)
        if held is None or not self.room.take(held.tenant):
            raise _not_held(model, version)
        try:
            yield held.execution
        finally:
            self.room.give_back(held.tenant)

    def keep(self, model: str, version: str) -> None:
        """Somebody waits for a version and is about to use it: for a moment it makes no room for others."""
        held = self._held(model, version)
        if held is not None:
            self.room.keep(held.tenant)

    def _held(self, model: str, version: str) -> _Held | None:
        return self._loaded.get((model, version))

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
            return [held.key for held in self._loaded.values()]

    def cache_figures(self) -> CacheFigures:
        """What the caches hold and did."""
        with self._lock:
            figures = self._past
            for held in self._loaded.values():
                figures = figures.plus(held.execution.cache.figures())
            return figures


def _not_held(model: str, version: str) -> ModelNotFound:
    return ModelNotFound(f"this worker does not hold model {model!r} version {version!r}")
