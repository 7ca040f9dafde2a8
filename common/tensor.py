"""Datatypes and raw row-major tensors as both sides of a link understand them, without NumPy.

Names of datatypes are the Open Inference Protocol's (FP32, INT64, …). All buffers are little-endian. An
element of BYTES is a length (u32) and so many bytes, so its rows differ in size: `row_ends` finds where they
end.
What must not live here: anything that knows a model, a worker or a door.
"""

from __future__ import annotations

import math
import struct
import sys
from array import array
from collections.abc import Iterable, Sequence
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
    """One element type of fixed size: its protocol name, bytes per element and `array`/`memoryview` format
    code; the code is empty for the 16-bit floats, which neither of these knows."""

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
        Datatype("FP16", 2, ""),
        Datatype("BF16", 2, ""),
        Datatype("FP32", 4, "f"),
        Datatype("FP64", 8, "d"),
    )
}

BYTES = "BYTES"
DATATYPE_NAMES = (*DATATYPES, BYTES)
_LENGTH = struct.Struct("<I")


class TensorSpec(msgspec.Struct, frozen=True, array_like=True):
    """Name, datatype and shape of one row of a tensor: the batch dimension is not part of it."""

    name: str
    datatype: str
    row_shape: tuple[int, ...]

    @property
    def row_bytes(self) -> int:
        """Bytes that one row takes; `InvalidRequest` for a datatype that is unknown or has rows of any size,
        or a negative dimension."""
        datatype = DATATYPES.get(self.datatype)
        if datatype is None:
            raise InvalidRequest(
                f"datatype {self.datatype!r} is not known, or its rows differ in size: use one of"
                f" {', '.join(DATATYPES)}"
            )
        return datatype.itemsize * self.row_elements

    @property
    def row_elements(self) -> int:
        """Elements that one row has; `InvalidRequest` for a negative dimension."""
        if min(self.row_shape, default=0) < 0:
            raise InvalidRequest(f"a row of shape {list(self.row_shape)} has a negative dimension")
        return math.prod(self.row_shape)

    @property
    def is_sized(self) -> bool:
        """Whether all its rows have the same number of bytes."""
        return self.datatype != BYTES


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
    """A buffer's elements as Python numbers, flat; those of BYTES as `bytes`."""
    if datatype == BYTES:
        return elements(buffer)
    if datatype == "FP32":  # nearly always
        return memoryview(buffer).cast("B").cast("f").tolist()
    code: Any = DATATYPES[datatype].code
    view = memoryview(buffer).cast("B")
    if datatype == "FP16":
        return list(struct.unpack(f"<{len(view) // 2}e", view))
    if datatype == "BF16":  # the upper half of a float32
        halves = array("I", [half << 16 for half in view.cast("H")])
        return memoryview(halves).cast("B").cast("f").tolist()
    return view.cast(code).tolist()


def pack_elements(items: Iterable[bytes]) -> bytes:
    """Elements as BYTES carries them."""
    return b"".join([part for item in items for part in (_LENGTH.pack(len(item)), item)])


def elements(buffer: Buffer) -> list[bytes]:
    """The elements of a BYTES buffer; `InvalidRequest` where a length points beyond its end."""
    view = memoryview(buffer).cast("B")
    found: list[bytes] = []
    at = 0
    for end in element_ends(view):
        found.append(bytes(view[at + 4 : end]))
        at = end
    return found


def element_ends(buffer: Buffer, most: int = sys.maxsize) -> list[int]:
    """Where each element of a BYTES buffer ends, or no more than the first `most`; `InvalidRequest` where a
    length points beyond its end."""
    size, at = memoryview(buffer).nbytes, 0
    ends: list[int] = []
    while at < size and len(ends) < most:
        if size - at < 4:
            raise InvalidRequest(f"{size - at} bytes are left at {at}, and an element's length takes 4")
        (length,) = _LENGTH.unpack_from(buffer, at)
        at += 4 + length
        if at > size:
            raise InvalidRequest(
                f"an element of {length} bytes ends at {at}, beyond the {size} that there are"
            )
        ends.append(at)
    return ends


def row_end(spec: TensorSpec, buffer: Buffer, at: int) -> int:
    """Where the row that begins at `at` ends, in a buffer that is known to be whole."""
    if spec.is_sized:
        return at + spec.row_bytes
    for _ in range(spec.row_elements):
        at += 4 + _LENGTH.unpack_from(buffer, at)[0]
    return at


def row_ends(buffer: Buffer, per_row: int, rows: int) -> list[int]:
    """Where each row of a BYTES buffer ends, of `per_row` elements each; `InvalidRequest` unless there are
    exactly so many, and at least one."""
    if per_row < 1:
        raise InvalidRequest("a row of BYTES has at least one element")
    ends = element_ends(buffer, per_row * rows + 1)
    if len(ends) != per_row * rows:
        found = "more" if len(ends) > per_row * rows else len(ends)
        raise InvalidRequest(f"{rows} rows of {per_row} elements are {per_row * rows}, and there are {found}")
    return ends[per_row - 1 :: per_row]


def _overflow(name: str, row: Sequence[float]) -> str:
    for i, value in enumerate(row):
        if not abs(value) < _FLOAT32_END:
            return f"{name}[{i}] is {value!r}, beyond float32's range of ±3.4e38"
    return f"{name} holds a number beyond float32's range of ±3.4e38"
