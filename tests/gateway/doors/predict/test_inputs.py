"""Pure: gateway/doors/predict/inputs.py; rows of clients as the buffers that travel, or a sentence."""

from __future__ import annotations

import json
import math
import struct
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import InvalidRequest, TooLarge
from common.tensor import DATATYPES, TensorSpec, row_ends, values
from gateway.doors.json import JsonReader
from gateway.doors.predict.inputs import MAX_ELEMENTS, Tensor, pack, read_rows, read_tensors
from gateway.doors.predict.predict import read_body

RANGES = {
    "INT8": (-128, 127),
    "INT16": (-32768, 32767),
    "INT32": (-2147483648, 2147483647),
    "INT64": (-9223372036854775808, 9223372036854775807),
    "UINT8": (0, 255),
    "UINT16": (0, 65535),
    "UINT32": (0, 4294967295),
    "UINT64": (0, 18446744073709551615),
}
ELEMENTS: dict[str, st.SearchStrategy[Any]] = {
    "BOOL": st.booleans(),
    "FP32": st.floats(width=32, allow_nan=False, allow_infinity=False),
    "FP64": st.floats(allow_nan=False, allow_infinity=False),
    **{name: st.integers(*limits) for name, limits in RANGES.items()},
}
BINARY_ONLY = {"FP16", "BF16"}
JSON_DATATYPES = [name for name in DATATYPES if name not in BINARY_ONLY]


def tensor(data: list[Any], *shape: int, datatype: str = "FP32", name: str = "x") -> Tensor:
    return Tensor(name, datatype, list(shape), data)


def refusal(*tensors: Tensor) -> str:
    with pytest.raises(InvalidRequest) as caught:
        read_tensors(tensors)
    return str(caught.value)


def nested(flat: list[Any], shape: list[int]) -> list[Any]:
    if len(shape) == 1:
        return flat
    size = math.prod(shape[1:])
    return [nested(flat[i * size : (i + 1) * size], shape[1:]) for i in range(shape[0])]


# --- elements


def test_every_datatype_is_tried_here() -> None:
    assert ELEMENTS.keys() | BINARY_ONLY == DATATYPES.keys()


@pytest.mark.parametrize("datatype", ELEMENTS)
@given(data=st.data())
def test_what_is_packed_comes_back_as_it_was(datatype: str, data: st.DataObject) -> None:
    flat = data.draw(st.lists(ELEMENTS[datatype], max_size=20))
    packed = pack(flat, datatype, "x")
    assert len(packed) == len(flat) * DATATYPES[datatype].itemsize
    assert values(packed, datatype) == flat


@pytest.mark.parametrize("datatype", RANGES)
@given(data=st.data())
def test_whole_numbers_are_taken_however_they_are_written(datatype: str, data: st.DataObject) -> None:
    least, most = (max(limit, -(2**53)) if limit < 0 else min(limit, 2**53) for limit in RANGES[datatype])
    flat = data.draw(st.lists(st.integers(least, most), max_size=20))
    assert pack([float(value) for value in flat], datatype, "x") == pack(flat, datatype, "x")


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]))))
def test_text_is_packed_with_its_lengths(flat: list[str]) -> None:
    packed = pack(flat, "BYTES", "x")
    assert len(packed) == sum(4 + len(text.encode()) for text in flat)
    assert [element.decode() for element in values(packed, "BYTES")] == flat


@pytest.mark.parametrize("datatype", sorted(BINARY_ONLY))
def test_a_datatype_that_json_has_no_form_for_is_refused(datatype: str) -> None:
    assert refusal(tensor([1.0], 1, datatype=datatype)) == (
        f"input x: {datatype} has no form in JSON: send it as binary data of the Open Inference Protocol"
    )


def test_buffers_are_little_endian() -> None:
    assert pack([1, -2], "INT32", "x") == b"\x01\0\0\0\xfe\xff\xff\xff"
    assert pack([1.5], "FP64", "x") == struct.pack("<d", 1.5)


def test_truth_is_a_number_too_and_0_and_1_are_truth() -> None:
    assert pack([True, False], "FP32", "x") == struct.pack("<2f", 1, 0)
    assert pack([True, False], "INT8", "x") == b"\1\0"
    assert pack([1, 0, 1.0], "BOOL", "x") == b"\1\0\1"


def test_large_numbers_whose_sum_is_beyond_all_are_no_fault() -> None:
    assert values(pack([1e308, 1e308], "FP64", "x"), "FP64") == [1e308, 1e308]


@pytest.mark.parametrize("datatype", RANGES)
@pytest.mark.parametrize("over", [False, True])
def test_a_number_beyond_its_datatype_is_named_with_the_range(datatype: str, over: bool) -> None:
    least, most = RANGES[datatype]
    value = most + 1 if over else least - 1
    said = refusal(tensor([0, value], 2, datatype=datatype))
    assert said == f"input x[1] is {value}, beyond {datatype}'s {least} to {most}"


