"""Pure: gateway/jobs/sources.py over files in memory: rows from any position on, and what is none."""

from __future__ import annotations

import io
from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import InvalidRequest
from common.tensor import floats, vector_spec
from gateway.doors.json import JsonReader
from gateway.jobs import sources
from gateway.jobs.rows import Read
from gateway.jobs.sources import CsvLines, JsonLines, Parquet, Sent, Source, pack_sent


def shown(row: Read) -> object:
    return row if isinstance(row, str) else floats(row.buffers[0]).tolist()


def read_all(source: Source, most: int = 1000, position: int = 0) -> list[object]:
    rows: list[Read] = []
    while True:
        more, after = source.read(position, most)
        rows += more
        if not more and after == position:
            return [shown(row) for row in rows]
        position = after


def csv_of(text: str | bytes, *, columns: tuple[str, ...] = (), header: bool | None = None) -> CsvLines:
    data = text.encode() if isinstance(text, str) else text
    return CsvLines(io.BytesIO(data), (), columns, header)


def jsonl_of(text: str) -> JsonLines:
    return JsonLines(io.BytesIO(text.encode()), (), JsonReader())


def test_csv_with_a_header_or_without():
    assert read_all(csv_of("1,2\n3,4\n")) == [[1, 2], [3, 4]]
    assert read_all(csv_of("a,b\n3,4")) == [[3, 4]]
    assert read_all(csv_of("\ufeffa,b\r\n3, 4\r\n\r\n\r\n5,6")) == [[3, 4], [5, 6]]
    assert read_all(csv_of("1,2\n3,4\n", header=True)) == [[3, 4]]
    assert read_all(csv_of("")) == []


def test_columns_of_csv_are_named_by_the_header_or_counted_from_0():
    assert read_all(csv_of("id,b,a\nx,2,3\n", columns=("a", "b"))) == [[3, 2]]
    assert read_all(csv_of("7,2,3\n", columns=("2",))) == [[3]]
    with pytest.raises(InvalidRequest, match="there is no column 'c': the header has id, b, a"):
        csv_of("id,b,a\n", columns=("c",))


def test_a_bad_line_of_csv_is_a_sentence_and_the_next_one_is_read():
    assert read_all(csv_of(b'1,2\n1\n1,x\nnan,1\n\xff,1\n1,"2\n"3",4\n', header=False)) == [
        [1, 2],
        "the line has 1 fields, and the first has 2",
        "'x' is not a number",
        "the row holds NaN or infinity: only finite numbers are allowed",
        "the line is no csv in UTF-8: 'utf-8' codec can't decode byte 0xff in position 0: invalid start byte",
        [1, 2],
        [3, 4],
    ]


def test_jsonl_holds_vectors_objects_with_one_or_tensors():
    tensors = '{"inputs":[{"name":"x","datatype":"FP32","shape":[1,2],"data":[5,6]}]}'
    assert read_all(jsonl_of(f'[1,2]\n\n{{"vector":[3,4]}}\n{tensors}')) == [[1, 2], [3, 4], [5, 6]]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{", "the line is no row: Input data was truncated"),
        ("[1,null]", "the line is no row: Expected `float`, got `null` - at `$[1]`"),
        ("{}", "the line should hold one of vector, inputs, image, audio, text"),
        ('{"vctor":[1]}', "the line is no row: Object contains unknown field `vctor`"),
        ("[1e39]", "vector[0] is 1e+39, beyond float32's range of ±3.4e38"),
        ("[" * 100_000, "the line is no row: Expected `float`, got `array` - at `$[0]`"),
        (
            '{"inputs":[{"name":"x","datatype":"FP32","shape":[1,1],"data":'
            + "[" * 99
            + "1"
            + "]" * 99
            + "}]}",
            "the line is nested too deeply: ",
        ),
    ],
)
def test_a_bad_line_of_jsonl_is_a_sentence(line, problem):
    bad, good = read_all(jsonl_of(f"{line}\n[1]\n"))
    assert str(bad).startswith(problem)
    assert good == [1]


def test_a_line_without_end_is_an_error_of_its_own_and_takes_no_memory(monkeypatch):
    monkeypatch.setattr(sources, "MAX_LINE", 10)
    assert read_all(jsonl_of(f"[1]\n[{'1,' * 50}1]\n[2]")) == [[1], "the line has more than 10 bytes", [2]]


def test_a_chunk_ends_where_its_rows_are_many_bytes(monkeypatch):
    monkeypatch.setattr(sources, "MAX_BYTES", 10)
    rows, position = jsonl_of("[1,2,3]\n[4,5,6]\n[7,8,9]\n").read(0, 100)
    assert ([shown(row) for row in rows], position) == ([[1, 2, 3], [4, 5, 6]], 16)


@given(
    lines=st.lists(st.sampled_from(["1,2", "x,2", "", "3,4", '"5",6']), max_size=20),
    cuts=st.lists(st.integers(1, 4), min_size=1, max_size=5),
)
def test_a_file_that_is_opened_anew_for_each_chunk_gives_the_same_rows(lines, cuts):
    text = "a,b\n" + "\n".join(lines)
    rows: list[object] = []
    position, n = 0, 0
    while True:
        more, after = csv_of(text).read(position, cuts[n % len(cuts)])
        if not more and after == position:
            break
        rows += [shown(row) for row in more]
        position, n = after, n + 1
    assert rows == read_all(csv_of(text))


def test_rows_that_were_sent_are_read_from_any_row_on():
    source = Sent(pack_sent(vector_spec(1), (array("f", range(10)).tobytes(),), 10))
    assert source.total == 10
    assert read_all(source, most=3, position=4) == [[n] for n in range(4, 10)]


def parquet_of(columns: dict[str, list[object]], *, pick: tuple[str, ...] = (), group: int = 4) -> Parquet:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    file = io.BytesIO()
    parquet.write_table(pyarrow.table(columns), file, row_group_size=group)
    return Parquet(file, (), pick)


def test_parquet_is_read_by_columns_from_any_row_on():
    numbers = [float(n) for n in range(10)]
    source = parquet_of({"id": [str(n) for n in range(10)], "b": numbers, "a": numbers}, pick=("a", "b"))
    assert source.total == 10
    assert read_all(source, most=3) == [[n, n] for n in numbers]
    assert read_all(source, most=3, position=5) == [[n, n] for n in numbers[5:]]
    with pytest.raises(InvalidRequest, match="there is no column 'c': there are id, b, a"):
        parquet_of({"id": [1], "b": [1], "a": [1]}, pick=("c",))


def test_parquet_lists_are_vectors_and_what_is_no_number_is_a_sentence():
    assert read_all(parquet_of({"x": [[1.0, 2.0], None, [3.0, None], []]}))[:3] == [
        [1, 2],
        "'None' is not a number",
        "'None' is not a number",
    ]
    with pytest.raises(InvalidRequest, match="the input is no parquet file"):
        Parquet(io.BytesIO(b"PAR1 it says"), (), ())
