"""Pure: what an inference is checked for, its classes, its compression, and a configuration's settings."""

from __future__ import annotations

import gzip
import struct
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import InvalidRequest, ModelError, NoWeights, QueueFull, TooLarge, WorkerLost
from common.tensor import TensorSpec, elements
from gateway.doors.json import JsonReader
from gateway.doors.predict.inputs import MAX_ELEMENTS
from gateway.doors.v2 import coding as codings
from gateway.doors.v2.classify import classify
from gateway.doors.v2.coding import Inflater, choose, compress
from gateway.doors.v2.config import read_config
from gateway.doors.v2.failures import failure
from gateway.doors.v2.infer import (
    InferTensor,
    Wanted,
    check_parameters,
    check_wanted,
    combine_timeouts,
    read_inputs,
)

PAIR = (TensorSpec("x", "FP32", (2,)),)
FREE = (TensorSpec("a", "FP32", (-1, 2)), TensorSpec("b", "INT8", ()))


def tensor(
    name: str = "x", datatype: str = "FP32", shape: Any = (1, 2), data: bytes = bytes(8)
) -> InferTensor:
    return InferTensor(name, datatype, tuple(shape), data)


# --- inputs


def test_inputs_come_out_in_the_models_order_with_its_free_dimensions_filled() -> None:
    given_inputs = [tensor("b", "INT8", (2,), bytes(2)), tensor("a", "FP32", (2, 3, 2), bytes(48))]
    signature, rows = read_inputs(given_inputs, FREE, max_rows=9)
    assert signature == (TensorSpec("a", "FP32", (3, 2)), TensorSpec("b", "INT8", ()))
    assert rows == 2


def test_what_fits_is_the_models_own_signature() -> None:
    assert read_inputs([tensor()], PAIR, max_rows=9)[0] is PAIR


def test_where_nobody_knows_what_the_model_takes_it_is_taken_as_it_is() -> None:
    signature, rows = read_inputs([tensor("any", "BYTES", (1, 1), b"\1\0\0\0a")], (), max_rows=9)
    assert (signature, rows) == ((TensorSpec("any", "BYTES", (1,)),), 1)