@pytest.mark.parametrize(
    ("datatype", "value", "sentence"),
    [
        ("FP32", "1", "input x[1] is '1', not a number"),
        ("FP64", None, "input x[1] is None, not a number"),
        ("FP32", {"a": 1}, "input x[1] is {'a': 1}, not a number"),
        ("FP32", math.nan, "input x[1] is nan: only finite numbers in range are allowed"),
        ("FP64", math.inf, "input x[1] is inf: only finite numbers in range are allowed"),
        ("FP64", -math.inf, "input x[1] is -inf: only finite numbers in range are allowed"),
        ("FP32", 1e39, "input x[1] is 1e+39: only finite numbers in range are allowed"),
        ("FP64", 10**400, "input x holds a number that is too large"),
        ("INT64", "1", "input x[1] is '1', and INT64 takes whole numbers"),
        ("INT64", None, "input x[1] is None, and INT64 takes whole numbers"),
        ("UINT8", 1.5, "input x[1] is 1.5, and UINT8 takes whole numbers"),
        ("INT8", math.nan, "input x[1] is nan, and INT8 takes whole numbers"),
        ("INT32", math.inf, "input x[1] is inf, and INT32 takes whole numbers"),
        ("BOOL", 2, "input x: BOOL takes true and false only"),
        ("BOOL", "true", "input x[1] is 'true', and BOOL takes whole numbers"),
        ("BYTES", 1, "input x[0] is 1, and BYTES takes text"),
        (
            "TEXT",
            "a",
            f"input x: datatype 'TEXT' is not known: use one of {', '.join([*JSON_DATATYPES, 'BYTES'])}",
        ),
    ],
)
def test_an_element_that_is_none_is_named(datatype: str, value: Any, sentence: str) -> None:
    assert refusal(tensor([1, value], 2, datatype=datatype)) == sentence


@pytest.mark.parametrize("datatype", ["FP32", "INT32", "UINT64"])
def test_what_a_client_sent_is_not_sent_back_whole(datatype: str) -> None:
    for value in ("a" * 100_000, 10**4000):
        assert len(refusal(tensor([1, value], 2, datatype=datatype))) < 300


@given(
    st.sampled_from([*DATATYPES, "BYTES", ""]),
    st.lists(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.just({}),
        max_size=6,
    ),
)
def test_any_elements_are_packed_or_refused_with_a_sentence_about_them(
    datatype: str, flat: list[Any]
) -> None:
    try:
        packed = pack(flat, datatype, "x")
    except InvalidRequest as error:
        assert str(error).startswith("x")  # noqa: PT017 - either is right
    else:
        assert len(values(packed, datatype)) == len(flat)


# --- tensors


def test_tensors_have_their_rows_in_front() -> None:
    signature, buffers, rows = read_tensors(
        [tensor([1, 2, 3, 4, 5, 6], 2, 3), tensor([7, 8], 2, name="ids", datatype="INT64")]
    )
    assert signature == (TensorSpec("x", "FP32", (3,)), TensorSpec("ids", "INT64", ()))
    assert buffers == (struct.pack("<6f", 1, 2, 3, 4, 5, 6), struct.pack("<2q", 7, 8))
    assert rows == 2


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4))
def test_data_may_be_nested_as_its_shape_is_or_flat(shape: list[int]) -> None:
    flat = list(range(math.prod(shape)))
    expected = read_tensors([tensor(flat, *shape)])
    assert read_tensors([tensor(nested(flat, shape), *shape)]) == expected
    assert expected[2] == shape[0]


def test_deep_nesting_costs_no_stack() -> None:
    data: list[Any] = [1.0]
    for _ in range(100_000):
        data = [data]
    assert read_tensors([tensor(data, 1, 1)])[1] == (struct.pack("<f", 1),)


def test_empty_lists_hold_nothing() -> None:
    assert read_tensors([tensor([[], [1], [[], 2], []], 2)])[1] == (struct.pack("<2f", 1, 2),)


@pytest.mark.parametrize(
    ("tensors", "sentence"),
    [
        ([], "inputs is empty: give at least one tensor"),
        (
            [tensor([1], 1), tensor([2], 1)],
            "inputs have the same name twice: x, x",
        ),
        (
            [tensor([1, 2], 3)],
            "input x: shape [3] takes 3 elements, and data has 2",
        ),
        (
            [tensor([[1, 2], [3, 4], [5]], 2, 2)],
            "input x: shape [2, 2] takes 4 elements, and data has 5",
        ),
    ],
)
def test_tensors_that_do_not_fit_are_refused_with_a_sentence(tensors: list[Tensor], sentence: str) -> None:
    assert refusal(*tensors) == sentence


