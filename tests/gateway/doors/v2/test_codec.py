"""Pure: the REST form of inferences, JSON and binary."""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import InvalidRequest
from common.tensor import DATATYPES, TensorSpec, pack_elements
from gateway.doors.json import JsonReader
from gateway.doors.v2.codec import read_header_length, read_raw, read_request, write_response
from gateway.doors.v2.infer import InferRequest, InferResponse, InferTensor, Wanted, read_inputs
from gateway.scheduling.requests import Answer, Provenance

ANSWER = Answer((), (), False, 0.0, Provenance("w", "1", batch=0, link=0, infer=0))
PAIR = struct.pack("<2f", 1, 2)

names = st.text(max_size=4)
numbers = st.integers(-2, 5) | st.integers()
anything = st.recursive(
    st.none() | st.booleans() | numbers | st.floats() | names,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=6,
)
parameters = st.dictionaries(
    st.sampled_from(["binary_data_size", "shared_memory_region", "x"]), numbers | anything, max_size=2
)
garbled_inputs = st.fixed_dictionaries(
    {
        "name": names | anything,
        "shape": st.lists(numbers, max_size=3) | anything,
        "datatype": st.sampled_from([*DATATYPES, "BYTES"]) | anything,
    },
    optional={"data": st.lists(anything, max_size=3) | anything, "parameters": parameters | anything},
)
garbled = st.fixed_dictionaries(
    {"inputs": st.lists(garbled_inputs, max_size=2) | anything},
    optional={
        "id": names | anything,
        "parameters": parameters | anything,
        "outputs": st.lists(st.fixed_dictionaries({"name": names}), max_size=2) | anything,
    },
)


def body(header: Any, *raw: bytes) -> tuple[bytes, int]:
    text = json.dumps(header).encode()
    return b"".join([text, *raw]), len(text)


def binary(name: str = "x", shape: Any = (1, 2), datatype: str = "FP32", size: Any = 8) -> dict[str, Any]:
    return {"name": name, "shape": shape, "datatype": datatype, "parameters": {"binary_data_size": size}}


def plain(data: Any = (1, 2), name: str = "x", shape: Any = (1, 2), datatype: str = "FP32") -> dict[str, Any]:
    return {"name": name, "shape": shape, "datatype": datatype, "data": data}


def read(header: Any, *raw: bytes) -> InferRequest:
    data, length = body(header, *raw)
    return read_request(data, length, "m", None, JsonReader())


def refusal(header: Any, *raw: bytes) -> str:
    with pytest.raises(InvalidRequest) as caught:
        read(header, *raw)
    return str(caught.value)


# --- requests


def test_json_and_binary_inputs_are_told_apart_and_only_the_binary_ones_take_bytes() -> None:
    header = {"inputs": [binary("a"), plain([[3, 4]], "b"), binary("c", [1, 1], "BYTES", 6)], "id": "7"}
    request = read(header, PAIR, b"\2\0\0\0hi")
    assert request.id == "7"
    assert [(t.name, t.shape, bytes(t.data)) for t in request.inputs] == [
        ("a", (1, 2), PAIR),
        ("b", (1, 2), struct.pack("<2f", 3, 4)),
        ("c", (1, 1), b"\2\0\0\0hi"),
    ]


def test_a_binary_tensor_is_a_view_of_the_body() -> None:
    data, length = body({"inputs": [binary()]}, PAIR)
    (tensor,) = read_request(data, length, "m", None, JsonReader()).inputs
    assert isinstance(tensor.data, memoryview)
    assert tensor.data.obj is data


def test_null_is_as_good_as_nothing() -> None:
    request = read({"inputs": [plain()], "id": None, "parameters": None, "outputs": None})
    assert (request.id, request.parameters, request.outputs) == ("", {}, ())


def test_parameters_and_wanted_outputs_are_read() -> None:
    outputs = [{"name": "y", "parameters": {"classification": 3}}, {"name": "z"}]
    request = read({"inputs": [plain()], "parameters": {"timeout": 5, "k": "v"}, "outputs": outputs})
    assert request.parameters == {"timeout": 5, "k": "v"}
    assert request.outputs == (Wanted("y", {"classification": 3}), Wanted("z"))


