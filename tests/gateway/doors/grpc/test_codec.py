"""pure: inference requests and answers as protobuf; whatever comes, there is a request or a sentence."""

from __future__ import annotations

import io
from array import array
from contextlib import suppress
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from common.errors import InvalidRequest, TooLarge
from gateway.doors.grpc.codec import read_request, write_response, write_stream_error, write_stream_response
from gateway.doors.grpc.coefs import coefs_file
from gateway.doors.grpc.messages import message
from gateway.doors.predict.inputs import MAX_ELEMENTS
from gateway.doors.v2.infer import InferResponse, InferTensor, Wanted

Request = message("inference.ModelInferRequest")
Response = message("inference.ModelInferResponse")
StreamResponse = message("inference.ModelStreamInferResponse")

TYPED = [
    ("BOOL", "bool_contents", [True, False], b"\1\0"),
    ("INT8", "int_contents", [-1, 127], b"\xff\x7f"),
    ("INT16", "int_contents", [-2, 1], b"\xfe\xff\1\0"),
    ("INT32", "int_contents", [-1, 1], b"\xff\xff\xff\xff\1\0\0\0"),
    ("INT64", "int64_contents", [-1, 2], b"\xff" * 8 + b"\2" + bytes(7)),
    ("UINT8", "uint_contents", [255, 0], b"\xff\0"),
    ("UINT16", "uint_contents", [65535, 1], b"\xff\xff\1\0"),
    ("UINT32", "uint_contents", [1, 2**32 - 1], b"\1\0\0\0\xff\xff\xff\xff"),
    ("UINT64", "uint64_contents", [2**64 - 1, 0], b"\xff" * 8 + bytes(8)),
    ("FP32", "fp32_contents", [1.0, -2.0], b"\0\0\x80\x3f\0\0\0\xc0"),
    ("FP64", "fp64_contents", [1.0, 0.0], b"\0\0\0\0\0\0\xf0\x3f" + bytes(8)),
    ("BYTES", "bytes_contents", [b"", b"ab"], b"\0\0\0\0\2\0\0\0ab"),
]


def asked(*tensors: tuple[str, str], raw: Any = (), **fields: Any) -> Any:
    request = Request(model_name="m", raw_input_contents=raw, **fields)
    for name, datatype in tensors:
        request.inputs.add(name=name, datatype=datatype, shape=[1, 2])
    return request


def test_a_request_says_everything_that_it_may_say():
    request = asked(("x", "FP32"), ("y", "BYTES"), raw=[b"12345678", b"\0\0\0\0"], model_version="3", id="i")
    for name, kind, value in (("timeout", "int64", 5), ("priority", "uint64", 1), ("user", "string", "u")):
        setattr(request.parameters[name], f"{kind}_param", value)
    request.outputs.add(name="z").parameters["classification"].int64_param = 2
    assert read_request(request.SerializeToString()) == (
        "m", "3", "i", {"timeout": 5, "priority": 1, "user": "u"},
        (InferTensor("x", "FP32", (1, 2), b"12345678"), InferTensor("y", "BYTES", (1, 2), b"\0\0\0\0")),
        (Wanted("z", {"classification": 2}),),
    )  # fmt: skip


@pytest.mark.parametrize(("datatype", "field", "elements", "raw"), TYPED)
def test_typed_contents_become_raw_bytes(datatype, field, elements, raw):
    request = asked(("x", datatype))
    getattr(request.inputs[0].contents, field).extend(elements)
    assert read_request(request.SerializeToString()).inputs[0].data == raw


def test_more_elements_of_bytes_than_are_looked_at_one_by_one_are_too_large():
    request = asked(("x", "BYTES"))
    request.inputs[0].contents.bytes_contents.extend([b""] * (MAX_ELEMENTS + 1))
    with pytest.raises(TooLarge, match=r"^input x has 262145 elements of BYTES: at most 262144 are allowed$"):
        read_request(request.SerializeToString())


