"""What the doors' answers say, read from their bytes: (version, result) of one row. Pure."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from typing import Any

from google.protobuf.message import DecodeError
from tritonclient.grpc import service_pb2

from tests.chaos.history import Row

Said = tuple[str, float]
NETWORK = ""  # the default model, whose weights come by set_weights; all others are linear


def v1(body: bytes) -> Said:
    """`message` is the version, as no two of a run have one name."""
    said = json.loads(body)
    return said["message"], said["result"]


def websocket(body: bytes) -> Said:
    """A message of `/ws`."""
    said = json.loads(body)
    return said["version"], said["result"]


def v2(body: bytes) -> Said:
    """The Open Inference Protocol as JSON."""
    said = json.loads(body)
    return said["model_version"], said["outputs"][0]["data"][0]


def v2_binary(body: bytes) -> Said:
    """The same with its output behind it: one number, as its datatype says."""
    said, end = json.JSONDecoder().raw_decode(body.decode("latin-1"))
    return said["model_version"], _number(said["outputs"][0]["datatype"], body[end:])


def grpc(body: bytes) -> Said:
    """ModelInferResponse."""
    try:
        said: Any = service_pb2.ModelInferResponse.FromString(body)
    except DecodeError as error:
        raise ValueError(str(error)) from None
    return said.model_version, _number(said.outputs[0].datatype, said.raw_output_contents[0])


def _number(datatype: str, data: bytes) -> float:
    (number,) = struct.unpack({"FP32": "<f", "FP64": "<d"}[datatype], data)
    return float(number)


READERS: dict[str, Callable[[bytes], Said]] = {
    "v1": v1, "v2": v2, "v2-binary": v2_binary, "grpc": grpc, "ws": websocket
}  # fmt: skip


def linear(version: str) -> tuple[float, float]:
    """The coefficients of a version of a linear model; they follow from its name."""
    number = float(version)
    return number, 1000.0 - number


def of_linear(version: str, row: Row) -> float:
    """What it answers; the rows have six digits, so what float32 makes of them matters."""
    a, b = linear(version)
    x, y = struct.unpack("<ff", struct.pack("<ff", *row))
    return float(a * x + b * y)
