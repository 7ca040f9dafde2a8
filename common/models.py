"""The settings of one model: what may stand in its `model.toml`, and what a worker is told with its weights.

Pure. Reading the folder is the gateway's, running the model the engine's; `model_file` makes these of text.
"""

from __future__ import annotations

import hashlib
import math
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from common.media import (
    DECODED_TYPES,
    INPUT_TYPES,
    OUTPUT_TYPES,
    AudioOptions,
    ImageOptions,
    InputType,
    OutputOptions,
    OutputType,
    TextOptions,
    row_of,
)
from common.tensor import DATATYPE_NAMES, TensorSpec

# Every runtime by the word that names it, and the endings of model files that mean it where no word is given.
RUNTIMES: dict[str, tuple[str, ...]] = {
    "torch": ("pt", "pth"),
    "torchscript": ("ts", "torchscript"),
    "torch_export": ("pt2",),
    "safetensors": ("safetensors",),
    "sklearn": ("skops",),
    "pickle": ("pkl", "pickle", "joblib"),
    "onnx": ("onnx",),
    "xgboost": ("ubj", "json"),
    "lightgbm": ("txt", "lgb"),
    "python": ("py",),
}

MAX_BATCH = 65_536  # what the wire's longest part may hold
MAX_DIMENSIONS = 8
MAX_WARMUP_ROWS = 1024
MAX_DEPTH = 32
MAX_LABELS = 32_768
MAX_LABEL = 1000

# What a worker loads a version by: where one of these changes, it has to load the version again.
LOADED_BY = (
    "runtime", "architecture", "arguments", "inputs", "max_batch", "cache_size", "round_decimals",
    "warmup_rows", "device", "input_type", "output_type", "image", "text", "audio", "output",
)  # fmt: skip

_ANY_OF_RUNTIMES = rf"\A({'|'.join(RUNTIMES)})?\Z"
_ANY_OF_DATATYPES = rf"\A({'|'.join(DATATYPE_NAMES)})\Z"
_Name = Annotated[str, Meta(pattern=r"\A[A-Za-z_][A-Za-z0-9_.:/-]{0,127}\Z")]
_Row = Annotated[tuple[float, ...], Meta(min_length=1)]