def test_what_cannot_be_meant_is_refused_with_a_sentence():
    mixed = asked(("x", "FP32"), raw=[b""])
    mixed.inputs[0].contents.fp32_contents.append(1)
    wrong = asked(("x", "INT32"))
    wrong.inputs[0].contents.fp32_contents.append(1)
    large = asked(("x", "INT8"))
    large.inputs[0].contents.int_contents.append(128)
    half = asked(("x", "FP16"))
    half.inputs[0].contents.fp32_contents.append(1)
    shared = asked(("x", "FP32"), raw=[b""])
    shared.inputs[0].parameters["shared_memory_region"].string_param = "r"
    empty = asked()
    empty.parameters["p"].SetInParent()
    for request, sentence in (
        (asked(("x", "FP32"), raw=[b"", b""]), "raw_input_contents has 2 tensors for 1 inputs"),
        (mixed, "input x has contents though raw_input_contents is used"),
        (wrong, "elements of 'INT32' stand in int_contents, and the request has fp32_contents"),
        (large, "input x holds a number that INT8 has no room for"),
        (half, "elements of 'FP16' stand in raw_input_contents"),
        (shared, "shared memory is not served"),
        (empty, "parameter p has no value"),
    ):
        with pytest.raises(InvalidRequest, match=sentence):
            read_request(request.SerializeToString())


@given(st.binary(max_size=300))
def test_garbage_is_a_request_or_invalid(raw):
    with suppress(InvalidRequest):
        assert all(isinstance(tensor.data, bytes) for tensor in read_request(raw).inputs)


@given(st.data())
def test_a_damaged_request_is_a_request_or_invalid(data):
    datatype, field, elements, _ = data.draw(st.sampled_from(TYPED))
    request = asked(("x", datatype), id="seven")
    getattr(request.inputs[0].contents, field).extend(elements)
    request.parameters["p"].double_param = 1.5
    raw = bytearray(request.SerializeToString())
    for at in data.draw(st.lists(st.integers(0, len(raw) - 1), max_size=4)):
        raw[at] = data.draw(st.integers(0, 255))
    with suppress(InvalidRequest):
        assert all(isinstance(tensor.data, bytes) for tensor in read_request(bytes(raw)).inputs)


def test_answers_are_raw_in_the_order_of_the_outputs():
    outputs = (
        InferTensor("a", "FP32", (1, 2), memoryview(b"12345678")),
        InferTensor("b", "BYTES", (1,), b"\1\0\0\0x"),
    )
    parameters = {"worker": "w", "hit": True, "n": 3, "share": 0.5}
    response = InferResponse("m", "2", "i", parameters, outputs, None)  # type: ignore[arg-type]
    said = Response.FromString(write_response(response))
    assert (said.model_name, said.model_version, said.id) == ("m", "2", "i")
    assert [(each.name, each.datatype, list(each.shape)) for each in said.outputs] == [
        ("a", "FP32", [1, 2]),
        ("b", "BYTES", [1]),
    ]
    assert list(said.raw_output_contents) == [b"12345678", b"\1\0\0\0x"]
    kinds = {name: value.WhichOneof("parameter_choice") for name, value in said.parameters.items()}
    assert kinds == {
        "worker": "string_param",
        "hit": "bool_param",
        "n": "int64_param",
        "share": "double_param",
    }
    streamed = StreamResponse.FromString(write_stream_response(response, final=True))
    assert streamed.infer_response.parameters["triton_final_response"].bool_param
    failed = StreamResponse.FromString(write_stream_error("so", "i"))
    assert (failed.error_message, failed.infer_response.id) == ("so", "i")


@pytest.mark.parametrize("count", [1, 3, 100_000])
def test_torch_loads_the_file_of_coefficients(count):
    coefs = array("f", [n / 7 for n in range(count)])
    loaded = torch.load(io.BytesIO(coefs_file(coefs)), weights_only=True)
    assert loaded.keys() == {"coefs"}
    assert loaded["coefs"].tolist() == coefs.tolist()