@pytest.mark.parametrize(
    ("inputs", "takes", "sentence"),
    [
        ([], PAIR, "inputs is empty"),
        ([tensor(shape=())], PAIR, "input x: shape [] should begin with the number of rows"),
        (
            [tensor(shape=(0, 2), data=b"")],
            PAIR,
            "input x: shape [0, 2] should begin with the number of rows",
        ),
        (
            [tensor(shape=(-1, 2))],
            PAIR,
            "input x: a shape has at most 32 dimensions, each from 0 to 2147483647",
        ),
        ([tensor(shape=(1, 0, 10**30), data=b"")], (), "input x: a shape has at most 32 dimensions"),
        ([tensor(shape=(1,) * 33)], (), "input x: a shape has at most 32 dimensions"),
        (
            [tensor("a"), tensor("b", shape=(2, 2))],
            (),
            "input b: shape [2, 2] should begin with the number of",
        ),
        ([tensor("y")], PAIR, "the model takes the inputs x, each once, and the request has y"),
        ([tensor(), tensor()], PAIR, "the model takes the inputs x, each once, and the request has x, x"),
        ([tensor(), tensor()], (), "inputs have the same name twice: x, x"),
        ([tensor(datatype="FP64")], PAIR, "input x: the model takes FP32, and the request has FP64"),
        (
            [tensor(shape=(1, 3))],
            PAIR,
            "input x: the model takes the shape [-1, 2], where -1 is any number, and",
        ),
        (
            [tensor(shape=(1, 1, 2))],
            PAIR,
            "input x: the model takes the shape [-1, 2], where -1 is any number,",
        ),
        ([tensor(data=bytes(9))], PAIR, "input x: [1, 2] of FP32 takes 8 bytes, and there are 9"),
        ([tensor(datatype="TEXT")], (), "input x: datatype 'TEXT' is not known: use one of BOOL, "),
        ([tensor(datatype="BOOL", data=b"\0\2")], (), "input x: BOOL takes bytes of 0 and 1 only"),
        (
            [tensor(datatype="BYTES", data=b"\1\0\0\0a")],
            (),
            "input x: 1 rows of 2 elements are 2, and there are 1",
        ),
        ([tensor(datatype="BYTES", data=b"\1")], (), "input x: 1 bytes are left at 0"),
    ],
)
def test_inputs_that_do_not_fit_are_named(inputs: Any, takes: Any, sentence: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read_inputs(inputs, takes, max_rows=9)
    assert str(caught.value).startswith(sentence)


def test_more_rows_than_are_allowed_are_too_large() -> None:
    with pytest.raises(TooLarge, match=r"^10 rows in one request: at most 9 are allowed$"):
        read_inputs([tensor(shape=(10, 2), data=bytes(80))], PAIR, max_rows=9)


def test_too_many_bytes_are_refused_before_anybody_looks_at_their_elements() -> None:
    damaged = tensor(datatype="BYTES", shape=(1, 1), data=b"\xff" * ((64 << 20) + 1))
    with pytest.raises(TooLarge, match=r"^the rows have 67108865 bytes: at most 67108864 go to a worker$"):
        read_inputs([damaged], (), max_rows=9)


def test_more_elements_of_bytes_than_are_looked_at_one_by_one_are_too_large() -> None:
    damaged = tensor(datatype="BYTES", shape=(1, MAX_ELEMENTS + 1), data=b"\xff" * 4)
    with pytest.raises(TooLarge, match=r"^input x has 262145 elements of BYTES: at most 262144 are allowed$"):
        read_inputs([damaged], (), max_rows=9)
    many = tensor(datatype="BYTES", shape=(1, MAX_ELEMENTS), data=bytes(4 * MAX_ELEMENTS))
    assert read_inputs([many], (), max_rows=9)[1] == 1


# --- parameters


@pytest.mark.parametrize(
    "parameters", [{"sequence_id": 1}, {"sequence_id": "a"}, {"sequence_start": True}, {"sequence_end": True}]
)
def test_sequences_are_refused(parameters: Any) -> None:
    with pytest.raises(InvalidRequest, match=r"is not served: every request stands alone, leave it out$"):
        check_parameters(parameters)


def test_what_stands_for_no_sequence_is_none() -> None:
    check_parameters({"sequence_id": 0, "sequence_start": False, "priority": 3, "anything": "else"})


@pytest.mark.parametrize("priority", [-1, 1.5, True, "1"])
def test_a_priority_that_is_none_is_refused(priority: Any) -> None:
    with pytest.raises(InvalidRequest, match=r"^priority should be a whole number of 0 or more$"):
        check_parameters({"priority": priority})


@pytest.mark.parametrize(
    ("parameters", "transport", "seconds"),
    [
        ({}, None, None),
        ({"timeout": 0}, None, None),
        ({"timeout": 1500}, None, 0.0015),
        ({"timeout": 2_000_000}, 1.0, 1.0),
        ({"timeout": 2_000_000}, 3.0, 2.0),
        ({}, 3.0, 3.0),
    ],
)
def test_the_smaller_timeout_wins(parameters: Any, transport: float | None, seconds: float | None) -> None:
    assert combine_timeouts(parameters, transport) == seconds


@pytest.mark.parametrize("timeout", [-1, 1.5, True, "1", 3_600_000_001, 10**400])
def test_a_timeout_that_is_none_is_refused(timeout: Any) -> None:
    with pytest.raises(InvalidRequest, match=r"^timeout should be a whole number of microseconds from 0"):
        combine_timeouts({"timeout": timeout}, None)


@pytest.mark.parametrize(
    ("wanted", "sentence"),
    [
        ([Wanted("y"), Wanted("y")], "outputs name one twice: y, y"),
        ([Wanted("z")], "there is no output z: the model gives y"),
        ([Wanted("y", {"classification": -1})], "output y: classification should be a whole number of 0"),
        ([Wanted("y", {"shared_memory_region": "r"})], "output y: shared memory is not served"),
    ],
)
def test_outputs_that_cannot_be_given_are_refused(wanted: Any, sentence: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        check_wanted(wanted, (TensorSpec("y", "FP32", (1,)),))
    assert str(caught.value).startswith(sentence)


# --- classes


@pytest.mark.parametrize(
    ("datatype", "row", "count", "classes"),
    [
        ("<3f", [0.25, 0.75, 0.5], 2, [b"0.750000:1:b", b"0.500000:2"]),
        ("<3f", [0.5, 0.5, 0.5], 9, [b"0.500000:0:a", b"0.500000:1:b", b"0.500000:2"]),
        ("<3f", [float("nan"), -1, float("-inf")], 3, [b"-1.000000:1:b", b"nan:0:a", b"-inf:2"]),
    ],
)
def test_the_greatest_come_first_and_of_equals_the_first(
    datatype: str, row: list[float], count: int, classes: list[bytes]
) -> None:
    shape, data = classify("FP32", (1, 3), struct.pack(datatype, *row), count, ["a", "b"])
    assert (shape, elements(data)) == ((1, min(count, 3)), classes)


def test_classes_of_whole_numbers_and_of_several_rows() -> None:
    shape, data = classify("INT64", (2, 1, 2), struct.pack("<4q", 1, 2**62, 7, -7), 1, [])
    assert (shape, elements(data)) == ((2, 1), [b"4611686018427387904:1", b"7:0"])
    with pytest.raises(InvalidRequest, match=r"^classification is of numbers, and the output is of BYTES$"):
        classify("BYTES", (1,), b"", 1, [])


# --- compression


def decompress(body: bytes, coding: bytes, *, limit: int) -> bytes:
    inflater = Inflater(coding, limit=limit)
    plain = inflater.begin(body)
    return inflater.finish() if plain is None else plain


@given(st.binary(max_size=3000), st.sampled_from([b"gzip", b"deflate", b"GZIP"]))
def test_what_is_compressed_comes_back_as_it_was(body: bytes, coding: bytes) -> None:
    assert decompress(compress(body, coding.lower()), coding, limit=3000) == body


@pytest.mark.parametrize("size", [codings.SHORT - 1, codings.SHORT, codings.SHORT + 1, 5 * codings.SHORT])
def test_only_what_is_short_is_decompressed_at_once(size: int) -> None:
    body = bytes(range(256)) * (size // 256) + bytes(size % 256)
    inflater = Inflater(b"gzip", limit=size)
    plain = inflater.begin(gzip.compress(body))
    assert plain == (body if size <= codings.SHORT else None)
    if plain is None:
        assert inflater.finish() == body
        with pytest.raises(TooLarge, match="decompressed"):
            decompress(gzip.compress(body), b"gzip", limit=size - 1)
        with pytest.raises(InvalidRequest, match="not one whole gzip stream"):
            decompress(gzip.compress(body)[:-1], b"gzip", limit=size)


def test_compression_is_the_standard_librarys() -> None:
    assert (
        gzip.decompress(compress(b"body", b"gzip"))
        == zlib.decompress(compress(b"body", b"deflate"))
        == b"body"
    )
    assert decompress(gzip.compress(b"body"), b"gzip", limit=9) == b"body"


@pytest.mark.parametrize(
    ("body", "coding", "sentence"),
    [
        (b"body", b"br", "content-encoding br is not served: use gzip or deflate"),
        (b"body", b"gzip", "the body is not gzip: "),
        (gzip.compress(b"body", mtime=0)[:-1], b"gzip", "the body is not one whole gzip stream"),
        (gzip.compress(b"body", mtime=0) + b"more", b"gzip", "the body is not one whole gzip stream"),
    ],
)
def test_a_body_that_is_not_what_it_says_is_refused(body: bytes, coding: bytes, sentence: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        decompress(body, coding, limit=99)
    assert str(caught.value).startswith(sentence)


def test_a_body_is_decompressed_up_to_the_limit_and_no_further() -> None:
    assert len(decompress(gzip.compress(bytes(99)), b"gzip", limit=99)) == 99
    with pytest.raises(TooLarge, match=r"^the body has more than 98 bytes when it is decompressed$"):
        decompress(gzip.compress(bytes(99)), b"gzip", limit=98)


@given(st.binary(max_size=200), st.sampled_from([b"gzip", b"deflate"]))
def test_bytes_that_were_never_compressed_are_refused(body: bytes, coding: bytes) -> None:
    with pytest.raises(InvalidRequest):
        decompress(body, coding, limit=10)


@pytest.mark.parametrize(
    ("accepted", "size", "coding"),
    [
        (None, 5000, None),
        (b"gzip", 5000, b"gzip"),
        (b" Deflate ", 5000, b"deflate"),
        (b"gzip", 1023, None),
        (b"gzip", 2 << 20, None),
        (b"gzip, deflate, br", 5000, None),
        (b"br", 5000, None),
    ],
)
def test_only_who_names_one_coding_is_answered_in_it(accepted: Any, size: int, coding: Any) -> None:
    assert choose(accepted, size) == coding


# --- configurations


def test_a_configuration_becomes_settings() -> None:
    config = """{"name": "m", "backend": "onnxruntime", "max_batch_size": 8, "unknown": [1],
        "input": [{"name": "t", "data_type": "TYPE_STRING", "dims": [-1]}],
        "dynamic_batching": {"max_queue_delay_microseconds": 2500}, "response_cache": {"enable": false},
        "parameters": {"labels": {"string_value": "a\\nb"}, "architecture": {"string_value": "linear"}}}"""
    settings = read_config(config, JsonReader())
    assert [each.spec for each in settings.pop("inputs")] == [TensorSpec("t", "BYTES", (-1,))]
    assert settings == {
        "runtime": "onnx",
        "max_batch": 8,
        "max_wait_ms": 2.5,
        "cache_size": 0,
        "architecture": "linear",
        "labels": ("a", "b"),
    }
    assert read_config("{}", JsonReader()) == {}


@pytest.mark.parametrize(
    "config",
    [
        "",
        "[]",
        None,
        7,
        '{"max_batch_size": 100000}',
        '{"max_batch_size": "8"}',
        '{"input": [{"name": "x", "data_type": "TYPE_FP31", "dims": [1]}]}',
        '{"dynamic_batching": {"max_queue_delay_microseconds": -1}}',
    ],
)
def test_a_configuration_that_is_none_is_refused(config: object) -> None:
    with pytest.raises(InvalidRequest, match=r"^config is not the JSON of a model's configuration: "):
        read_config(config, JsonReader())


# --- errors


@pytest.mark.parametrize(
    ("error", "status", "extra"),
    [
        (InvalidRequest("no"), 400, b""),
        (ModelError("no"), 400, b""),
        (NoWeights("no"), 404, b""),
        (TooLarge("no"), 413, b""),
        (QueueFull("no"), 503, b"retry-after: 1\r\n"),
        (WorkerLost("no"), 503, b"retry-after: 1\r\n"),
    ],
)
def test_an_error_has_the_protocols_shape_and_never_status_200(error: Any, status: int, extra: bytes) -> None:
    assert failure(error) == (status, b'{"error":"no"}', extra)
