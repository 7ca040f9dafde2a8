"""What a client sent as rows, as the tensors that travel: by the model's signature, where it is known. Pure.

`inputs` have the form of the Open Inference Protocol (version 2, REST): name, datatype, shape with the number
of rows first, and data, flat or nested.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from common.errors import InvalidRequest, TooLarge
from common.tensor import BYTES, DATATYPES, Buffer, TensorSpec, all_finite, pack_elements, vector_spec

Signature = tuple[TensorSpec, ...]
Input = tuple[Signature, tuple[Buffer, ...], int]

MAX_DIMENSIONS = 32
LONGEST = 2**31 - 1
MAX_ELEMENTS = 1 << 18  # of BYTES in one tensor: each costs the gateway, where a number costs nothing
SHOWN = 60  # characters of what a client sent that an answer repeats

_NUMBERS = {int, float, bool}
_IN_JSON = ", ".join([each.name for each in DATATYPES.values() if each.code] + [BYTES])
_RANGES = {"b": 7, "h": 15, "i": 31, "q": 63}  # bits beside the sign


class Tensor(msgspec.Struct):
    """One input of a request."""

    name: str
    datatype: str
    shape: list[int]
    data: list[Any]


def read_tensors(tensors: Sequence[Tensor]) -> Input:
    """(signature, buffers, rows) of a request's inputs; `InvalidRequest` names the input that is at fault."""
    if not tensors:
        raise InvalidRequest("inputs is empty: give at least one tensor")
    names = [tensor.name for tensor in tensors]
    if len(set(names)) < len(names):
        raise InvalidRequest(f"inputs have the same name twice: {', '.join(names)}")
    rows = tensors[0].shape[0] if tensors[0].shape else 0
    specs, buffers = [], []
    for tensor in tensors:
        check_shape(tensor.name, tensor.shape)
        if not tensor.shape or tensor.shape[0] != rows or not rows:
            raise InvalidRequest(
                f"input {tensor.name}: shape {tensor.shape} should begin with the number of rows, the same"
                " for all inputs and at least 1"
            )
        if tensor.datatype == BYTES and 0 in tensor.shape:
            raise InvalidRequest(f"input {tensor.name}: a row of BYTES has at least one element")
        specs.append(TensorSpec(tensor.name, tensor.datatype, tuple(tensor.shape[1:])))
        flat = flatten(tensor.data)
        if len(flat) != math.prod(tensor.shape):
            raise InvalidRequest(
                f"input {tensor.name}: shape {tensor.shape} takes {math.prod(tensor.shape)} elements, and"
                f" data has {len(flat)}"
            )
        buffers.append(pack(flat, tensor.datatype, f"input {tensor.name}"))
    return tuple(specs), tuple(buffers), rows


def check_shape(name: str, shape: Sequence[int]) -> None:
    """`InvalidRequest` for dimensions that no tensor has, and that would cost time or room to look at."""
    if len(shape) > MAX_DIMENSIONS or not all(0 <= size <= LONGEST for size in shape):
        raise InvalidRequest(
            f"input {name}: a shape has at most {MAX_DIMENSIONS} dimensions, each from 0 to {LONGEST}"
        )


def check_elements(name: str, count: int) -> None:
    """`TooLarge` for more elements of BYTES than are looked at one by one."""
    if count > MAX_ELEMENTS:
        raise TooLarge(f"{name} has {count} elements of BYTES: at most {MAX_ELEMENTS} are allowed")


def read_rows(rows: Sequence[Sequence[float]], signature: Signature) -> Input | None:
    """Vectors as the rows of a model's one input; None where the signature does not say how to."""
    if len(signature) != 1 or -1 in signature[0].row_shape:
        return None
    (spec,) = signature
    if any(len(row) != math.prod(spec.row_shape) for row in rows):
        return None
    flat = [value for row in rows for value in row]
    return signature, (pack(flat, spec.datatype, "vector"),), len(rows)


