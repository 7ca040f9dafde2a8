"""ModelServer: models loaded and asked in this process, without any network.

    with ModelServer() as server:
        server.load_model("adder", "adder.pt")
        server.predict("adder", [0.3, 0.7])     # 1.0000178813934326

Callers' threads run the models themselves, several callers' rows together (see `combining`); only
`predict_async` needs threads of the server. What features and predictions are is said in `features`.
"""

from __future__ import annotations

import dataclasses
import threading
import time
import uuid
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from common.errors import Draining, ModelNotFound, NotRunning, PipelineError
from common.models import DEFAULTS, ModelSettings
from common.wire import VersionKey
from engine.background import Background
from engine.features import Prediction
from engine.futures import Callback, PredictionFuture
from engine.metrics import Metrics
from engine.options import CACHE_BYTES, CACHE_SIZE, ServingOptions
from engine.registry import Registry
from engine.routes import Routes
from engine.runtimes.options import LoadOptions
from engine.runtimes.source import Source
from engine.runtimes.torch_state import choose_device
from engine.serving import Serving
from engine.turns import Answers
from engine.typed import make_typed

THREADS = 8  # that run what `predict_async` asks for, and its callbacks: so many slow models at once
_LOAD_OPTIONS = frozenset(field.name for field in dataclasses.fields(LoadOptions))