class ModelInput(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One input of a model. `shape` is that of one row, without the batch dimension; −1 is any length."""

    name: Annotated[_Name, Meta(description="text of up to 128 letters, digits and _ . : / -")]
    datatype: Annotated[
        str, Meta(pattern=_ANY_OF_DATATYPES, description=f"one of {', '.join(DATATYPE_NAMES)}")
    ] = "FP32"
    shape: Annotated[
        tuple[Annotated[int, Meta(ge=-1, le=2**31 - 1)], ...],
        Meta(
            max_length=MAX_DIMENSIONS,
            description=f"a list of up to {MAX_DIMENSIONS} whole numbers: the lengths of one row, -1 for any",
        ),
    ]

    def __post_init__(self) -> None:
        if 0 in self.shape:
            raise ValueError("a row of length 0 holds nothing")

    @property
    def spec(self) -> TensorSpec:
        """The same as the wire and the runtimes say it."""
        return TensorSpec(self.name, self.datatype, self.shape)


class ModelSettings(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """Everything that can be said of a model beside its weights; each has a default that serves.

    It travels inside the wire's `Load`. Seconds and bytes, except where a name says otherwise. A setting that
    is None is the process's own: the gateway's flag for queue_max and timeout, the worker's for cache_size
    and device.
    """

    # What executes the model; empty: told by the ending of its file.
    runtime: Annotated[str, Meta(pattern=_ANY_OF_RUNTIMES, description=f"one of {', '.join(RUNTIMES)}")] = ""
    # Which network weights alone belong to (torch, safetensors), and what it is constructed with.
    architecture: Annotated[
        str,
        Meta(pattern=r"\A([A-Za-z_][A-Za-z0-9_.:-]{0,127})?\Z", description="the name of a network"),
    ] = ""
    arguments: Annotated[
        dict[str, Any],
        Meta(
            description="a table of text, finite numbers of up to 64 bits, true, false, lists and tables,"
            f" up to {MAX_DEPTH} deep"
        ),
    ] = {}
    # What the model takes, of decoded types once they are decoded; empty: what the model itself says.
    inputs: Annotated[tuple[ModelInput, ...], Meta(description="a list of tables")] = ()
    # What clients send, and what is made of the model's tensors for them.
    input_type: Annotated[InputType, Meta(description=f"one of {', '.join(INPUT_TYPES)}")] = "tensor"
    output_type: Annotated[OutputType, Meta(description=f"one of {', '.join(OUTPUT_TYPES)}")] = "raw"
    image: Annotated[ImageOptions, Meta(description="a table")] = ImageOptions()
    text: Annotated[TextOptions, Meta(description="a table")] = TextOptions()
    audio: Annotated[AudioOptions, Meta(description="a table")] = AudioOptions()
    output: Annotated[OutputOptions, Meta(description="a table")] = OutputOptions()
    # What the elements of the output are called, first to last.
    labels: Annotated[
        tuple[Annotated[str, Meta(min_length=1, max_length=MAX_LABEL)], ...],
        Meta(
            max_length=MAX_LABELS,
            description=f"a list of up to {MAX_LABELS} texts of 1 to {MAX_LABEL} characters",
        ),
    ] = ()
    # Most rows that the model is given at once.
    max_batch: Annotated[
        int, Meta(ge=1, le=MAX_BATCH, description=f"a whole number from 1 to {MAX_BATCH}")
    ] = 1024
    # Milliseconds that a row may wait for others to fill a batch; 0: none waits where a worker has room.
    max_wait_ms: Annotated[
        float, Meta(ge=0, le=60_000, description="a number of milliseconds from 0 to 60000")
    ] = 0.0
    # Requests for this model that may wait; more are refused.
    queue_max: Annotated[
        Annotated[int, Meta(ge=1, le=10_000_000)] | None,
        Meta(description="a whole number from 1 to 10000000"),
    ] = None
    # Deadline of a request that names none.
    timeout: Annotated[
        Annotated[float, Meta(gt=0, le=3600)] | None,
        Meta(description="a number of seconds above 0, at most 3600"),
    ] = None
    # Rows that each worker remembers of each version; 0: none.
    cache_size: Annotated[
        Annotated[int, Meta(ge=0, le=1_000_000_000)] | None,
        Meta(description="a whole number from 0 to 1000000000"),
    ] = None
    # Decimals that a row is rounded to before the cache and the model see it; None: it is left as it came.
    round_decimals: Annotated[
        Annotated[int, Meta(ge=0, le=15)] | None, Meta(description="a whole number from 0 to 15")
    ] = None
    # Workers that hold the model; None: all that may.
    instances: Annotated[
        Annotated[int, Meta(ge=1, le=10_000)] | None, Meta(description="a whole number from 1 to 10000")
    ] = None
    # What the model runs before it serves: so many rows of zeros, or these very rows of its one input.
    warmup_rows: Annotated[
        Annotated[int, Meta(ge=0, le=MAX_WARMUP_ROWS)]
        | Annotated[tuple[_Row, ...], Meta(min_length=1, max_length=MAX_WARMUP_ROWS)],
        Meta(
            description=f"a whole number from 0 to {MAX_WARMUP_ROWS},"
            f" or a list of up to {MAX_WARMUP_ROWS} rows: lists of finite numbers"
        ),
    ] = 1
    # Where the model runs.
    device: Annotated[
        Annotated[str, Meta(pattern=r"\A(auto|cpu|cuda(:[0-9]{1,2})?)\Z")] | None,
        Meta(description="one of auto, cpu, cuda, cuda:0, cuda:1, …"),
    ] = None
    # Versions that stay loaded, the newest ones; the first is the one that serves.
    keep_versions: Annotated[int, Meta(ge=1, le=100, description="a whole number from 1 to 100")] = 2
    # Whether equal rows go to one worker, which has them in its cache; None: where there is a cache.
    affinity: Annotated[bool | None, Meta(description="true or false")] = None

    def __post_init__(self) -> None:
        if not _is_plain(self.arguments):
            raise ValueError("arguments hold what cannot be sent to a worker")
        rows = self.warmup_rows
        if isinstance(rows, tuple) and not all(math.isfinite(number) for row in rows for number in row):
            raise ValueError("warm-up rows are finite numbers")

    @property
    def model_signature(self) -> tuple[TensorSpec, ...]:
        """The model's own inputs as the runtimes say them; empty where the settings do not say."""
        return tuple(each.spec for each in self.inputs)

    @property
    def signature(self) -> tuple[TensorSpec, ...]:
        """What a client's rows are, as the wire says it; empty where the settings do not say."""
        return row_of(self.input_type) if self.is_decoded else self.model_signature

    @property
    def is_decoded(self) -> bool:
        """Whether rows are files or text, which the worker decodes."""
        return self.input_type in DECODED_TYPES

    @property
    def files(self) -> tuple[str, ...]:
        """The names of the files that the model needs beside its own."""
        uses_text = "text" in (self.input_type, self.output_type)
        return (self.text.tokenizer,) if uses_text and self.text.tokenizer else ()

    @property
    def loaded_by(self) -> tuple[str, ...]:
        """`LOADED_BY`, and what else counts for what this model answers."""
        return (*LOADED_BY, "labels") if self.output_type == "detections" else LOADED_BY

    @property
    def loaded_as(self) -> str:
        """A digest of what a worker loads a version by; empty where that is all by default."""
        values = {name: getattr(self, name) for name in self.loaded_by}
        said = {name: value for name, value in values.items() if value != getattr(DEFAULTS, name)}
        if not said:
            return ""
        return hashlib.blake2b(msgspec.json.encode(said, order="sorted"), digest_size=8).hexdigest()

    def loaded_like(self, other: ModelSettings) -> ModelSettings:
        """These settings, but for what a worker loads a version by: that is as `other` says."""
        return msgspec.structs.replace(self, **{name: getattr(other, name) for name in other.loaded_by})


def runtime_of(ending: str) -> str | None:
    """The runtime that a model file's ending (without the dot) means; None where it means none."""
    return next((name for name, endings in RUNTIMES.items() if ending.lower() in endings), None)


def _is_plain(value: object, depth: int = MAX_DEPTH) -> bool:
    """Whether msgpack and JSON give back what they are given: dates, infinity, whole numbers past 64 bits and
    what is nested without end they do not."""
    if isinstance(value, dict):
        return all(isinstance(key, str) for key in value) and _is_plain([*value.values()], depth)
    if isinstance(value, list):
        return depth > 0 and all(_is_plain(each, depth - 1) for each in value)
    if isinstance(value, int) and not isinstance(value, bool):
        return -(2**63) <= value < 2**64
    return isinstance(value, bool | str) or (isinstance(value, float) and math.isfinite(value))


DEFAULTS = ModelSettings()
