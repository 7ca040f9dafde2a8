"""Collaboration: what is known of a request's JSON changes nothing of its answer; virtual time."""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest

from common.tensor import TensorSpec
from gateway.doors.v2 import known
from gateway.doors.v2.rest import InferDoor
from tests.gateway.doors.v2.test_rest import INPUTS, Exchange, door
from tests.gateway.site import open_site

pytestmark = pytest.mark.usefixtures("virtual_time")


def header(
    *shapes: tuple[int, ...], names: str = "x", datatype: str = "FP32", size: int = 8, **more: Any
) -> bytes:
    tensors = [
        {"name": name, "shape": shape, "datatype": datatype, "parameters": {"binary_data_size": size}}
        for name, shape in zip(names, shapes, strict=True)
    ]
    return json.dumps({"inputs": tensors, "parameters": {"binary_data_output": True}, **more}).encode()


ONE = header((1, 2))


async def ask(asked: InferDoor, head: bytes, *numbers: float, raw: bytes | None = None) -> Exchange:
    tensors = struct.pack(f"<{len(numbers)}f", *numbers) if raw is None else raw
    exchange = Exchange(head + tensors, inference_header_content_length=str(len(head)))
    asked(exchange)
    await exchange.answer()
    return exchange


def floats(exchange: Exchange) -> list[float]:
    return [number for buffer in exchange.rest for number in memoryview(buffer).cast("B").cast("f")]


async def test_a_request_that_comes_again_is_answered_as_the_first_was_with_its_own_tensors():
    async with open_site() as site:
        await site.ready_worker("bob", inputs=INPUTS)
        await site.add("m", "1", b"2")
        asked = door(site)
        one, two = await ask(asked, ONE, 1, 2), await ask(asked, ONE, 3, 4)
        assert (floats(one), floats(two)) == ([6.0], [14.0])
        assert (one.status, one.head) == (two.status, two.head)
        assert json.loads(two.head) == {
            "model_name": "m",
            "model_version": "1",
            "parameters": {"worker": "bob", "cache": "miss"},
            "outputs": [
                {"name": "result", "datatype": "FP32", "shape": [1, 1], "parameters": {"binary_data_size": 4}}
            ],
        }
        assert asked._known.find(("m", None, ONE)) is not None
        many = header((2, 2), size=16)
        assert [floats(await ask(asked, many, 1, 2, 3, 4)) for _ in range(2)] == [[6.0, 14.0]] * 2


async def test_tensors_that_are_not_as_long_as_before_are_refused_as_they_were():
    async with open_site() as site:
        await site.ready_worker(inputs=INPUTS)
        await site.add("m", "1", b"2")
        asked, unknowing = door(site), door(site)
        await ask(asked, ONE, 1, 2)
        for numbers in ((1.0,), (1.0, 2.0, 3.0), ()):
            refused = await ask(asked, ONE, *numbers)
            assert refused.status == 400
            assert refused.head == (await ask(unknowing, ONE, *numbers)).head


async def test_what_is_known_holds_for_the_version_it_was_checked_against():
    async with open_site() as site:
        await site.ready_worker(inputs=INPUTS)
        await site.add("m", "1", b"2")
        asked = door(site)
        await ask(asked, ONE, 1, 2)
        await site.add("m", "2", b"3")
        await site.rollouts.activate("m", "2")
        answer = await ask(asked, ONE, 1, 2)
        assert (floats(answer), json.loads(answer.head)["model_version"]) == ([9.0], "2")
        assert (await ask(door(site, "other"), ONE, 1, 2)).status == 404


async def test_a_tensor_in_the_json_is_never_taken_for_one_behind_it():
    async with open_site() as site:
        await site.ready_worker(inputs=INPUTS)
        await site.add("m", "1", b"2")
        asked = door(site)
        tensor = {"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}
        head = json.dumps({"inputs": [tensor]}).encode()
        for _ in range(2):
            assert (await ask(asked, head)).status == 200
            refused = await ask(asked, head, 5, 6)
            assert (refused.status, b"binary data" in refused.head) == (400, True)


async def test_elements_that_are_looked_into_are_looked_into_each_time():
    async with open_site() as site:
        await site.ready_worker(inputs=(TensorSpec("x", "BOOL", (2,)),))
        await site.add("m", "1", b"2")
        asked = door(site)
        head = header((1, 2), datatype="BOOL", size=2)
        assert (await ask(asked, head, raw=b"\0\1")).status == 200
        assert (await ask(asked, head, raw=b"\0\2")).status == 400
        assert asked._known.find(("m", None, head)) is None


async def test_an_output_that_is_asked_for_in_json_is_written_anew_for_each():
    async with open_site() as site:
        await site.ready_worker(inputs=INPUTS)
        await site.add("m", "1", b"2")
        asked = door(site)
        head = header((1, 2), outputs=[{"name": "result", "parameters": {"binary_data": False}}])
        for numbers, result in (((1, 2), 6.0), ((3, 4), 14.0)):
            answer = await ask(asked, head, *numbers)
            assert json.loads(answer.head)["outputs"][0]["data"] == [result]


async def test_a_client_that_never_says_the_same_twice_takes_no_more_room(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(known, "MOST", 4)
    async with open_site() as site:
        await site.ready_worker(inputs=INPUTS)
        await site.add("m", "1", b"2")
        asked = door(site)
        for n in range(9):
            answer = await ask(asked, header((1, 2), id=str(n)), 1, 2)
            assert json.loads(answer.head)["id"] == str(n)
        assert len(asked._known._found) == 1