@pytest.mark.parametrize(
    ("header", "raw", "sentence"),
    [
        (
            {"inputs": [binary(size=9)]},
            PAIR,
            "input x: binary_data_size should be a number of the bytes that",
        ),
        (
            {"inputs": [binary(size=-1)]},
            PAIR,
            "input x: binary_data_size should be a number of the bytes that",
        ),
        ({"inputs": [binary(size=True)]}, PAIR, "input x: binary_data_size should be a number of the bytes"),
        ({"inputs": [binary(size=4)]}, PAIR, "the inputs take 4 bytes of binary data, and the body has 8"),
        ({"inputs": [plain()]}, PAIR, "the inputs take 0 bytes of binary data, and the body has 8"),
        (
            {"inputs": [{**binary(), "data": [1]}]},
            PAIR,
            "input x has both data and binary_data_size: give one",
        ),
        (
            {"inputs": [{"name": "x", "shape": [1], "datatype": "FP32"}]},
            b"",
            "input x has neither data nor binary_data_size: give one",
        ),
        ({"inputs": [plain([1])]}, b"", "input x: shape [1, 2] takes 2 elements, and data has 1"),
        ({"inputs": [plain(shape=[1] * 40)]}, b"", "input x: a shape has at most 32 dimensions, each from 0"),
        ({"inputs": [plain(["a", "b"])]}, b"", "input x[0] is 'a', not a number"),
        ({"inputs": [plain(datatype="FP16")]}, b"", "input x: FP16 has no form in JSON"),
        ({"inputs": 1}, b"", "the request has a wrong shape: Expected `array`, got `int` - at `$.inputs`"),
        ({}, b"", "the request has a wrong shape: Object missing required field `inputs`"),
    ],
)
def test_what_does_not_fit_together_is_said(header: Any, raw: bytes, sentence: str) -> None:
    assert refusal(header, raw).startswith(sentence)


def test_a_header_longer_than_the_body_is_refused() -> None:
    with pytest.raises(InvalidRequest, match=r"^the header is said to have 9 bytes, and the body has 2$"):
        read_request(b"{}", 9, "m", None, JsonReader())


@pytest.mark.parametrize("header", [b"", b"-1", b"+1", b"1.0", b"a", b" 1", b"1" * 19, "²".encode()])
def test_a_header_length_that_is_no_number_is_refused(header: bytes) -> None:
    with pytest.raises(
        InvalidRequest, match=r"^inference-header-content-length should be a number of bytes$"
    ):
        read_header_length(header)


def test_a_header_length_is_read() -> None:
    assert (read_header_length(None), read_header_length(b"0"), read_header_length(b"12")) == (None, 0, 12)


@given(garbled, st.binary(max_size=20), st.integers(0, 3))
def test_whatever_comes_is_read_or_refused(header: Any, raw: bytes, off: int) -> None:
    data, length = body(header, raw)
    try:
        request = read_request(data, max(0, length - off), "m", None, JsonReader())
        read_inputs(request.inputs, (), max_rows=100)
    except InvalidRequest as error:
        assert str(error)  # noqa: PT017 - either is right
    else:
        rows = request.inputs[0].shape[0]
        assert all(tensor.shape[0] == rows for tensor in request.inputs)


@given(st.binary(max_size=60), st.none() | st.integers(0, 70))
def test_bytes_that_are_no_request_are_refused(data: bytes, length: int | None) -> None:
    with pytest.raises(InvalidRequest):
        read_request(data, length, "m", None, JsonReader())


# --- a body without JSON


