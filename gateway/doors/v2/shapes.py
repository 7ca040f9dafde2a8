"""What the Open Inference Protocol answers, as JSON has it. Pure."""

from __future__ import annotations

from typing import Annotated, Any, TypedDict

from msgspec import Meta


class ServerMetadata(TypedDict):
    """What this is, and which extensions of the protocol it knows."""

    name: str
    version: str
    extensions: list[str]


class TensorMetadata(TypedDict):
    """What an input or an output looks like."""

    name: str
    datatype: str
    shape: Annotated[list[int], Meta(description="the number of rows first; -1 is any length")]


class ModelMetadata(TypedDict):
    """What a model takes and gives."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class ConfigTensor(TypedDict):
    """What one row of an input or an output looks like."""

    name: str
    data_type: str
    dims: list[int]


class Latest(TypedDict):
    """How many versions serve."""

    num_versions: int


class VersionPolicy(TypedDict):
    """Which versions serve."""

    latest: Latest


class DynamicBatching(TypedDict):
    """How long a row may wait for others."""

    max_queue_delay_microseconds: int


class ResponseCache(TypedDict):
    """Whether answers are remembered."""

    enable: bool


class InstanceGroup(TypedDict):
    """How many workers hold the model."""

    count: int


class Text(TypedDict):
    """A parameter's value."""

    string_value: str


class _ModelConfig(TypedDict):
    name: str
    platform: str
    backend: str
    version_policy: VersionPolicy
    max_batch_size: int
    input: list[ConfigTensor]
    output: list[ConfigTensor]
    dynamic_batching: DynamicBatching
    response_cache: ResponseCache


class ModelConfig(_ModelConfig, total=False):
    """How a model is run."""

    instance_group: list[InstanceGroup]
    parameters: dict[str, Text]


class DurationShown(TypedDict):
    """How often, and how long together."""

    count: int
    ns: Annotated[int, Meta(description="nanoseconds")]


class ComputingShown(TypedDict):
    """Where the time in the model went."""

    compute_input: DurationShown
    compute_infer: DurationShown
    compute_output: DurationShown


class InferenceStatistics(ComputingShown):
    """What became of requests."""

    success: DurationShown
    fail: DurationShown
    queue: DurationShown
    cache_hit: DurationShown
    cache_miss: DurationShown


class BatchStatistics(ComputingShown):
    """What batches of one size took."""

    batch_size: int


class ModelStatistics(TypedDict):
    """What a version did since the gateway started."""

    name: str
    version: str
    last_inference: Annotated[int, Meta(description="milliseconds since 1970")]
    inference_count: int
    execution_count: int
    inference_stats: InferenceStatistics
    response_stats: dict[str, Any]
    batch_stats: list[BatchStatistics]
    memory_usage: list[Any]


class Statistics(TypedDict):
    """What versions did."""

    model_stats: list[ModelStatistics]


class IndexEntry(TypedDict):
    """A version that is known."""

    name: str
    version: str
    state: Annotated[str, Meta(description="READY or UNAVAILABLE")]
    reason: str


class Live(TypedDict):
    """Whoever is answered knows."""

    live: bool


class Ready(TypedDict):
    """That requests are taken."""

    ready: bool


class ModelReady(TypedDict):
    """That a worker that is ready holds the model."""

    name: str
    ready: bool


class _OutputGiven(TypedDict):
    name: str
    datatype: str
    shape: list[int]


class OutputGiven(_OutputGiven, total=False):
    """One output: its elements, or how many bytes of them follow the JSON."""

    data: list[Any]
    parameters: dict[str, Any]


class _InferenceAnswer(TypedDict):
    model_name: str
    model_version: str
    parameters: dict[str, Any]
    outputs: list[OutputGiven]


class InferenceAnswer(_InferenceAnswer, total=False):
    """What an inference is answered."""

    id: str


class Refusal(TypedDict):
    """What every refused request is answered."""

    error: str
