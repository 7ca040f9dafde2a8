"""Where a job's rows come from: what it was sent with, or a file. Everything here blocks.

A source is asked for rows from a position on, and says where it goes on behind them; so it can be opened anew
after a restart. A position is an offset in bytes (csv, jsonl) or a row's number.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, BinaryIO, Protocol

import msgspec

from common.errors import InvalidRequest
from common.media import row_of
from common.tensor import pack_elements
from gateway.doors.json import JsonReader
from gateway.doors.predict.inputs import Signature, Tensor
from gateway.doors.predict.media import decode_file, pack_text
from gateway.jobs.rows import Read, Row, split_rows, tensor_row, vector_row

MAX_LINE = 8 << 20
MAX_BYTES = 8 << 20  # of a chunk's rows
PARQUET = "pip install 'pipeline-inference[parquet]'"
_SHOWN = 40
_BATCH = 256


class Source(Protocol):
    """`total` rows, where that is known."""

    total: int | None

    def read(self, position: int, most: int) -> tuple[list[Read], int]:
        """(up to `most` rows from a position on, none at the end; where to go on)."""
        ...


class Sent:
    """Rows that a job was sent with."""

    def __init__(self, kept: bytes) -> None:
        self.total: int | None
        self._signature, self._buffers, self._rows = msgspec.msgpack.decode(
            kept, type=tuple[Signature, list[bytes], int]
        )
        self.total = self._rows

    def read(self, position: int, most: int) -> tuple[list[Read], int]:
        """From row `position` on."""
        count = min(most, self._rows - position)
        return split_rows(self._signature, self._buffers, position, count), position + count


def pack_sent(signature: Signature, buffers: Sequence[Any], rows: int) -> bytes:
    """What `Sent` reads."""
    return msgspec.msgpack.encode((signature, [bytes(buffer) for buffer in buffers], rows))


class Line(msgspec.Struct, forbid_unknown_fields=True):
    """A line of jsonl that is an object."""

    vector: list[float] | None = None
    inputs: list[Tensor] | None = None
    image: str | None = None
    audio: str | None = None
    text: str | list[str] | None = None


class Lines:
    """A file with a row in each line; empty lines are none."""

    total: int | None = None

    def __init__(self, file: BinaryIO, wanted: Signature) -> None:
        self._file = file
        self._wanted = wanted
        self._start = 0

    def read(self, position: int, most: int) -> tuple[list[Read], int]:
        """From byte `position` on."""
        at = max(position, self._start)
        self._file.seek(at)
        rows: list[Read] = []
        taken = 0
        while len(rows) < most and taken < MAX_BYTES:
            line, length = self._line()
            if not length:
                break
            at += length
            taken += length
            if line is None:
                rows.append(f"the line has more than {MAX_LINE} bytes")
            elif line.strip():
                rows.append(self._row(line))
        return rows, at

    def _line(self) -> tuple[bytes | None, int]:
        """(the next line, None if it is too long; its bytes in the file)."""
        line = self._file.readline(MAX_LINE)
        length = len(line)
        if length < MAX_LINE or line.endswith(b"\n"):
            return line, length
        while more := self._file.readline(MAX_LINE):
            length += len(more)
            if more.endswith(b"\n"):
                break
        return None, length

    def _row(self, line: bytes) -> Read:
        try:
            return self._parse(line)
        except InvalidRequest as error:
            return str(error)

    def _parse(self, line: bytes) -> Row:
        raise NotImplementedError


class JsonLines(Lines):
    """Each line a vector, `{"vector": …}`, `{"inputs": …}` with one row, `{"text": …}`, or `{"image": …}` or
    `{"audio": …}` with base64 of a file."""

    _decoder = msgspec.json.Decoder(list[float] | Line)

    def __init__(self, file: BinaryIO, wanted: Signature, json: JsonReader) -> None:
        super().__init__(file, wanted)
        self._json = json

    def _parse(self, line: bytes) -> Row:
        try:
            said = self._json.decode(line, self._decoder, "the line")
        except msgspec.DecodeError as error:
            raise InvalidRequest(f"the line is no row: {error}") from None
        if isinstance(said, list):
            return vector_row(said, self._wanted)
        given = [name for name in said.__struct_fields__ if getattr(said, name) is not None]
        if len(given) != 1:
            raise InvalidRequest(f"the line should hold one of {', '.join(said.__struct_fields__)}")
        (name,) = given
        if said.vector is not None:
            return vector_row(said.vector, self._wanted)
        if said.inputs is not None:
            return tensor_row(said.inputs)
        row = pack_text(said.text) if said.text is not None else decode_file(getattr(said, name), name)
        return Row(row_of(name), (pack_elements([row]),))


class CsvLines(Lines):
    """Each line a vector of numbers. The first is a header if `header` says so or it holds what is none."""

    def __init__(
        self, file: BinaryIO, wanted: Signature, columns: Sequence[str], header: bool | None
    ) -> None:
        super().__init__(file, wanted)
        file.seek(0)
        line, length = self._line()
        fields = _fields((line or b"").removeprefix(b"\xef\xbb\xbf"))
        has_header = header if header is not None else not all(map(_is_number, fields))
        self._start = length if has_header else 0
        names = fields if has_header else [str(n) for n in range(len(fields))]
        self._width = len(names)
        for name in columns:
            if name not in names:
                kind = "header has" if has_header else "columns are"
                raise InvalidRequest(f"there is no column {name!r}: the {kind} {', '.join(names)[:200]}")
        self._picked = [names.index(name) for name in columns]

    def _parse(self, line: bytes) -> Row:
        fields = _fields(line.removeprefix(b"\xef\xbb\xbf"))
        if len(fields) != self._width:
            raise InvalidRequest(f"the line has {len(fields)} fields, and the first has {self._width}")
        if self._picked:
            fields = [fields[n] for n in self._picked]
        try:
            vector = list(map(float, fields))
        except ValueError:
            wrong = next(field for field in fields if not _is_number(field))
            raise InvalidRequest(f"{wrong[:_SHOWN]!r} is not a number") from None
        return vector_row(_finite(vector), self._wanted)


def _fields(line: bytes) -> list[str]:
    try:
        return [field.strip() for field in next(csv.reader([line.decode().strip()]), [])]
    except (UnicodeDecodeError, csv.Error) as error:
        raise InvalidRequest(f"the line is no csv in UTF-8: {error}") from None


def _is_number(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True


def _finite(vector: list[float]) -> list[float]:
    if not math.isfinite(sum(vector)) and not all(map(math.isfinite, vector)):
        raise InvalidRequest("the row holds NaN or infinity: only finite numbers are allowed")
    return vector


class Parquet:
    """Each row a vector: the numbers and lists of its columns, one after the other."""

    def __init__(self, file: BinaryIO, wanted: Signature, columns: Sequence[str]) -> None:
        try:
            import pyarrow
            from pyarrow import parquet
        except ImportError:
            raise InvalidRequest(f"parquet takes its extra on the gateway: {PARQUET}") from None
        try:
            self._file = parquet.ParquetFile(file)
        except pyarrow.ArrowException as error:
            raise InvalidRequest(f"the input is no parquet file: {error}") from None
        names = self._file.schema_arrow.names
        if unknown := [name for name in columns if name not in names]:
            raise InvalidRequest(f"there is no column {unknown[0]!r}: there are {', '.join(names)[:200]}")
        self._columns = list(columns) or list(names)
        self._wanted = wanted
        self.total: int | None = self._file.metadata.num_rows
        self._at, self._rows = 0, self._from(0)

    def read(self, position: int, most: int) -> tuple[list[Read], int]:
        """From row `position` on."""
        if position != self._at:
            self._rows = self._from(position)
        rows = list(islice(self._rows, most))
        self._at = position + len(rows)
        return rows, self._at

    def _from(self, position: int) -> Iterator[Read]:
        first = 0
        for group in range(self._file.metadata.num_row_groups):
            count = self._file.metadata.row_group(group).num_rows
            if first + count > position:
                skipped = max(0, position - first)
                yield from islice(self._group(group), skipped, None)
            first += count

    def _group(self, group: int) -> Iterator[Read]:
        for batch in self._file.iter_batches(_BATCH, row_groups=[group], columns=self._columns):
            columns = [batch.column(name).to_pylist() for name in self._columns]
            yield from map(self._row, zip(*columns, strict=True))

    def _row(self, cells: tuple[Any, ...]) -> Read:
        vector = [value for cell in cells for value in (cell if isinstance(cell, list) else [cell])]
        if not all(isinstance(value, int | float) for value in vector):
            wrong = next(value for value in vector if not isinstance(value, int | float))
            return f"{str(wrong)[:_SHOWN]!r} is not a number"
        try:
            return vector_row(_finite([float(value) for value in vector]), self._wanted)
        except (InvalidRequest, OverflowError) as error:
            return str(error)