class ModelServer:
    """Thread-safe. Models may be loaded at any time; predictions are made between `start` and `stop`.

    What is given here is the default of every model, `load_model` may say otherwise for one (`ServingOptions`
    says what each is). `device`: `cpu`, `cuda`, or `auto`, which is cuda where there is one.
    """

    def __init__(
        self,
        batch_size: int = 32,
        max_wait_time: float = 0.0,
        max_queue_size: int = 1000,
        *,
        cache_size: int = CACHE_SIZE,
        cache_bytes: int | None = CACHE_BYTES,
        round_decimals: int | None = None,
        device: str = "auto",
    ) -> None:
        self._defaults = ServingOptions(
            batch_size, max_wait_time, max_queue_size, cache_size, cache_bytes, round_decimals
        )
        self._registry = Registry(device=choose_device(device), cache_size=cache_size)
        self._lock = threading.Lock()
        self._routes = Routes(self._registry)
        self._past = Metrics()  # of versions that were unloaded
        self._background: Background | None = None
        self._started = 0.0
        self._uptime = 0.0  # of earlier starts
        self._status = "stopped"

    # --- starting and stopping

    def start(self) -> None:
        """Let predictions in. Nothing happens where it is started already."""
        with self._lock:
            if self._status != "stopped":
                return
            self._background = Background(THREADS)
            self._started = time.monotonic()
            self._status = "running"
            for serving in self._routes.loaded().values():
                serving.turns.open()

    def stop(self, timeout: float = 30.0) -> None:
        """Refuse what comes, answer what waits and wait for callbacks, at most `timeout` seconds; what still
        waits then fails with `Draining`. Models stay loaded, and `start` goes on with them."""
        with self._lock:
            if self._status != "running":
                return
            self._status = "stopping"
            self._uptime += time.monotonic() - self._started
            servings = self._routes.loaded().values()
            background = self._background
        end = time.monotonic() + timeout
        for serving in servings:  # all of them first: none is to serve on while another is waited for
            serving.turns.close(_not_running)
        for serving in servings:
            serving.turns.finish(end, Draining("the model server was stopped before this was run"))
        if background is not None:
            background.close(end - time.monotonic())
        with self._lock:
            self._background = None
            self._status = "stopped"

    def __enter__(self) -> ModelServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # --- models

    def load_model(
        self,
        model_id: str,
        model_path: str | Path | bytes,
        model_type: str | None = None,
        version: str | None = None,
        *,
        settings: ModelSettings = DEFAULTS,
        files: Mapping[str, bytes] = MappingProxyType({}),
        **options: Any,
    ) -> str:
        """Load a version of a model beside those that serve, and return its name.

        `model_path`: a file, or the bytes of one. `model_type`: its format (see `runtimes.formats`), None
        finds it from the file. `version`: None is the next free of "1", "2", …. Of `settings` counts what
        rows and answers are (images, say, and probabilities); `files` are those that the model needs beside
        its own, by name. `options`: those of `LoadOptions` and `ServingOptions`, for this version alone;
        `TypeError` for another.

        Raises `LoadError` where it would not serve, `InvalidRequest` where the version is there already.
        """
        if not model_id:
            raise ValueError("a model needs a name that is not empty")
        for_loading = {name: options.pop(name) for name in _LOAD_OPTIONS & options.keys()}
        serving_options = self._defaults.replaced(options)
        source: Source = Path(model_path) if isinstance(model_path, str) else model_path
        with self._registry.reserve(model_id, version) as name:
            execution = self._registry.load(
                VersionKey(model_id, name, ""),
                source,
                kind=model_type,
                options=LoadOptions(**for_loading),
                max_batch=serving_options.batch_size,
                cache=serving_options.make_cache(),
                finish=partial(make_typed, settings=settings, files=files),
            )
            with self._lock:
                serving = Serving(
                    execution,
                    serving_options.make_queue(),
                    in_background=self._in_background,
                    refuse_with=None if self._status == "running" else _not_running,
                )
                self._routes.add(model_id, name, serving)
        return name

    def unload_model(self, model_id: str, version: str | None = None, timeout: float = 30.0) -> None:
        """Forget a version, or all of a model, once what waits for it is answered; what still waits after
        `timeout` seconds fails with `Draining`. `ModelNotFound` where it is not loaded."""
        with self._lock:
            servings = self._routes.remove(model_id, version)
        end = time.monotonic() + timeout
        gone = partial(ModelNotFound, f"model {model_id!r} is being unloaded")
        for serving in servings:
            serving.turns.close(gone)
        for serving in servings:
            serving.turns.finish(end, Draining(f"model {model_id!r} was unloaded before this was run"))
            with self._lock:
                self._routes.leaving.remove(serving)
                serving.add_metrics(self._past)

    def activate(self, model_id: str, version: str) -> None:
        """Make a version the one that answers who names none, until it is unloaded; before that it is the one
        loaded last. `ModelNotFound` where it is not loaded."""
        with self._lock:
            self._registry.activate(model_id, version)
            self._routes.follow(model_id)

    def models(self) -> dict[str, list[str]]:
        """The loaded versions of each model, in the order they were loaded."""
        found: dict[str, list[str]] = {}
        for key in self._registry.versions():
            found.setdefault(key.model, []).append(key.version)
        return found

    # --- predictions

    def predict(
        self,
        model_id: str,
        features: Any,
        version: str | None = None,
        request_id: str | None = None,
        *,
        timeout: float | None = None,
    ) -> Prediction:
        """One row's prediction (`features` says what both are), made in this thread.

        Waits at most `timeout` seconds for other batches, None for ever. Raises, with `request_id`:
        `InvalidRequest` for features that do not fit, `ModelNotFound`, `QueueFull` and `NotRunning` at once,
        `ModelError` with the text of the stack trace where the model failed on this row,
        `DeadlineExceeded`, and `Draining` where the server was stopped or the model unloaded meanwhile.
        """
        try:
            return self._routes.find(model_id, version).predict(features, timeout)
        except PipelineError as error:
            error.request_id = request_id
            raise

    def predict_batch(
        self, model_id: str, rows: Any, version: str | None = None, *, timeout: float | None = None
    ) -> Answers:
        """Each row's prediction, in order: `rows` is a sequence of features, or an array of shape
        `(n, *row_shape)`. A row that fails has its error (a `PipelineError`) in its place, the others their
        predictions. Raises `ModelNotFound`, `QueueFull` and `NotRunning` as `predict` does."""
        return self._routes.find(model_id, version).predict_batch(rows, timeout)

    def predict_async(
        self,
        model_id: str,
        features: Any,
        callback: Callback | None = None,
        version: str | None = None,
        request_id: str | None = None,
        *,
        timeout: float | None = None,
    ) -> PredictionFuture:
        """A `concurrent.futures.Future` of one row's prediction, with a `request_id` (made where not given).

        Raises at once what `predict` would raise at once; the rest goes to the future. `callback` is called
        with (prediction, None) or (None, error), the error being `CancelledError` where the future was
        cancelled. It runs in one of the server's few threads, or in the one that cancels: it should be
        short, and what it raises is logged. A future that is cancelled while it waits is never run.
        """
        request_id = request_id or uuid.uuid4().hex
        try:
            return self._routes.find(model_id, version).predict_async(features, request_id, callback, timeout)
        except PipelineError as error:
            error.request_id = request_id
            raise

    # --- figures

    def health_check(self) -> dict[str, Any]:
        """`status` (`running`, `stopping` or `stopped`), `models_loaded`, `queue_size` (requests that wait),
        and under `models`, for each model: its `versions`, the `active` one, and what all loaded ones did:
        `requests`, `errors`, `success_rate`, `latency` (seconds)."""
        with self._lock:
            servings = self._routes.loaded()
        models: dict[str, Any] = {}
        for model_id in dict.fromkeys(model for model, _ in servings):
            total = Metrics()
            versions = [version for model, version in servings if model == model_id]
            for version in versions:
                servings[model_id, version].add_metrics(total)
            figures = total.figures()
            models[model_id] = {
                "versions": versions,
                "active": self._registry.active(model_id),
                **{name: figures[name] for name in ("requests", "errors", "success_rate", "latency")},
            }
        return {
            "status": self._status,
            "models_loaded": len(models),
            "queue_size": sum(serving.turns.queue_depth for serving in servings.values()),
            "models": models,
        }

    def get_metrics(self) -> dict[str, Any]:
        """What the server did since it was made, versions that were unloaded included (`Metrics` says what
        each count is): `requests`, `errors`, `rejected`, `cancelled`, `success_rate`, `throughput` (answered
        requests a second while it ran), `latency` (`mean`, `p50`, `p95`, `p99`, `max`, in seconds),
        `queue_depth`, `batches` (`count`, `mean_size`, `max_size`, and how many there were of each size in
        `sizes`), `cache` (`hits`, `misses`, `hit_rate`, `size`, `capacity`), `uptime` in seconds."""
        total = Metrics()
        with self._lock:
            total.add(self._past)
            uptime = self._uptime
            if self._status == "running":
                uptime += time.monotonic() - self._started
            servings = [*self._routes.loaded().values(), *self._routes.leaving]
            for serving in servings:
                serving.add_metrics(total)
        cache = self._registry.cache_figures()
        looked_up = cache.hits + cache.misses
        return {
            **total.figures(),
            "throughput": total.answered / uptime if uptime else 0.0,
            "uptime": uptime,
            "queue_depth": sum(serving.turns.queue_depth for serving in servings),
            "cache": {**cache._asdict(), "hit_rate": cache.hits / looked_up if looked_up else 0.0},
        }

    # --- inside

    def _in_background(self, task: Any, *arguments: Any) -> None:
        background = self._background
        if background is None:
            raise _not_running()
        background.run(task, *arguments)


def _not_running() -> NotRunning:
    return NotRunning("the model server is not running: call start(), or use it in a with statement")
