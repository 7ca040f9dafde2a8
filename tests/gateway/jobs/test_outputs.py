"""Pure: gateway/jobs/outputs.py: answers as files of each format."""

from __future__ import annotations

import io

import pytest

from common.tensor import TensorSpec
from gateway.jobs.outputs import WRITERS

ONE = (TensorSpec("y", "FP32", (1,)),)
PAIR = (TensorSpec("y", "FP32", (2,)),)
SEVERAL = (TensorSpec("label", "INT64", ()), TensorSpec("p", "FP64", (2,)))
CHUNKS = {
    ONE: [[[[1.5]], "no, it is bad"], [[[2.5]]]],
    PAIR: [[[[1.5, 2.0]]], ["bad"]],
    SEVERAL: [[[[3], [0.5, 0.25]]]],
    (): [["bad", "worse"]],
}


def written(kind: str, outputs: tuple[TensorSpec, ...]) -> bytes:
    file = io.BytesIO()
    writer = WRITERS[kind](file, outputs)
    for results in CHUNKS[outputs]:
        writer.write(results)
    writer.close()
    return file.getvalue()


@pytest.mark.parametrize(
    ("outputs", "text"),
    [
        (ONE, 'row,result,error\n1,1.5,\n2,,"no, it is bad"\n3,2.5,\n'),
        (PAIR, "row,result_0,result_1,error\n1,1.5,2.0,\n2,,,bad\n"),
        (SEVERAL, "row,label,p_0,p_1,error\n1,3,0.5,0.25,\n"),
        ((), "row,result,error\n1,,bad\n2,,worse\n"),
    ],
)
def test_csv(outputs, text):
    assert written("csv", outputs).decode() == text


@pytest.mark.parametrize(
    ("outputs", "text"),
    [
        (ONE, '{"row":1,"result":1.5}\n{"row":2,"error":"no, it is bad"}\n{"row":3,"result":2.5}\n'),
        (PAIR, '{"row":1,"result":[1.5,2.0]}\n{"row":2,"error":"bad"}\n'),
        (SEVERAL, '{"row":1,"outputs":{"label":3,"p":[0.5,0.25]}}\n'),
        ((), '{"row":1,"error":"bad"}\n{"row":2,"error":"worse"}\n'),
    ],
)
def test_jsonl(outputs, text):
    assert written("jsonl", outputs).decode() == text


@pytest.mark.parametrize(
    ("outputs", "rows"),
    [
        (ONE, [(1, 1.5, None), (2, None, "no, it is bad"), (3, 2.5, None)]),
        (PAIR, [(1, [1.5, 2.0], None), (2, None, "bad")]),
        (SEVERAL, [(1, 3, [0.5, 0.25], None)]),
        ((), [(1, "bad"), (2, "worse")]),
    ],
)
def test_parquet(outputs, rows):
    parquet = pytest.importorskip("pyarrow.parquet")
    table = parquet.read_table(io.BytesIO(written("parquet", outputs)))
    assert table.column_names == [
        "row",
        *(["result"] if len(outputs) == 1 else [s.name for s in outputs]),
        "error",
    ]
    assert [tuple(row.values()) for row in table.to_pylist()] == rows
