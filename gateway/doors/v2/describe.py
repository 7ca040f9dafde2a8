"""What the Open Inference Protocol says of the server and its models, as plain values in the JSON form of its
messages, which is the same over REST and, parsed into protobuf, over gRPC.
"""

from __future__ import annotations

from importlib import metadata

import trio

from common.errors import NotFound
from common.models import RUNTIMES, ModelSettings, runtime_of
from common.tensor import TensorSpec
from gateway.doors.v2 import shapes
from gateway.models.catalog import Catalog, Version
from gateway.observing.health import Health
from gateway.observing.statistics import Computing, Duration, Figures, Statistics
from gateway.scheduling.requests import ModelKey
from gateway.state.state import State, VersionRecord

NAME = "pipeline"
EXTENSIONS = [
    "classification", "binary_tensor_data", "parameters", "statistics", "model_repository",
    "model_configuration",
]  # fmt: skip
READY, UNAVAILABLE = "READY", "UNAVAILABLE"

# What Triton's clients call the runtimes that it has too.
_PLATFORMS = {"onnx": "onnxruntime_onnx", "torchscript": "pytorch_libtorch"}
_NANOSECONDS = 1e9


def server_version() -> str:
    """The release; `source` where it runs without having been installed."""
    try:
        return metadata.version("pipeline-inference")
    except metadata.PackageNotFoundError:
        return "source"


class Description:
    """Reads; changes nothing. A version None (or empty) is the one that answers who names none."""

    def __init__(
        self,
        catalog: Catalog,
        health: Health,
        state: State,
        statistics: Statistics,
    ) -> None:
        self._catalog = catalog
        self._health = health
        self._state = state
        self._statistics = statistics

    def why_not_ready(self) -> str:
        """As `/health/ready` says it; "" where it is."""
        return self._health.why_not_ready()

    def is_ready(self) -> bool:
        """Whether the default model can be answered now."""
        return not self.why_not_ready()

    def is_model_ready(self, model: str, version: str | None) -> bool:
        """Whether a worker that is ready holds the version, or loads it again for who asks; `NotFound` or
        `NoWeights` where none serves."""
        return self._health.is_held(self._catalog.named(model, version or None).key)

    def server(self) -> shapes.ServerMetadata:
        """ServerMetadata."""
        return {"name": NAME, "version": server_version(), "extensions": EXTENSIONS}

    def metadata(self, model: str, version: str | None) -> shapes.ModelMetadata:
        """ModelMetadata; `inputs` and `outputs` are empty where nobody knows them."""
        found = self._catalog.named(model, version or None)
        return {
            "name": model,
            "versions": [each.key.version for each in self._catalog.of(model)],
            "platform": _platform(found),
            "inputs": [_tensor(spec) for spec in _inputs(found)],
            "outputs": [_tensor(spec) for spec in found.outputs],
        }

    def config(self, model: str, version: str | None) -> shapes.ModelConfig:
        """ModelConfig: shapes in it are those of one row."""
        found = self._catalog.named(model, version or None)
        settings = found.settings
        config: shapes.ModelConfig = {
            "name": model,
            "platform": _platform(found),
            "backend": _runtime(found),
            "version_policy": {"latest": {"num_versions": settings.keep_versions}},
            "max_batch_size": settings.max_batch,
            "input": [_config_tensor(spec) for spec in _inputs(found)],
            "output": [_config_tensor(spec) for spec in found.outputs],
            "dynamic_batching": {"max_queue_delay_microseconds": round(settings.max_wait_ms * 1000)},
            "response_cache": {"enable": settings.cache_size != 0},
        }
        if settings.instances is not None:
            config["instance_group"] = [{"count": settings.instances}]
        if settings.labels:
            config["parameters"] = {"labels": {"string_value": "\n".join(settings.labels)}}
        return config

    def statistics(self, model: str | None = None, version: str | None = None) -> shapes.Statistics:
        """ModelStatistics of one version, of all that serve of a model, or of all."""
        if model is None:
            found = self._catalog.all()
        elif version:
            found = [self._catalog.find(model, version)]
        else:
            self._catalog.active(model)
            found = self._catalog.of(model)
        return {"model_stats": [_model_stats(each.key, self._statistics.of(each.key)) for each in found]}

    async def repository_index(self, *, ready: bool = False) -> list[shapes.IndexEntry]:
        """RepositoryIndex: every version that is known, or those that are ready."""
        records = await trio.to_thread.run_sync(self._state.all_versions)
        index = [self._indexed(record) for record in records]
        return [each for each in index if not ready or each["state"] == READY]

    async def expect_known(self, model: str) -> None:
        """`NotFound` for a model of which no version is known."""
        if not await trio.to_thread.run_sync(self._state.versions, model):
            raise NotFound(f"there is no model {model}: POST /v2/repository/index says which there are")

    # --- inside

    def _indexed(self, record: VersionRecord) -> shapes.IndexEntry:
        reason = ""
        if not self._catalog.serves(record.key):
            reason = "not loaded"
        elif not self._health.is_held(record.key):
            reason = "no worker that is ready holds it"
        state = UNAVAILABLE if reason else READY
        return {"name": record.model, "version": record.version, "state": state, "reason": reason}


def _inputs(version: Version) -> tuple[TensorSpec, ...]:
    return version.inputs or version.settings.signature


def _runtime(version: Version) -> str:
    """As far as the gateway knows: the worker may find it from the file itself."""
    settings: ModelSettings = version.settings
    return settings.runtime or runtime_of(version.file.rpartition(".")[2]) or ""


def _platform(version: Version) -> str:
    runtime = _runtime(version)
    return _PLATFORMS.get(runtime, runtime if runtime in RUNTIMES else "")


def _tensor(spec: TensorSpec) -> shapes.TensorMetadata:
    return {"name": spec.name, "datatype": spec.datatype, "shape": [-1, *spec.row_shape]}


def _config_tensor(spec: TensorSpec) -> shapes.ConfigTensor:
    name = "STRING" if spec.datatype == "BYTES" else spec.datatype
    return {"name": spec.name, "data_type": f"TYPE_{name}", "dims": list(spec.row_shape)}


def _model_stats(key: ModelKey, figures: Figures) -> shapes.ModelStatistics:
    return {
        "name": key.model,
        "version": key.version,
        "last_inference": round(figures.last * 1000),
        "inference_count": figures.rows,
        "execution_count": figures.executions,
        "inference_stats": {
            "success": _duration(figures.success),
            "fail": _duration(figures.fail),
            "queue": _duration(figures.queue),
            **_computing(figures.computed),
            "cache_hit": _duration(figures.cache_hit),
            "cache_miss": _duration(figures.cache_miss),
        },
        "response_stats": {},
        "batch_stats": [
            {"batch_size": size, **_computing(computing)}
            for size, computing in sorted(figures.batches.items())
        ],
        "memory_usage": [],
    }


def _computing(computing: Computing) -> shapes.ComputingShown:
    return {
        "compute_input": _duration(computing.input),
        "compute_infer": _duration(computing.infer),
        "compute_output": _duration(computing.output),
    }


def _duration(duration: Duration) -> shapes.DurationShown:
    return {"count": duration.count, "ns": round(duration.seconds * _NANOSECONDS)}