def read_plain(body: bytes, signature: Signature) -> Input:
    """Rows that are raw already, of a model's one input of a fixed shape; where nobody knows what the model
    takes, a vector of float32."""
    if not signature:
        if len(body) % 4 or not body:
            raise InvalidRequest(f"the body has {len(body)} bytes: float32 numbers take a multiple of 4")
        return vector_spec(len(body) // 4), (body,), 1
    if len(signature) != 1 or -1 in signature[0].row_shape or not signature[0].is_sized:
        raise InvalidRequest("the model's rows have no fixed size, so they cannot be sent raw: send JSON")
    width = signature[0].row_bytes
    if len(body) % width or not body:
        raise InvalidRequest(
            f"the body has {len(body)} bytes, and a row of {signature[0].datatype}"
            f" {list(signature[0].row_shape)} has {width}"
        )
    return signature, (body,), len(body) // width


def pack(flat: Sequence[Any], datatype: str, name: str) -> bytes:
    """Elements as a little-endian buffer; `InvalidRequest` names the first that does not fit the datatype."""
    if datatype == BYTES:
        return _pack_text(flat, name)
    known = DATATYPES.get(datatype)
    if known is None:
        raise InvalidRequest(f"{name}: datatype {_shown(datatype)} is not known: use one of {_IN_JSON}")
    if not known.code:
        raise InvalidRequest(
            f"{name}: {datatype} has no form in JSON: send it as binary data of the Open Inference Protocol"
        )
    if known.code in "fd":
        return _pack_floats(flat, known.code, name)
    for at, value in enumerate(flat):
        if isinstance(value, float) and value.is_integer():
            continue
        if not isinstance(value, int):
            raise InvalidRequest(f"{name}[{at}] is {_shown(value)}, and {datatype} takes whole numbers")
    whole = [int(value) for value in flat]
    if known.code == "?":
        if not set(whole) <= {0, 1}:
            raise InvalidRequest(f"{name}: BOOL takes true and false only")
        return bytes(whole)
    try:
        return array(known.code, whole).tobytes()
    except OverflowError:
        least, most = _range(known.code, known.itemsize)
        at = next(i for i, value in enumerate(whole) if not least <= value <= most)
        raise InvalidRequest(
            f"{name}[{at}] is {_shown(whole[at])}, beyond {datatype}'s {least} to {most}"
        ) from None


def _pack_text(flat: Sequence[Any], name: str) -> bytes:
    check_elements(name, len(flat))
    for at, value in enumerate(flat):
        if not isinstance(value, str | bytes):  # bytes come in MessagePack
            raise InvalidRequest(f"{name}[{at}] is {_shown(value)}, and BYTES takes text")
    return pack_elements([value.encode() if isinstance(value, str) else value for value in flat])


def _pack_floats(flat: Sequence[Any], code: str, name: str) -> bytes:
    if not set(map(type, flat)) <= _NUMBERS:
        at = next(i for i, value in enumerate(flat) if type(value) not in _NUMBERS)
        raise InvalidRequest(f"{name}[{at}] is {_shown(flat[at])}, not a number")
    try:
        packed = array(code, flat)
    except OverflowError:
        raise InvalidRequest(f"{name} holds a number that is too large") from None
    if not all_finite(packed) and not all(map(math.isfinite, packed)):  # a sum may be infinite without them
        at = next(i for i, value in enumerate(packed) if not math.isfinite(value))
        raise InvalidRequest(f"{name}[{at}] is {_shown(flat[at])}: only finite numbers in range are allowed")
    return packed.tobytes()


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def flatten(data: Sequence[Any]) -> list[Any]:
    """The elements of nested lists, in order."""
    return list(data) if list not in set(map(type, data)) else list(_flat(data))


def _flat(data: Sequence[Any]) -> Iterator[Any]:
    """The elements of nested lists, in order; deep nesting costs no stack."""
    stack = [iter(data)]
    while stack:
        for value in stack[-1]:
            if isinstance(value, list):
                stack.append(iter(value))
                break
            yield value
        else:
            stack.pop()


def _range(code: str, itemsize: int) -> tuple[int, int]:
    bits = _RANGES.get(code)
    return (-(1 << bits), (1 << bits) - 1) if bits is not None else (0, (1 << 8 * itemsize) - 1)
