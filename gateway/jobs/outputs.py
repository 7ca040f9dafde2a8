"""A batch job's answers as the file that was asked for. Everything here blocks."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable
from typing import Any, BinaryIO, Protocol

import msgspec

from gateway.doors.predict.inputs import Signature
from gateway.jobs.rows import Result, plain

ROW, ERROR = "row", "error"
_GROUP = 10_000  # rows of a group in parquet
_ARROW = {
    "BOOL": "bool_", "BYTES": "string", "FP32": "float32", "FP64": "float64",
    **{f"{sign}INT{bits}": f"{sign}int{bits}".lower() for sign in ("", "U") for bits in (8, 16, 32, 64)},
}  # fmt: skip


class Writer(Protocol):
    """Writes answers in the order of their rows, counted from 1. Closing it leaves the file open."""

    def __init__(self, file: BinaryIO, outputs: Signature) -> None: ...

    def write(self, results: list[Result]) -> None: ...

    def close(self) -> None: ...


class JsonLinesWriter:
    """A line for each row: `{"row":1,"result":…}`, `{"row":1,"outputs":{…}}` of several, or `"error"`."""

    def __init__(self, file: BinaryIO, outputs: Signature) -> None:
        self._file = file
        self._outputs = outputs
        self._row = 0

    def write(self, results: list[Result]) -> None:
        """The next rows."""
        self._file.write(b"".join(map(self._line, results)))

    def close(self) -> None:
        """Nothing more comes."""

    def _line(self, result: Result) -> bytes:
        self._row += 1
        said: dict[str, Any] = {ROW: self._row}
        if isinstance(result, str):
            said[ERROR] = result
        elif len(self._outputs) == 1:
            said["result"] = plain(result[0])
        else:
            said["outputs"] = {s.name: plain(v) for s, v in zip(self._outputs, result, strict=True)}
        return msgspec.json.encode(said) + b"\n"


class CsvWriter:
    """Columns row, result (result_0, result_1, … of several elements, or the outputs' names), error."""

    def __init__(self, file: BinaryIO, outputs: Signature) -> None:
        self._file = file
        self._row = 0
        names = []
        for spec, name in zip(outputs, _names(outputs), strict=True):
            width = math.prod(spec.row_shape)
            names += [name] if width == 1 else [f"{name}_{n}" for n in range(width)]
        self._width = len(names or ["result"])
        self._write([[ROW, *(names or ["result"]), ERROR]])

    def write(self, results: list[Result]) -> None:
        """The next rows."""
        self._write(map(self._cells, results))

    def close(self) -> None:
        """Nothing more comes."""

    def _cells(self, result: Result) -> list[str]:
        self._row += 1
        if isinstance(result, str):
            return [str(self._row), *[""] * self._width, result]
        cells = (msgspec.json.encode(value).decode() for output in result for value in output)
        return [str(self._row), *cells, ""]

    def _write(self, lines: Iterable[list[str]]) -> None:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(lines)
        self._file.write(text.getvalue().encode())


class ParquetWriter:
    """Columns row, result (or the outputs' names; a list where there are several elements), error."""

    def __init__(self, file: BinaryIO, outputs: Signature) -> None:
        import pyarrow  # an extra, which was needed to read the input
        from pyarrow import parquet

        fields = [(ROW, pyarrow.int64())]
        for spec, name in zip(outputs, _names(outputs), strict=True):
            kind = getattr(pyarrow, _ARROW[spec.datatype])()
            fields.append((name, kind if math.prod(spec.row_shape) == 1 else pyarrow.list_(kind)))
        self._pyarrow = pyarrow
        self._schema = pyarrow.schema([*fields, (ERROR, pyarrow.string())])
        self._writer = parquet.ParquetWriter(file, self._schema)
        self._outputs = len(outputs)
        self._row = 0
        self._waiting: list[Result] = []

    def write(self, results: list[Result]) -> None:
        """The next rows."""
        self._waiting += results
        if len(self._waiting) >= _GROUP:
            self._flush()

    def close(self) -> None:
        """Nothing more comes."""
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        results, self._waiting = self._waiting, []
        columns: list[list[Any]] = [list(range(self._row + 1, self._row + 1 + len(results)))]
        for at in range(self._outputs):
            columns.append([None if isinstance(r, str) else plain(r[at]) for r in results])
        columns.append([r if isinstance(r, str) else None for r in results])
        self._writer.write_table(self._pyarrow.table(columns, schema=self._schema))
        self._row += len(results)


WRITERS: dict[str, type[Writer]] = {"csv": CsvWriter, "jsonl": JsonLinesWriter, "parquet": ParquetWriter}


def _names(outputs: Signature) -> list[str]:
    return ["result"] if len(outputs) == 1 else [spec.name for spec in outputs]
