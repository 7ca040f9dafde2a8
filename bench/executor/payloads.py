"""The bytes of a request: rows made from a number or read from a file, as each door takes them. Pure, but for
reading that file.
"""

from __future__ import annotations

import json
import math
import random
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from common.tensor import DATATYPES

MAX_PREPARED = (
    256 << 20
)  # bytes of requests that are made before the start; others are made when they are due

Values = list[float] | list[int]
Encode = Callable[[str, "Tensor", Values], bytes]


class Tensor(NamedTuple):
    """What a row is: as in `vector:FP32:2`, `x:FP32:784` or `ids:INT64:32:1000` (whole, below 1000)."""

    name: str = "vector"
    datatype: str = "FP32"
    shape: tuple[int, ...] = (2,)
    below: int = 1000

    @property
    def is_whole(self) -> bool:
        """Whether its elements are whole numbers."""
        return "INT" in self.datatype

    def pack(self, values: Values) -> bytes:
        """Its elements as raw bytes."""
        return struct.pack(f"<{len(values)}{DATATYPES[self.datatype].code}", *values)


def read_tensor(text: str) -> Tensor:
    """`NAME:DATATYPE:SHAPE[:BELOW]`, as in `image:FP32:3x224x224`; `ValueError` with a sentence."""
    parts = text.split(":")
    try:
        name, datatype, shape, below = (*parts, "1000")[:4] if len(parts) in (3, 4) else ("", "", "", "")
        tensor = Tensor(name, datatype, tuple(int(each) for each in shape.split("x")), int(below))
    except ValueError:
        tensor = Tensor(datatype="")
    known = [name for name, datatype in DATATYPES.items() if datatype.code and name != "BOOL"]
    if tensor.datatype not in known or min(tensor.shape) < 1 or tensor.below < 1:
        raise ValueError(
            f"{text!r} is no row: it is NAME:DATATYPE:SHAPE, as in x:FP32:3x32 or ids:INT64:32:1000 (numbers"
            f" below 1000), and the datatype one of {', '.join(known)}"
        )
    return tensor


VECTOR = Tensor()


class Payloads:
    """Makes each request's bytes once. Invariant: what is kept is at most `MAX_PREPARED` bytes."""

    def __init__(self, tensor: Tensor, encode: Encode) -> None:
        self._tensor = tensor
        self._encode = encode
        self._made: dict[tuple[str, str], bytes] = {}
        self._files: dict[str, list[str]] = {}
        self._room = MAX_PREPARED

    def prepare(self, model: str, given: str) -> None:
        """Make it now, where there is room."""
        if self._room > 0:
            self.get(model, given)

    def get(self, model: str, given: str) -> bytes:
        """The request for this input of this model."""
        payload = self._made.get((model, given))
        if payload is None:
            payload = self._encode(model, self._tensor, self.values(given))
            if self._room > 0:
                self._made[model, given] = payload
                self._room -= len(payload)
        return payload

    def values(self, given: str) -> Values:
        """A row's elements, flat: of a file, or made from the number."""
        file, colon, line = given.rpartition(":")
        if colon:
            return self._of_file(file, line)
        chance = random.Random(given)
        count = math.prod(self._tensor.shape)
        if self._tensor.is_whole:
            return [chance.randrange(self._tensor.below) for _ in range(count)]
        return [round(chance.random(), 6) for _ in range(count)]

    def _of_file(self, file: str, line: str) -> Values:
        if file not in self._files:
            lines = Path(file).read_text().splitlines()
            self._files[file] = [each for each in lines if each.strip()]
        try:
            values = _flat(json.loads(self._files[file][int(line) - 1]))
        except (ValueError, IndexError) as error:
            raise ValueError(f"row {line} of {file} cannot be read: {error}") from None
        if len(values) != math.prod(self._tensor.shape):
            raise ValueError(
                f"row {line} of {file} has {len(values)} numbers, where the shape is {self._tensor.shape}"
            )
        return values


def _flat(value: object) -> Values:
    if isinstance(value, list):
        return [number for each in value for number in _flat(each)]
    if isinstance(value, (int, float)):
        return [value]
    raise ValueError(f"{value!r} is no number")


def v1(model: str, tensor: Tensor, values: Values) -> bytes:
    """The body of `/predict`: a vector, where a vector of floats is what the model takes, else a tensor."""
    if tensor.datatype == "FP32" and len(tensor.shape) == 1:
        return vector(model, tensor, values)
    return v2(model, tensor, values)


def vector(model: str, tensor: Tensor, values: Values) -> bytes:
    """One row as `{"vector":[…]}`, as hand-made services take it."""
    return _json({"vector": values})


def vectors(model: str, tensor: Tensor, values: Values) -> bytes:
    """One row as `{"vectors":[[…]]}`, for services whose requests are batches."""
    return _json({"vectors": [values]})


def websocket(model: str, tensor: Tensor, values: Values) -> bytes:
    """A message of `/ws`, without its id."""
    body = v1(model, tensor, values)
    return b'{"model":%b,' % _json(model) + body[1:] if model else body


def v2(model: str, tensor: Tensor, values: Values) -> bytes:
    """The Open Inference Protocol's request, as JSON."""
    return _json({"inputs": [_described(tensor) | {"data": values}]})


def v2_binary(tensor: Tensor, values: Values) -> tuple[bytes, bytes]:
    """The same with binary data: the header, and what comes behind it."""
    data = tensor.pack(values)
    described = _described(tensor) | {"parameters": {"binary_data_size": len(data)}}
    return _json({"parameters": {"binary_data_output": True}, "inputs": [described]}), data


def grpc(model: str, tensor: Tensor, values: Values) -> bytes:
    """ModelInferRequest: model_name 1, inputs 5 (name 1, datatype 2, shape 3), raw_input_contents 7."""
    shape = b"".join(_varint(size) for size in (1, *tensor.shape))
    described = _field(1, tensor.name.encode()) + _field(2, tensor.datatype.encode()) + _field(3, shape)
    return _field(1, (model or "default").encode()) + _field(5, described) + _field(7, tensor.pack(values))


def _described(tensor: Tensor) -> dict[str, object]:
    return {"name": tensor.name, "datatype": tensor.datatype, "shape": [1, *tensor.shape]}


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _field(number: int, value: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    parts = []
    while value >= 0x80:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*parts, value))


def post(host: str, path: str, body: bytes, headers: Sequence[str] = ()) -> bytes:
    """A whole request in HTTP/1.1."""
    lines = [f"POST {path} HTTP/1.1", f"Host: {host}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body