@pytest.mark.parametrize("shape", [[-1], [1, -1], [1, 0, 2**31], [1, 0, 10**4000], [1] * 33])
def test_dimensions_that_no_tensor_has_are_refused_before_they_cost_anything(shape: list[int]) -> None:
    assert refusal(tensor([], *shape)) == (
        "input x: a shape has at most 32 dimensions, each from 0 to 2147483647"
    )


@pytest.mark.parametrize(
    ("first", "second"),
    [([], [1]), ([0], [0]), ([2], [1]), ([1], [2]), ([1], [])],
)
def test_all_inputs_have_the_same_rows_and_at_least_one(first: list[int], second: list[int]) -> None:
    def data(shape: list[int]) -> list[int]:
        return [0] * abs(math.prod(shape))

    said = refusal(tensor(data(first), *first), tensor(data(second), *second, name="y"))
    at_fault = "y" if first == [1] or first == [2] else "x"
    shape = second if at_fault == "y" else first
    assert said == (
        f"input {at_fault}: shape {shape} should begin with the number of rows, the same for all inputs and"
        " at least 1"
    )


@given(
    st.recursive(
        st.none() | st.integers() | st.floats() | st.text(max_size=3), lambda each: st.lists(each, max_size=3)
    ).map(lambda each: [each]),
    st.lists(st.integers(-1, 3), max_size=3),
    st.sampled_from([*DATATYPES, "BYTES"]),
)
def test_whatever_comes_as_a_tensor_is_read_or_refused(
    data: list[Any], shape: list[int], datatype: str
) -> None:
    try:
        (spec,), (buffer,), rows = read_tensors([tensor(data, *shape, datatype=datatype)])
    except InvalidRequest as error:
        assert str(error).startswith("input x")  # noqa: PT017 - either is right
    else:
        assert [rows, *spec.row_shape] == shape
        size = rows * spec.row_bytes if spec.is_sized else row_ends(buffer, spec.row_elements, rows)[-1]
        assert len(buffer) == size


@pytest.mark.parametrize("digits", [20, 400, 5000])
def test_a_number_of_any_length_in_a_body_is_refused_with_a_sentence(digits: int) -> None:
    for datatype in ("INT64", "FP32"):
        body = {"name": "x", "datatype": datatype, "shape": [1], "data": [0]}
        raw = json.dumps({"inputs": [body]}).replace("[0]", f"[{'9' * digits}]").encode()
        try:
            (sent,) = read_body(raw, JsonReader()).inputs or []
            read_tensors([sent])
        except InvalidRequest as error:
            assert len(str(error)) < 300  # noqa: PT017 - float32 takes 20 digits
        else:
            assert (digits, datatype) == (20, "FP32")


def test_a_tensor_without_a_part_is_refused_with_its_name() -> None:
    with pytest.raises(msgspec.ValidationError, match="missing required field `datatype`"):
        msgspec.convert({"name": "x", "shape": [1], "data": [1]}, Tensor)


# --- plain vectors for a model whose signature is known

PIXELS = (TensorSpec("image", "UINT8", (2, 2)),)


def test_vectors_become_rows_of_the_models_one_input() -> None:
    assert read_rows([[1, 2, 3, 4], [5, 6, 7, 8]], PIXELS) == (PIXELS, (bytes(range(1, 9)),), 2)


@pytest.mark.parametrize(
    "signature",
    [(), (*PIXELS, *PIXELS), (TensorSpec("x", "FP32", (-1,)),)],
    ids=["unknown", "two inputs", "of any length"],
)
def test_where_the_signature_does_not_say_how_nothing_is_made_of_vectors(
    signature: tuple[TensorSpec, ...],
) -> None:
    assert read_rows([[1, 2, 3, 4]], signature) is None


def test_nor_of_vectors_of_another_length() -> None:
    assert read_rows([[1, 2, 3, 4], [1, 2, 3]], PIXELS) is None


def test_a_number_that_does_not_fit_the_models_datatype_is_named() -> None:
    with pytest.raises(InvalidRequest, match=r"^vector\[5\] is 256, beyond UINT8's 0 to 255$"):
        read_rows([[1, 2, 3, 4], [5, 256, 7, 8]], PIXELS)


def test_more_texts_than_are_looked_at_one_by_one_are_too_large() -> None:
    assert len(pack([""] * MAX_ELEMENTS, "BYTES", "x")) == 4 * MAX_ELEMENTS
    with pytest.raises(TooLarge, match=r"^x has 262145 elements of BYTES: at most 262144 are allowed$"):
        pack([""] * (MAX_ELEMENTS + 1), "BYTES", "x")


def test_rows_of_no_text_are_refused_as_no_worker_could_tell_them_apart() -> None:
    with pytest.raises(InvalidRequest, match=r"^input x: a row of BYTES has at least one element$"):
        read_tensors([Tensor("x", "BYTES", [1, 0], [])])
