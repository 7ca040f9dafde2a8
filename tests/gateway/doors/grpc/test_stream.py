"""collaboration: ModelStreamInfer over a gateway in memory, asked by a client whose HTTP/2 is h2's; virtual
time."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from common.tensor import TensorSpec
from gateway.doors.grpc.inference import MAX_IN_FLIGHT, InferenceDoor
from gateway.doors.grpc.messages import message
from gateway.doors.v2.infer import Inference
from tests.common.grpc.client import Answered, Client, framed, open_client
from tests.gateway.site import Site, open_site

pytestmark = pytest.mark.usefixtures("virtual_time")

INPUTS = (TensorSpec("x", "FP32", (1,)),)
Request = message("inference.ModelInferRequest")
Response = message("inference.ModelStreamInferResponse")


def asks(name: str, value: float, model: str = "m") -> bytes:
    """A framed request of one row."""
    request = Request(model_name=model, id=name, raw_input_contents=[struct.pack("<f", value)])
    request.inputs.add(name="x", datatype="FP32", shape=[1, 1])
    return framed(request.SerializeToString())


def answers(call: Answered) -> list[tuple[str, Any]]:
    """(id, number or error) of each answer."""
    found = []
    for raw in call.messages:
        said = Response.FromString(raw)
        of = said.infer_response
        numbers = [struct.unpack("<f", each)[0] for each in of.raw_output_contents]
        found.append((of.id, said.error_message or numbers[0]))
    return found


@asynccontextmanager
async def open_stream(**how: Any) -> AsyncIterator[tuple[Site, Client]]:
    async with open_site(**how) as site:
        methods = InferenceDoor(Inference(site.predictions, site.catalog)).methods()
        async with open_client(methods) as (client, _):
            yield site, client


async def test_answers_come_in_the_order_of_their_requests_whoever_is_first():
    async with open_stream() as (site, client):
        slow = await site.ready_worker(inputs=INPUTS, models=("slow",))
        await site.ready_worker(inputs=INPUTS, models=("m",))
        await site.add("slow", "1", b"3")
        await site.add("m", "1", b"2")
        slow.hold()
        number = await client.begin("ModelStreamInfer")
        await client.send(number, asks("a", 1, "slow") + asks("b", 2) + asks("c", 3, "slow") + asks("d", 4))
        await trio.sleep(1)
        assert answers(client.calls[number]) == []
        assert site.scheduler.unfinished == 2
        slow.held.set()
        await client.send(number, b"", end=True)
        call = await client.answer(number)
        assert answers(call) == [("a", 3.0), ("b", 4.0), ("c", 9.0), ("d", 8.0)]
        assert call.status == (0, "")


async def test_what_is_wrong_with_one_is_its_answer_and_the_stream_goes_on():
    async with open_stream() as (site, client):
        worker = await site.ready_worker(inputs=INPUTS)
        await site.add("m", "1", b"2")
        number = await client.begin("ModelStreamInfer")
        wrong = asks("c", worker.refused) + framed(b"\xff\xff") + asks("e", worker.deadly)
        await client.send(number, asks("a", 1) + asks("b", 1, "none") + wrong)
        for _ in range(2):  # the second to die of the same request, and one that lives
            await site.until(lambda: not site.fleet.ids())
            site.worker(inputs=INPUTS)
            await trio.sleep(1)
        await client.send(number, asks("f", 2), end=True)
        call = await client.answer(number)
        said = answers(call)
        assert [name for name, _ in said] == ["a", "b", "c", "", "e", "f"]
        assert (said[0][1], said[5][1], call.status) == (2.0, 4.0, (0, ""))
        assert said[1][1].startswith("[NOT_FOUND] there is no model none")
        assert said[2][1] == "[INVALID_ARGUMENT] it failed"
        assert said[3][1].startswith("[INVALID_ARGUMENT] the message cannot be parsed")
        assert said[4][1] == "[INTERNAL] the request was on 2 workers as they died"


async def test_an_error_ends_the_stream_of_a_client_that_asks_for_that():
    async with open_stream() as (site, client):
        worker = await site.ready_worker(inputs=INPUTS)
        await site.add("m", "1", b"2")
        worker.takes = 1.0
        number = await client.begin("ModelStreamInfer", triton_grpc_error="true")
        await client.send(number, asks("a", 1) + asks("b", 1, "none") + asks("c", 1))
        call = await client.answer(number)
        assert answers(call) == [("a", 2.0)]
        assert call.status[0] == 5
        await trio.sleep(1)
        site.assert_empty()


async def test_no_more_than_so_many_requests_of_a_stream_are_in_flight():
    async with open_stream() as (site, client):
        worker = await site.ready_worker(inputs=INPUTS)
        await site.add("m", "1", b"2")
        worker.hold()
        number = await client.begin("ModelStreamInfer")
        most = 2 * MAX_IN_FLIGHT
        await client.send(number, b"".join([asks(str(n), n) for n in range(most)]), end=True)
        await trio.sleep(1)
        assert site.scheduler.unfinished == MAX_IN_FLIGHT
        worker.held.set()
        assert answers(await client.answer(number)) == [(str(n), 2.0 * n) for n in range(most)]


@pytest.mark.parametrize("how", ["reset", "vanish", "deadline"])
async def test_a_stream_given_up_in_the_middle_leaves_nothing_in_progress(how):
    async with open_stream() as (site, client):
        worker = await site.ready_worker(inputs=INPUTS)
        await site.add("m", "1", b"2")
        timeout = {"grpc_timeout": "4S"} if how == "deadline" else {}
        number = await client.begin("ModelStreamInfer", **timeout)
        await client.send(number, asks("first", 1))
        await trio.sleep(1)
        worker.hold()
        await client.send(number, b"".join([asks(str(n), n) for n in range(100)]))
        await trio.sleep(1)
        assert answers(client.calls[number]) == [("first", 2.0)]
        assert site.scheduler.unfinished == MAX_IN_FLIGHT
        if how == "reset":
            client.h2.reset_stream(number, 8)
            await client.flush()
        elif how == "vanish":
            await client.stream.send_stream.aclose()
        await trio.sleep(3)
        assert (site.scheduler.unfinished, site.scheduler.waiting) == (0, 0)
        worker.held.set()
