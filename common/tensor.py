"""Datatypes and raw row-major tensors as both sides of a link understand them, without NumPy.

Names of datatypes are the Open Inference Protocol's (FP32, INT64, …). All buffers are little-endian.
What must not live here: anything that knows a model, a worker or a door.
"""

from __future__ import annotations

import math
import struct
import sys
from array import array
from collections.abc import Sequence
from functools import lru_cache
from itertools import chain
from typing import Any, NamedTuple

import msgspec

from common.errors import InvalidRequest

Buffer = bytes | bytearray | memoryview

_FLOAT32_END = 3.4028235677973366e38  # the smallest number that rounds to infinity: 2**128 - 2**103

if sys.byteorder != "little":  # pragma: no cover - no such machine is supported
    raise RuntimeError("Pipeline's buffers are little-endian; this machine is not")


class Datatype(NamedTuple):
    """One element type: its protocol name, bytes per element and `array`/`memoryview` format code."""

    name: str
    itemsize: int
    code: str


DATATYPES: dict[str, Datatype] = {
    d.name: d
    for d in (
        Datatype("BOOL", 1, "?"),
        Datatype("INT8", 1, "b"),
        Datatype("INT16", 2, "h"),
        Datatype("INT32", 4, "i"),
        Datatype("INT64", 8, "q"),
        Datatype("UINT8", 1, "B"),
        Datatype("UINT16", 2, "H"),
        Datatype("UINT32", 4, "I"),
        Datatype("UINT64", 8, "Q"),
        Datatype("FP32", 4, "f"),
        Datatype("FP64", 8, "d"),
    )
}


class TensorSpec(msgspec.Struct, frozen=True, array_like=True):
    """Name, datatype and shape of one row of a tensor: the batch dimension is not part of it."""

    name: str
    datatype: str
    row_shape: tuple[int, ...]

    @property
    def row_bytes(self) -> int:
        """Bytes that one row takes; `InvalidRequest` for an unknown datatype or a negative dimension."""
        datatype = DATATYPES.get(self.datatype)
        if datatype is None:
            raise InvalidRequest(
                f"datatype {self.datatype!r} is not known: use one of {', '.join(DATATYPES)}"
            )
        if min(self.row_shape, default=0) < 0:
            raise InvalidRequest(f"a row of shape {list(self.row_shape)} has a negative dimension")
        return datatype.itemsize * math.prod(self.row_shape)


@lru_cache(maxsize=1024)
def vector_spec(width: int) -> tuple[TensorSpec, ...]:
    """The signature of one float32 vector of `width` elements, as v1's `vector` is sent to a model."""
    return (TensorSpec("vector", "FP32", (width,)),)


@lru_cache(maxsize=1024)
def _packer(width: int) -> struct.Struct:
    return struct.Struct(f"<{width}f")


def pack_vector(vector: Sequence[float]) -> bytes:
    """One row of numbers as float32 bytes; `InvalidRequest` names the first number that does not fit."""
    try:
        return _packer(len(vector)).pack(*vector)
    except OverflowError:
        raise InvalidRequest(_overflow("vector", vector)) from None


def pack_vectors(vectors: Sequence[Sequence[float]]) -> tuple[int, bytes]:
    """(row width, float32 bytes of all rows); `InvalidRequest` when rows differ in width or overflow."""
    width = len(vectors[0])
    if any(len(row) != width for row in vectors):
        at = next(i for i, row in enumerate(vectors) if len(row) != width)
        raise InvalidRequest(
            f"vectors[{at}] has {len(vectors[at])} numbers and vectors[0] has {width}: all rows must be alike"
        )
    packed = array("f", chain.from_iterable(vectors))
    if not all_finite(packed):
        at = next(i for i, row in enumerate(vectors) if not all_finite(array("f", row)))
        raise InvalidRequest(_overflow(f"vectors[{at}]", vectors[at]))
    return width, packed.tobytes()


def all_finite(values: Any) -> bool:
    """Whether no element of a float sequence is NaN or infinite (a sum keeps either, and finite
    float32 values cannot overflow the float64 it is taken in)."""
    return math.isfinite(sum(values))


def floats(buffer: Buffer) -> memoryview[float]:
    """A float32 view of a buffer; its length must be a multiple of 4."""
    return memoryview(buffer).cast("B").cast("f")


def values(buffer: Buffer, datatype: str) -> list[Any]:
    """A buffer's elements as Python numbers, flat."""
    code: Any = DATATYPES[datatype].code
    return memoryview(buffer).cast("B").cast(code).tolist()


def _overflow(name: str, row: Sequence[float]) -> str:
    for i, value in enumerate(row):
        if not abs(value) < _FLOAT32_END:
            return f"{name}[{i}] is {value!r}, beyond float32's range of ±3.4e38"
    return f"{name} holds a number beyond float32's range of ±3.4e38"
