"""Pure: JSON that strangers send, and how deep it may be. Collaboration: the doors that it comes through."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import InvalidRequest
from gateway.doors.json import JsonReader, is_deeper
from tests.gateway.doors.test_rest import open_client

ANY = msgspec.json.Decoder(Any)
TEXTS = st.text('[]{}"\\,: a\u00e9', max_size=8)
VALUES = st.recursive(
    TEXTS | st.integers() | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=20,
)


def deep(depth: int) -> str:
    """Lists and objects within each other, with brackets in strings that are none."""
    half, odd = divmod(depth, 2)
    return '{"]\\"[[":[' * half + "[" * odd + "]" * odd + "]}" * half


def depth_of(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(depth_of, inner), default=0)


@given(VALUES, st.booleans(), st.integers(1, 5))
def test_depth_is_that_of_lists_and_objects_whatever_is_in_strings(value, ascii, most):
    text = json.dumps(value, ensure_ascii=ascii)
    for raw in (text, text.encode(), bytearray(text.encode()), memoryview(text.encode())):
        assert is_deeper(raw, most) is (depth_of(value) > most)


@pytest.mark.parametrize("raw", [b"", b'"', b"]]]]", b"\xff[[[[[[", b'"\\'])
def test_what_is_no_json_is_looked_at_without_harm(raw):
    assert is_deeper(raw * 100, 3) is (raw == b"\xff[[[[[[")


@pytest.mark.parametrize("most", [1, 64, 512])
def test_what_is_as_deep_as_it_may_be_is_read_and_one_more_is_refused_and_counted(most):
    reader = JsonReader(most)
    reader.read(deep(most), ANY)
    assert reader.too_deep == 0
    with pytest.raises(InvalidRequest) as raised:
        reader.read(deep(most + 1), ANY)
    assert str(raised.value) == (
        f"request body is nested too deeply: lists and objects may be {most} deep within each other"
    )
    assert reader.too_deep == 1


def test_what_no_interpreter_takes_is_refused_in_the_same_words():
    reader = JsonReader()
    for raw in (b"[" * 100_000, b'{"x":' * 100_000):
        with pytest.raises(InvalidRequest, match=r"^row is nested too deeply: .* 64 deep"):
            reader.read(raw, ANY, "row")
    assert reader.too_deep == 2


def test_text_that_is_no_unicode_is_no_json():
    with pytest.raises(InvalidRequest, match=r"^cannot parse request body: it should be JSON$"):
        JsonReader().read(b'["\xff"]', ANY)
    with pytest.raises(msgspec.DecodeError, match="can't decode byte 0xff"):
        JsonReader().decode(b'["\xff"]', ANY, "row")


TENSOR = '{"name":"x","datatype":"FP32","shape":[1,1],"data":[%s]}'
DOORS = [
    ("POST", "/predict", '{"vector":[1],"x":%s}'),
    ("POST", "/predict", '{"inputs":[' + TENSOR + "]}"),
    ("POST", "/models/default/predict", '{"x":%s}'),
    ("POST", "/models/images/predict", '{"image":"","x":%s}'),
    ("POST", "/models/documents/predict", '{"x":%s}'),
    ("POST", "/v2/models/default/infer", '{"inputs":[' + TENSOR + "]}"),
    ("POST", "/v2/models/default/infer", '{"inputs":[],"x":%s}'),
    ("POST", "/v2/repository/index", '{"x":%s}'),
    ("POST", "/v2/repository/models/m/load", '{"parameters":{"x":%s}}'),
    ("PUT", "/models/m", '{"x":%s}'),
    ("PATCH", "/models/m", '{"arguments":{"x":%s}}'),
    ("POST", "/jobs", '{"inputs":[' + TENSOR + "]}"),
]


@pytest.mark.usefixtures("virtual_time")
@pytest.mark.parametrize(("method", "path", "body"), DOORS)
async def test_every_door_refuses_what_is_too_deep_and_it_is_counted(method, path, body):
    async with open_client() as client:
        await client.site.ready_worker()
        await client.set_weights(b"2")
        for kind in ("image", "json"):
            await client.site.add({"image": "images", "json": "documents"}[kind], "1", b"2", input_type=kind)
        headers = {"content-type": "application/json"}
        status, said = await client.ask(method, path, content=body % deep(64), headers=headers)
        assert status == 400
        assert "nested too deeply" in said.get("message", said.get("error"))
        page = await client.http.get("/metrics")
        assert 'pipeline_limited_total{protocol="json",limit="depth"} 1\n' in page.text


@pytest.mark.usefixtures("virtual_time")
@pytest.mark.parametrize("path", ["/predict", "/v2/models/default/infer", "/jobs"])
async def test_text_that_is_no_unicode_is_400_at_every_door(path):
    async with open_client() as client:
        status, _ = await client.ask("POST", path, content=b'{"data":"\xff","id":"\xff","model":"\xff"}')
        assert status == 400
