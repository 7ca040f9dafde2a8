"""Unit: engine/inputs/json.py, documents as rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from common.errors import InvalidRequest
from common.tensor import TensorSpec
from engine.inputs.json import JsonDecoder

PAIR = (TensorSpec("x", "FP64", (2,)), TensorSpec("name", "BYTES", ()))


def arrays(data: bytes, *takes: TensorSpec) -> list[Any]:
    return [array.tolist() for array in JsonDecoder(takes or None).decode(data).arrays]


def test_a_document_is_the_row_of_one_input_or_an_object_of_all() -> None:
    matrix = TensorSpec("m", "INT64", (2, -1))
    assert arrays(b"[[1, 2, 3], [4, 5, 6]]", matrix) == [[[1, 2, 3], [4, 5, 6]]]
    assert arrays(b'{"m": [[1], [2]]}', matrix) == [[[1], [2]]]
    assert arrays(b'{"name": "a", "x": [1, 2.5]}', *PAIR) == [[1.0, 2.5], b"a"]


def test_a_model_that_nobody_knows_is_given_what_is_there() -> None:
    row = JsonDecoder(None).decode(b"[0.5, 1.5]")
    assert row.arrays[0].dtype == np.float32


def test_a_model_of_bytes_is_given_the_document_itself() -> None:
    assert arrays(b' {"any": ["thing"]}', TensorSpec("d", "BYTES", (1,))) == [[b' {"any": ["thing"]}']]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "the row is not JSON: "),
        (b"[1,", "the row is not JSON: "),
        (b"NaN", "the row is not JSON: "),
        (b"\xff", "the row is not JSON: "),
        (b"[" * 100_000, "the row is not JSON: "),
        (b'{"x": [1, 2]}', "the model takes inputs x, name, the features have x"),
        (b'{"x": [1], "name": "a"}', "x has shape [1], a row of the model's has [2]"),
        (b'{"x": ["a", "b"], "name": "a"}', "x holds "),
        (b'{"x": [1, 2], "name": 3}', "name takes bytes or text, not int"),
        (b"3", "the model takes 2 inputs: give a dict of x, name"),
    ],
)
def test_what_does_not_fit_is_a_sentence(data: bytes, said: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        arrays(data, *PAIR)
    assert str(caught.value).startswith(said)