@pytest.mark.parametrize(
    ("spec", "raw", "shape", "data"),
    [
        (TensorSpec("x", "FP32", (2,)), PAIR, (1, 2), PAIR),
        (TensorSpec("x", "FP32", (-1, 2)), PAIR * 3, (1, 3, 2), PAIR * 3),
        (TensorSpec("x", "BYTES", (1,)), b"hi", (1, 1), b"\2\0\0\0hi"),
        (TensorSpec("x", "BYTES", ()), b"hi", (1,), b"\2\0\0\0hi"),
    ],
)
def test_a_body_without_json_is_one_row(
    spec: TensorSpec, raw: bytes, shape: tuple[int, ...], data: bytes
) -> None:
    request = read_raw(raw, (spec,), "m", None)
    (tensor,) = request.inputs
    assert (tensor.name, tensor.shape, bytes(tensor.data)) == ("x", shape, data)
    assert request.parameters == {"binary_data_output": True}


@pytest.mark.parametrize(
    ("takes", "sentence"),
    [
        ((), "a body without JSON is one input, and the model does not say what it takes"),
        (
            (TensorSpec("x", "FP32", (1,)),) * 2,
            "a body without JSON is one input, and the model takes 2 inputs",
        ),
        (
            (TensorSpec("x", "FP32", (-1, -1)),),
            "a body without JSON cannot say which shape of [-1, -1] it has",
        ),
        ((TensorSpec("x", "BYTES", (2,)),), "a body without JSON is one element, and the model takes [2]"),
    ],
)
def test_a_body_without_json_that_could_mean_anything_is_refused(takes: Any, sentence: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read_raw(PAIR, takes, "m", None)
    assert str(caught.value).startswith(sentence)


# --- responses


def written(
    tensor: InferTensor, *, default: bool = False, own: bool | None = None, request_id: str = ""
) -> tuple[Any, bytes]:
    wanted = () if own is None else (Wanted(tensor.name, {"binary_data": own}),)
    request = InferRequest("m", None, request_id, {"binary_data_output": default}, (), wanted)
    response = InferResponse("m", "1", request_id, {"cache": "hit"}, (tensor,), ANSWER)
    head, buffers = write_response(response, request)
    return json.loads(head), b"".join(buffers)


FLOATS = InferTensor("y", "FP32", (1, 2), memoryview(PAIR))


def test_an_output_is_json_unless_binary_was_asked_for() -> None:
    assert written(FLOATS, request_id="7") == (
        {
            "model_name": "m",
            "model_version": "1",
            "id": "7",
            "parameters": {"cache": "hit"},
            "outputs": [{"name": "y", "datatype": "FP32", "shape": [1, 2], "data": [1.0, 2.0]}],
        },
        b"",
    )
    head, data = written(FLOATS, default=True)
    assert head["outputs"] == [
        {"name": "y", "datatype": "FP32", "shape": [1, 2], "parameters": {"binary_data_size": 8}}
    ]
    assert data == PAIR
    assert "id" not in head


def test_what_is_said_of_an_output_wins_over_what_is_said_of_all() -> None:
    assert written(FLOATS, default=True, own=False)[1] == b""
    assert written(FLOATS, default=False, own=True)[1] == PAIR


@pytest.mark.parametrize(
    ("tensor", "why"),
    [
        (InferTensor("y", "FP32", (1,), struct.pack("<f", float("nan"))), "holds NaN or infinity"),
        (InferTensor("y", "FP16", (1,), b"\0\0"), "is of FP16"),
        (InferTensor("y", "BF16", (1,), b"\0\0"), "is of BF16"),
        (InferTensor("y", "BYTES", (1,), pack_elements([b"\xff"])), "holds bytes that are no UTF-8 text"),
    ],
)
def test_an_output_that_json_cannot_say_is_refused_and_binary_can(tensor: InferTensor, why: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        written(tensor)
    assert str(caught.value) == (
        f"output y {why}, which JSON has no form for: ask for it with binary_data true"
    )
    assert written(tensor, own=True)[1] == bytes(tensor.data)


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=4))
def test_text_is_json_text(items: list[str]) -> None:
    tensor = InferTensor("y", "BYTES", (len(items),), pack_elements([item.encode() for item in items]))
    assert written(tensor)[0]["outputs"][0]["data"] == items
