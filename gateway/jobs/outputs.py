"""A batch job's answers as the file that was asked for. Everything here blocks."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO

import msgspec

from common.tensor import TensorSpec
from gateway.jobs.job import Job
from gateway.jobs.rows import Result, plain

ROW, ERROR = "row", "error"
_ARROW = {
    "BOOL": "bool_", "FP32": "float32", "FP64": "float64",
    **{f"{sign}INT{bits}": f"{sign}int{bits}".lower() for sign in ("", "U") for bits in (8, 16, 32, 64)},
}  # fmt: skip

Chunks = Iterable[list[Result]]


def write_output(job: Job, chunks: Chunks, file: BinaryIO) -> None:
    """All answers of a job, in the order of their rows, which are counted from 1."""
    assert job.files is not None
    WRITERS[job.files.format](job.outputs, chunks, file)


def write_jsonl(outputs: tuple[TensorSpec, ...], chunks: Chunks, file: BinaryIO) -> None:
    """A line for each row: `{"row":1,"result":…}`, `{"row":1,"outputs":{…}}` of several, or `"error"`."""
    for number, result in _numbered(chunks):
        said: dict[str, Any] = {ROW: number}
        if isinstance(result, str):
            said[ERROR] = result
        elif len(outputs) == 1:
            said["result"] = plain(result[0])
        else:
            said["outputs"] = {s.name: plain(v) for s, v in zip(outputs, result, strict=True)}
        file.write(msgspec.json.encode(said) + b"\n")


def write_csv(outputs: tuple[TensorSpec, ...], chunks: Chunks, file: BinaryIO) -> None:
    """Columns row, result (result_0, result_1, … of several elements, or the outputs' names), error."""
    names = []
    for spec, name in zip(outputs, _names(outputs), strict=True):
        width = math.prod(spec.row_shape)
        names += [name] if width == 1 else [f"{name}_{n}" for n in range(width)]
    names = names or ["result"]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([ROW, *names, ERROR])
    for number, result in _numbered(chunks):
        if isinstance(result, str):
            writer.writerow([number, *[""] * len(names), result])
        else:
            writer.writerow([number, *(_cell(value) for output in result for value in output), ""])
        if text.tell() > 1 << 20:
            file.write(text.getvalue().encode())
            text.seek(0)
            text.truncate()
    file.write(text.getvalue().encode())


def write_parquet(outputs: tuple[TensorSpec, ...], chunks: Chunks, file: BinaryIO) -> None:
    """Columns row, result (or the outputs' names; a list where there are several elements), error."""
    import pyarrow
    from pyarrow import parquet

    fields = [(ROW, pyarrow.int64())]
    for spec, name in zip(outputs, _names(outputs), strict=True):
        kind = getattr(pyarrow, _ARROW[spec.datatype])()
        fields.append((name, kind if math.prod(spec.row_shape) == 1 else pyarrow.list_(kind)))
    schema = pyarrow.schema([*fields, (ERROR, pyarrow.string())])
    first = 1
    with parquet.ParquetWriter(file, schema) as writer:
        for results in chunks:
            columns: list[list[Any]] = [list(range(first, first + len(results)))]
            for at in range(len(outputs)):
                columns.append([None if isinstance(r, str) else plain(r[at]) for r in results])
            columns.append([r if isinstance(r, str) else None for r in results])
            writer.write_table(pyarrow.table(columns, schema=schema))
            first += len(results)


Writer = Callable[[tuple[TensorSpec, ...], Chunks, BinaryIO], None]
WRITERS: dict[str, Writer] = {"csv": write_csv, "jsonl": write_jsonl, "parquet": write_parquet}


def _names(outputs: tuple[TensorSpec, ...]) -> list[str]:
    return ["result"] if len(outputs) == 1 else [spec.name for spec in outputs]


def _cell(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _numbered(chunks: Chunks) -> Iterator[tuple[int, Result]]:
    return enumerate((result for chunk in chunks for result in chunk), 1)
