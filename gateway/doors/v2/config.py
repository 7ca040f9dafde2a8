"""What a ModelConfig says that settings of ours have a word for. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from common.errors import InvalidRequest
from common.models import RUNTIMES, ModelSettings
from gateway.doors.json import JsonReader

_BACKENDS = {"onnxruntime": "onnx", "pytorch": "torchscript"}


class _Tensor(msgspec.Struct):
    name: str
    data_type: str
    dims: list[int] = []


class _Batching(msgspec.Struct):
    max_queue_delay_microseconds: int = 0


class _Cache(msgspec.Struct):
    enable: bool = True


class _Text(msgspec.Struct):
    string_value: str = ""


class _Config(msgspec.Struct):
    backend: str = ""
    max_batch_size: int = 0
    input: list[_Tensor] = []
    dynamic_batching: _Batching | None = None
    response_cache: _Cache | None = None
    parameters: dict[str, _Text] = {}


_decoder = msgspec.json.Decoder(_Config)


def read_config(config: object, json: JsonReader) -> dict[str, Any]:
    """Settings, by name, of the JSON of a ModelConfig; what has no meaning here is passed over.

    Beside the fields that are like ours, parameters `architecture` and `labels` (one a line) are settings.
    `InvalidRequest`.
    """
    try:
        return _settings(json.decode(config if isinstance(config, str | bytes) else b"", _decoder, "config"))
    except msgspec.MsgspecError as error:
        raise InvalidRequest(f"config is not the JSON of a model's configuration: {error}") from None


def _settings(config: _Config) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    runtime = _BACKENDS.get(config.backend, config.backend)
    if runtime in RUNTIMES:
        settings["runtime"] = runtime
    if config.max_batch_size > 0:
        settings["max_batch"] = config.max_batch_size
    if config.input:
        settings["inputs"] = [
            {"name": each.name, "datatype": _datatype(each.data_type), "shape": each.dims}
            for each in config.input
        ]
    if config.dynamic_batching is not None:
        settings["max_wait_ms"] = config.dynamic_batching.max_queue_delay_microseconds / 1000
    if config.response_cache is not None and not config.response_cache.enable:
        settings["cache_size"] = 0
    texts = {name: each.string_value for name, each in config.parameters.items()}
    if texts.get("architecture"):
        settings["architecture"] = texts["architecture"]
    if texts.get("labels"):
        settings["labels"] = texts["labels"].splitlines()
    return _checked(settings)


def _datatype(data_type: str) -> str:
    name = data_type.removeprefix("TYPE_")
    return "BYTES" if name == "STRING" else name


def _checked(settings: dict[str, Any]) -> dict[str, Any]:
    """The same, as the settings' own types; `msgspec.ValidationError` says which is out of bounds."""
    checked = msgspec.convert(settings, ModelSettings)
    return {name: getattr(checked, name) for name in settings}
