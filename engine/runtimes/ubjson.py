"""Reading the part of UBJSON (ubjson.org, draft 12) that XGBoost writes, and never beyond its end.

XGBoost's own reader does not look where a length leads: of a damaged file it reads other memory, or ends the
process. So a file is read here first.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

_DEEPEST = 64
_NUMBERS = {
    b"i": ">i1", b"U": ">u1", b"I": ">i2", b"l": ">i4", b"L": ">i8", b"d": ">f4", b"D": ">f8",
}  # fmt: skip
_WORDS = {b"Z": None, b"T": True, b"F": False}


def read_ubjson(data: bytes) -> Any:
    """Dicts, lists, strings, numbers and truths, and arrays of numbers as NumPy's; `ValueError` unless the
    bytes are one such value and nothing more."""
    value, at = _read(data, 0, 0)
    if at != len(data):
        raise ValueError(f"it goes on after its end, at byte {at} of {len(data)}")
    return value


def _read(data: bytes, at: int, depth: int) -> tuple[Any, int]:
    """The value that begins at a byte, and where the next one does."""
    kind = data[at : at + 1]
    at += 1
    if kind == b"S":
        return _read_text(data, at)
    if kind in _NUMBERS:
        values, at = _read_numbers(data, at, kind, 1)
        return values[0].item(), at
    if kind in _WORDS:
        return _WORDS[kind], at
    if depth < _DEEPEST and kind == b"{":
        return _read_object(data, at, depth + 1)
    if depth < _DEEPEST and kind == b"[":
        return _read_array(data, at, depth + 1)
    raise ValueError(f"what begins at byte {at - 1} of {len(data)} is none of UBJSON's values")


def _read_object(data: bytes, at: int, depth: int) -> tuple[dict[str, Any], int]:
    values: dict[str, Any] = {}
    while data[at : at + 1] != b"}":
        key, at = _read_text(data, at)
        if key in values:
            raise ValueError(f"{key[:40]!r} is there twice")
        values[key], at = _read(data, at, depth)
    return values, at + 1


def _read_array(data: bytes, at: int, depth: int) -> tuple[Any, int]:
    if data[at : at + 1] == b"$":  # all of one type, and counted
        kind = data[at + 1 : at + 2]
        if data[at + 2 : at + 3] != b"#" or kind not in _NUMBERS:
            raise ValueError(f"the array at byte {at} of {len(data)} has no type and count")
        size, at = _read_length(data, at + 3)
        return _read_numbers(data, at, kind, size)
    values: list[Any] = []
    count: int | None = None
    if data[at : at + 1] == b"#":
        count, at = _read_length(data, at + 1)
    while len(values) < count if count is not None else data[at : at + 1] != b"]":
        value, at = _read(data, at, depth)
        values.append(value)
    return values, at + (count is None)


def _read_text(data: bytes, at: int) -> tuple[str, int]:
    length, at = _read_length(data, at)
    return data[at : at + length].decode(), at + length


def _read_length(data: bytes, at: int) -> tuple[int, int]:
    """XGBoost writes all lengths as 64-bit integers."""
    if data[at : at + 1] != b"L" or at + 9 > len(data):
        raise ValueError(f"byte {at} of {len(data)} begins no length")
    length = int(struct.unpack_from(">q", data, at + 1)[0])
    if not 0 <= length <= len(data) - at - 9:
        raise ValueError(f"byte {at} of {len(data)} asks for {length} more")
    return length, at + 9


def _read_numbers(data: bytes, at: int, kind: bytes, count: int) -> tuple[Any, int]:
    dtype = np.dtype(_NUMBERS[kind])
    end = at + count * dtype.itemsize
    if end > len(data):
        raise ValueError(f"{count} numbers at byte {at} go beyond the end, {len(data)}")
    return np.frombuffer(data, dtype, count, at), end
