"""Pure: what `/ws` reads and writes."""

from __future__ import annotations

import json
import math
from array import array
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import InvalidRequest, ModelError, QueueFull
from common.tensor import TensorSpec
from gateway.doors.json import JsonReader
from gateway.doors.ws.messages import Message, answered, read_id, read_message, refused, shower, write
from gateway.scheduling.requests import Answer, Provenance

ids = st.integers(-(2**63), 2**63 - 1) | st.text(min_size=1, max_size=128)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
known = st.fixed_dictionaries({}, optional=dict.fromkeys(Message.__struct_fields__, values))
WRONG = "message has a wrong shape: Expected"
TOO_DEEP = "is nested too deeply: lists and objects may be 64 deep within each other"


@given(ids, st.lists(st.floats(allow_nan=False, allow_infinity=False)), st.booleans())
def test_a_message_is_read_the_same_as_json_and_as_messagepack(name: Any, row: list[float], packed: bool):
    raw = write({"id": name, "vector": row, "unknown": {}}, like=b"" if packed else "")
    assert read_message(raw, JsonReader()) == Message(id=name, vector=row)
    assert read_id(raw) == name


@given(st.text() | st.binary() | known.map(msgspec.msgpack.encode) | values.map(msgspec.msgpack.encode))
def test_whatever_comes_is_a_message_or_refused_in_a_sentence(raw: str | bytes):
    try:
        message = read_message(raw, JsonReader())
    except InvalidRequest as error:
        assert str(error)  # noqa: PT017 - either will do
        read_id(raw)
    else:
        assert (message.id is None) is not (message.cancel is None)


@pytest.mark.parametrize(
    ("raw", "name", "sentence"),
    [
        ("{", None, "cannot parse message as JSON"),
        ('{"x":' * 100_000, None, f"message {TOO_DEEP}"),
        (b"\xc1", None, "cannot parse message as MessagePack"),
        (b"\x81\xa6vector\xdd\xff\xff\xff\xff", None, "cannot parse message as MessagePack"),
        (b'{"id":1}', None, "message has a wrong shape: Expected `object`, got `int`"),
        ("[]", None, "message has a wrong shape: Expected `object`, got `array`"),
        ('{"vector":[1]}', None, "id is required: a string or a whole number, which the answer will carry"),
        ('{"id":1,"cancel":1}', 1, "give one of id and cancel, not both"),
        ('{"id":"x","vector":"1"}', "x", f"{WRONG} `array | null`, got `str` - at `$.vector`"),
        ('{"id":1.5}', None, f"{WRONG} `int | str | null`, got `float` - at `$.id`"),
        ('{"id":true}', None, f"{WRONG} `int | str | null`, got `bool` - at `$.id`"),
        ('{"id":""}', None, f"{WRONG} `str` of length >= 1 - at `$.id`"),
        ('{"id":9223372036854775808}', None, f"{WRONG} `int` <= 9223372036854775807 - at `$.id`"),
    ],
)  # fmt: skip
def test_a_refusal_says_what_is_wrong_and_the_id_where_there_is_one(raw, name, sentence):
    with pytest.raises(InvalidRequest) as refusal:
        read_message(raw, JsonReader())
    assert str(refusal.value) == sentence
    assert read_id(raw) == name


def answer(*values: float) -> Answer:
    packed = memoryview(array("f", values).tobytes())
    by = Provenance("w1", "v2", batch=0.001, link=0.0025, infer=0.0031415)
    return Answer((TensorSpec("result", "FP32", (1,)),), (packed,), hit=True, queue=0.5, by=by)


def test_an_answer_says_what_http_says_in_body_and_headers():
    shown = shower(Message(vector=[1.0]))(answer(0.5), "nn")
    assert answered("a", shown, answer(0.5)) == {
        "id": "a",
        "status": True,
        "message": "nn",
        "result": 0.5,
        "worker": "w1",
        "version": "v2",
        "cache": "hit",
        "timings": {"queue": 500.0, "batch": 1.0, "link": 2.5, "infer": 3.142},
    }


@pytest.mark.parametrize(
    ("message", "field", "value"),
    [
        (Message(vector=[1.0]), "result", 0.5),
        (Message(data=""), "result", 0.5),
        (Message(vectors=[[1.0], [2.0]]), "results", [0.5, 1.5]),
        (
            Message(inputs=[]),
            "outputs",
            [{"name": "result", "datatype": "FP32", "shape": [2, 1], "data": [0.5, 1.5]}],
        ),
    ],
)
def test_an_answer_has_the_form_of_what_was_asked(message, field, value):
    assert shower(message)(answer(0.5, 1.5), "nn")[field] == value


def test_a_refusal_has_v1s_shape_and_says_the_status_that_http_would_have():
    assert refused(7, QueueFull("Server is busy")) == {
        "id": 7,
        "status": False,
        "message": "Server is busy",
        "code": "queue_full",
        "http_status": 503,
    }
    assert refused(7, ModelError("no"), many=True) == {
        "id": 7,
        "status": False,
        "message": "bm8=",
        "results": [],
        "code": "model_error",
        "http_status": 200,
    }


def test_what_answers_text_is_text_and_what_answers_bytes_is_messagepack():
    value = {"id": "é", "result": math.pi}
    assert json.loads(write(value, like="{}")) == value
    packed = write(value, like=b"")
    assert isinstance(packed, bytes)
    assert msgspec.msgpack.decode(packed) == value
