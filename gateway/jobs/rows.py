"""Rows on their way through a job: what was asked, what was answered, and how answers are kept. Pure.

A row that could not be read, or that the model refused, has a sentence in its place.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import msgspec
from pybase64 import b64encode_as_string

from common.errors import InvalidRequest
from common.tensor import Buffer, TensorSpec, element_ends, pack_vector, values, vector_spec
from gateway.doors.predict.inputs import Signature, Tensor, read_rows, read_tensors

NOT_FINITE = "the model's answer holds NaN or infinity, which JSON has no number for"


class Row(NamedTuple):
    """One row as it travels; `buffers` hold it alone."""

    signature: Signature
    buffers: tuple[Buffer, ...]


Read = Row | str  # a row, or why there is none
Result = list[list[Any]] | str  # the elements of each output, or why there are none


class Slice(NamedTuple):
    """Neighbouring rows of one signature that travel as one request; `at` are their places in the chunk."""

    at: Sequence[int]
    signature: Signature
    buffers: tuple[Buffer, ...]


class Answered(NamedTuple):
    """What a slice was answered, in how much of the model's time; the buffers are its own."""

    outputs: tuple[TensorSpec, ...]
    buffers: tuple[bytes, ...]
    infer: float = 0.0


def vector_row(vector: Sequence[float], wanted: Signature) -> Row:
    """A vector as a row of a model that takes `wanted`, or as float32 where that does not say."""
    fitted = read_rows([vector], wanted) if wanted else None
    if fitted is not None:
        return Row(fitted[0], fitted[1])
    return Row(vector_spec(len(vector)), (pack_vector(vector),))


def tensor_row(tensors: Sequence[Tensor]) -> Row:
    """Tensors of one row; `InvalidRequest` for those of several."""
    signature, buffers, rows = read_tensors(tensors)
    if rows != 1:
        raise InvalidRequest(f"inputs hold {rows} rows: a line is one row, so each shape begins with 1")
    return Row(signature, buffers)


def split_rows(signature: Signature, buffers: Sequence[Buffer], first: int, rows: int) -> list[Read]:
    """Rows `first` to `first + rows` of tensors that hold many."""
    columns = [
        _cut(spec, memoryview(buffer).cast("B"), first, rows)
        for spec, buffer in zip(signature, buffers, strict=True)
    ]
    return [Row(signature, own) for own in zip(*columns, strict=True)]


def _cut(spec: TensorSpec, buffer: memoryview, first: int, rows: int) -> list[memoryview]:
    """Each of these rows of one tensor."""
    if spec.is_sized:
        width = spec.row_bytes
        return [buffer[n * width : (n + 1) * width] for n in range(first, first + rows)]
    ends = [0, *element_ends(buffer)[spec.row_elements - 1 :: spec.row_elements]]
    return [buffer[ends[n] : ends[n + 1]] for n in range(first, first + rows)]


def size_of(row: Read) -> int:
    """Bytes that a row takes."""
    return 0 if isinstance(row, str) else sum(map(len, row.buffers))


def take_slice(rows: Sequence[Read], start: int, most: int) -> tuple[Slice | None, int]:
    """(up to `most` rows of one signature from the first row at or behind `start`, where to look on)."""
    at: list[int] = []
    signature: Signature = ()
    for n in range(start, len(rows)):
        row = rows[n]
        if isinstance(row, str):
            continue
        if len(at) == most or (at and row.signature != signature):
            return _joined(rows, at), n
        signature = row.signature
        at.append(n)
    return _joined(rows, at), len(rows)


def halves(rows: Sequence[Read], whole: Slice) -> list[Slice]:
    """The two halves of a slice of several rows."""
    middle = len(whole.at) // 2
    parts = (_joined(rows, part) for part in (whole.at[:middle], whole.at[middle:]))
    return [part for part in parts if part is not None]


def _joined(rows: Sequence[Read], at: Sequence[int]) -> Slice | None:
    taken = [row for n in at if not isinstance(row := rows[n], str)]
    if not taken:
        return None
    signature = taken[0].signature
    buffers = tuple(b"".join([row.buffers[i] for row in taken]) for i in range(len(signature)))
    return Slice(at, signature, buffers)


def results_of(answered: Answered, rows: int) -> list[Result]:
    """What each row of a slice was answered."""
    columns = []
    for spec, buffer in zip(answered.outputs, answered.buffers, strict=True):
        flat, width = values(buffer, spec.datatype), math.prod(spec.row_shape)
        if not spec.is_sized:
            flat = [_as_text(element) for element in flat]
        columns.append([flat[n * width : (n + 1) * width] for n in range(rows)])
    return [_finite(list(result)) for result in zip(*columns, strict=True)]


def _finite(result: list[list[Any]]) -> Result:
    numbers = (value for output in result for value in output if not isinstance(value, str))
    return result if all(map(math.isfinite, numbers)) else NOT_FINITE


def _as_text(element: bytes) -> str:
    """An element of BYTES as JSON has it: text, or base64 of what is none, as an image."""
    try:
        return element.decode()
    except UnicodeDecodeError:
        return b64encode_as_string(element)


def pack_results(results: Iterable[Result]) -> bytes:
    """Results as they are kept: a line of JSON each."""
    return b"".join(msgspec.json.encode(result) + b"\n" for result in results)


def unpack_results(kept: bytes) -> Iterator[Result]:
    """The results of a chunk."""
    decode = msgspec.json.Decoder(list[list[Any]] | str).decode
    return (decode(line) for line in kept.splitlines())


def plain(output: Sequence[Any]) -> Any:
    """One output of a row as v1 says it: a number where it is one, else a list."""
    return output[0] if len(output) == 1 else output
