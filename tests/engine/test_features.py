"""Pure: engine/features.py: what users give as a row, and what they get."""

import struct

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from common.errors import InvalidRequest
from common.tensor import TensorSpec
from engine.features import FeatureReader, prediction, predictions

VECTOR = (TensorSpec("vector", "FP32", (2,)),)
IMAGE = (TensorSpec("image", "UINT8", (2, 2)),)
FREE = (TensorSpec("text", "INT64", (-1,)),)
TWO = (TensorSpec("a", "FP32", (1,)), TensorSpec("b", "INT64", (2,)))


@pytest.mark.parametrize(
    "features",
    [
        [0.5, 2],
        (0.5, 2.0),
        [np.float64(0.5), True + 1],
        np.array([0.5, 2.0]),
        np.array([0.5, 2.0], np.float32),
        torch.tensor([0.5, 2.0]),
        {"vector": [0.5, 2.0]},
        range(2),
    ],
)
def test_whatever_numpy_makes_an_array_of_is_a_row(features) -> None:
    inputs, columns = FeatureReader(VECTOR).row(features)
    expected = (0.0, 1.0) if isinstance(features, range) else (0.5, 2.0)
    assert (inputs, columns) == (VECTOR, [struct.pack("<2f", *expected)])


def test_numbers_become_the_inputs_dtype_and_nested_lists_its_shape() -> None:
    assert FeatureReader(IMAGE).row([[1, 2.0], [True, 255]]) == (IMAGE, [bytes([1, 2, 1, 255])])


def test_free_dimensions_are_those_of_the_row() -> None:
    inputs, columns = FeatureReader(FREE).row([1, 2, 3])
    assert inputs == (TensorSpec("text", "INT64", (3,)),)
    assert columns == [struct.pack("<3q", 1, 2, 3)]


def test_several_inputs_are_a_dict_in_any_order() -> None:
    inputs, columns = FeatureReader(TWO).row({"b": [1, 2], "a": [0.5]})
    assert (inputs, columns) == (TWO, [struct.pack("<f", 0.5), struct.pack("<2q", 1, 2)])


def test_where_nobody_knows_the_inputs_they_are_what_the_features_are() -> None:
    inputs, columns = FeatureReader(None).row([1, 2])
    assert (inputs, columns) == ((TensorSpec("input", "INT64", (2,)),), [struct.pack("<2q", 1, 2)])
    inputs, _ = FeatureReader(None).row({"x": [0.5], "y": True, "z": np.array([0.5])})
    assert inputs == (
        TensorSpec("x", "FP32", (1,)),
        TensorSpec("y", "BOOL", ()),
        TensorSpec("z", "FP64", (1,)),
    )
    with pytest.raises(InvalidRequest, match="which FP32 cannot hold"):
        FeatureReader(None).row([1e39])
    with pytest.raises(InvalidRequest, match="float128, which no model is given"):
        FeatureReader(None).row(np.zeros(2, np.longdouble))
    with pytest.raises(InvalidRequest, match="x takes bytes or text, not int"):
        FeatureReader((TensorSpec("x", "BYTES", (1,)),)).row([1])


@pytest.mark.parametrize(
    ("inputs", "features", "sentence"),
    [
        (VECTOR, [1], "vector has shape [1], a row of the model's has [2]"),
        (VECTOR, [[1, 2]], "vector has shape [1, 2], a row of the model's has [2]"),
        (VECTOR, 1.0, "vector has shape [], a row of the model's has [2]"),
        (VECTOR, ["a", "b"], "vector holds <U1, not numbers"),
        (VECTOR, [None, 1], "vector holds object, not numbers"),
        (VECTOR, [1e39, 1], "vector holds np.float64(1e+39), which FP32 cannot hold"),
        (VECTOR, {"x": [1, 2]}, "the model takes inputs vector, the features have x"),
        (IMAGE, [[1, 2], [3, 256]], "image holds np.int64(256), which UINT8 cannot hold"),
        (IMAGE, [[1, 2], [3, 0.5]], "image holds np.float64(0.5), which UINT8 cannot hold"),
        (IMAGE, [[1, 2], [3, float("nan")]], "image holds np.float64(nan), which UINT8 cannot hold"),
        (FREE, [[1]], "text has shape [1, 1], a row of the model's has [-1]"),
        (TWO, [1, 2], "the model takes 2 inputs: give a dict of a, b"),
        (TWO, {"a": [1]}, "the model takes inputs a, b, the features have a"),
    ],
)
def test_features_that_do_not_fit_are_refused_in_words(inputs, features, sentence) -> None:
    with pytest.raises(InvalidRequest) as raised:
        FeatureReader(inputs).row(features)
    assert str(raised.value) == sentence


def test_ragged_features_are_refused() -> None:
    with pytest.raises(InvalidRequest, match=r"^image is not an array of numbers: "):
        FeatureReader(IMAGE).row([[1, 2], [3]])


@given(st.lists(st.floats(width=32), min_size=2, max_size=2))
def test_every_float32_goes_in_as_it_is_by_either_way(row) -> None:
    reader = FeatureReader(VECTOR)
    assert reader.row(row)[1] == reader.row(np.array(row, np.float32))[1] == [struct.pack("<2f", *row)]


def test_rows_that_are_one_array_are_read_as_one() -> None:
    reader = FeatureReader(VECTOR)
    array = reader.rows([[1, 2], [3, 4]])
    assert array is not None
    assert (array.dtype, array.tolist()) == (np.float32, [[1, 2], [3, 4]])
    assert reader.rows([[1, 2], [3]]) is None
    assert reader.rows([1, 2]) is None
    assert reader.rows([[1, 1e39]]) is None
    assert FeatureReader(FREE).rows([[1]]) is None


def test_one_number_is_a_number_and_anything_else_an_array_of_ones_own() -> None:
    data = struct.pack("<4f", 1, 2, 3, 4)
    for shape in ((), (1,)):
        assert predictions((TensorSpec("y", "FP32", shape),), [data], 4) == [1.0, 2.0, 3.0, 4.0]
    first, second = predictions((TensorSpec("y", "FP32", (2,)),), [data], 2)
    assert (first.dtype, first.tolist(), second.tolist()) == (np.float32, [1, 2], [3, 4])
    first[:] = 9
    assert second.tolist() == [3, 4]
    assert predictions((TensorSpec("y", "BOOL", ()),), [b"\1\0"], 2) == [True, False]


def test_several_outputs_are_a_dict_by_name() -> None:
    layout = (TensorSpec("label", "INT64", ()), TensorSpec("chances", "FP64", (2,)))
    labels, chances = struct.pack("<2q", 7, 8), struct.pack("<4d", 0.25, 0.75, 0.5, 0.5)
    first, second = predictions(layout, [labels, chances], 2)
    assert (first["label"], first["chances"].tolist()) == (7, [0.25, 0.75])
    assert (second["label"], second["chances"].tolist()) == (8, [0.5, 0.5])
    one = prediction(layout, labels[:8] + chances[:16])
    assert (one["label"], one["chances"].tolist()) == (7, [0.25, 0.75])
