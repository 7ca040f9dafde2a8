"""Rows as bytes: cut out of a request's buffers, keyed for the cache, put together as a model's arrays."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from common.errors import ModelError
from common.tensor import BYTES, Buffer, TensorSpec, elements, pack_elements, row_ends

Array = npt.NDArray[np.generic]

EXACT_KEY_BYTES = 64

NUMPY_TYPES: dict[str, Any] = {
    "BOOL": np.bool_, "INT8": np.int8, "INT16": np.int16, "INT32": np.int32, "INT64": np.int64,
    "UINT8": np.uint8, "UINT16": np.uint16, "UINT32": np.uint32, "UINT64": np.uint64,
    "FP16": np.float16, "FP32": np.float32, "FP64": np.float64,
    # NumPy has no bfloat16: its bits, in a dtype of their own that nothing takes for numbers.
    "BF16": np.dtype([("bfloat16", np.uint16)]),
    BYTES: np.object_,
}  # fmt: skip


class Rows:
    """The rows of one part: `count` of them, `columns[k][i]` the bytes of row i of input k."""

    __slots__ = ("_buffers", "_specs", "columns", "count")

    def __init__(self, specs: tuple[TensorSpec, ...], buffers: Sequence[Buffer], count: int) -> None:
        self.count = count
        self._specs = specs
        self._buffers = buffers
        self.columns = [_split(spec, buffer, count) for buffer, spec in zip(buffers, specs, strict=True)]

    def keys(self, signature: bytes, *, is_kept: bool = True) -> list[bytes]:
        """The cache's key of each row: its exact bytes where they are short, else a 128-bit digest of them.

        `signature` tells apart rows of equal bytes and unlike shape; it is empty where there are none, else
        as long as a digest, so that no exact key is as long as one. Rows of any size are all digested: an
        exact one could be what another's digest is. Of keys that are not kept none is: equal rows of batches
        that run now are told by their bytes for less.
        """
        keys = self.columns[0]
        if signature or len(self.columns) > 1:
            keys = [signature + b"".join(row) for row in zip(*self.columns, strict=True)]
        if (
            is_kept
            and keys
            and (len(keys[0]) > EXACT_KEY_BYTES or not all(spec.is_sized for spec in self._specs))
        ):
            return list(map(digest, keys))
        return keys

    def arrays(self, indexes: Collection[int]) -> list[Array]:
        """Writable arrays of shape (len(indexes), *row_shape), one per input, of the rows at `indexes`;
        as many indexes as there are rows have to be all of them in order."""
        arrays: list[Array] = []
        for spec, buffer, column in zip(self._specs, self._buffers, self.columns, strict=True):
            # A bytearray, not bytes: torch warns of memory that it must not write to.
            everything = len(indexes) == self.count
            data = bytearray(buffer) if everything else bytearray().join([column[i] for i in indexes])
            arrays.append(array_of(spec, data, len(indexes)))
        return arrays


def array_of(spec: TensorSpec, data: Buffer, rows: int) -> Array:
    """An array of shape (rows, *row_shape) over the data, or, of BYTES, of `bytes` objects."""
    if spec.is_sized:
        flat: Array = np.frombuffer(data, NUMPY_TYPES[spec.datatype])
    else:
        found = elements(data)
        flat = np.empty(len(found), np.object_)
        flat[:] = found
    return flat.reshape(rows, *spec.row_shape)


def rows_of(spec: TensorSpec, array: Array) -> list[bytes]:
    """The bytes of each row of an array of shape (n, *row_shape)."""
    if spec.is_sized:
        return split_rows(array.tobytes(), spec.row_bytes, len(array))
    return [
        pack_elements(map(_element, row)) for row in array.reshape(len(array), spec.row_elements).tolist()
    ]


def _element(value: object) -> bytes:
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, bytes):
        return value
    raise ModelError(f"the model answered with a {type(value).__name__} among its text")


def _split(spec: TensorSpec, buffer: Buffer, count: int) -> list[bytes]:
    if spec.is_sized:
        return split_rows(buffer, spec.row_bytes, count)
    data, bounds = bytes(buffer), [0, *row_ends(buffer, spec.row_elements, count)]
    return [data[start:end] for start, end in pairwise(bounds)]


def row_key(signature: bytes, columns: Sequence[bytes]) -> bytes:
    """The key that `Rows.keys` gives a row, of its bytes for each input."""
    key = columns[0] if not signature and len(columns) == 1 else signature + b"".join(columns)
    return key if len(key) <= EXACT_KEY_BYTES else digest(key)


def digest(data: bytes) -> bytes:
    """128 bits that stand for the data."""
    return hashlib.blake2b(data, digest_size=16).digest()


def split_rows(data: Buffer, width: int, count: int) -> list[bytes]:
    """`count` rows of `width` bytes each. NumPy cuts them five times as fast as slicing does (measured)."""
    if not width or not count:
        return [b""] * count
    rows: list[bytes] = np.frombuffer(data, _row_type(width)).tolist()
    return rows


@lru_cache(maxsize=256)
def _row_type(width: int) -> np.dtype[np.void]:
    return np.dtype((np.void, width))
