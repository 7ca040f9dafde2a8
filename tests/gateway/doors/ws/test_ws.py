"""Collaboration: `/ws` between an ASGI server and the batch loops, in virtual time."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
import trio
from starlette.applications import Starlette

from gateway.doors.ws.session import SocketLimits
from gateway.doors.ws.ws import SocketDoor
from gateway.experiments.plans import Plan
from gateway.observing.access import Access
from tests.gateway.fakes import FakeWorker
from tests.gateway.site import NN, Site, open_site

pytestmark = pytest.mark.usefixtures("virtual_time")

GREETING = {"window": 64, "max_bytes": 8 << 20, "max_bytes_in_flight": 32 << 20}


class Client:
    """What a client of the connection does and sees; it reads unless it is told not to."""

    def __init__(self, **headers: str) -> None:
        self.scope = {
            "type": "websocket",
            "path": "/ws",
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        }
        self.said: list[dict[str, Any]] = []
        self.reads = trio.Event()
        self.reads.set()
        self.ended = trio.Event()
        self._to_app, self.receive = trio.open_memory_channel[dict[str, Any]](1000)
        self._to_app.send_nowait({"type": "websocket.connect"})
        self._heard = 0

    async def send(self, message: dict[str, Any]) -> None:
        """What the app calls."""
        with trio.CancelScope(shield=True):
            await self.reads.wait()
        self.said.append(message)

    def say(self, **fields: Any) -> None:
        self.say_raw(json.dumps(fields))

    def say_raw(self, raw: str | bytes) -> None:
        kind = "text" if isinstance(raw, str) else "bytes"
        self._to_app.send_nowait({"type": "websocket.receive", "text": None, "bytes": None, kind: raw})

    def leave(self) -> None:
        self._to_app.send_nowait({"type": "websocket.disconnect", "code": 1006})

    async def hear(self) -> dict[str, Any]:
        """The next thing that the app said."""
        with trio.fail_after(1000):
            while len(self.said) <= self._heard:  # noqa: ASYNC110 - the clock is not real
                await trio.sleep(0.001)
        self._heard += 1
        return self.said[self._heard - 1]

    async def answer(self) -> Any:
        """The value of the next message."""
        message = await self.hear()
        assert message["type"] == "websocket.send"
        return json.loads(message["text"]) if "text" in message else msgspec.msgpack.decode(message["bytes"])

    async def close(self) -> tuple[int, str]:
        message = await self.hear()
        assert message["type"] == "websocket.close"
        return message["code"], message["reason"]


class Place:
    """A gateway's site with a door to it."""

    def __init__(self, site: Site, worker: FakeWorker, limits: SocketLimits, rate: float) -> None:
        self.site = site
        self.worker = worker
        self.door = SocketDoor(site.predictions, site.catalog, limits, Access("run", rate))
        self.app = Starlette(routes=self.door.routes())

    async def connect(self, **headers: str) -> Client:
        """A client that has read the greeting."""
        client = self.start(**headers)
        assert (await client.hear())["type"] == "websocket.accept"
        assert (await client.answer()).keys() == GREETING.keys()
        return client

    def start(self, **headers: str) -> Client:
        client = Client(**headers)

        async def serve() -> None:
            await self.app(client.scope, client.receive.receive, client.send)
            client.ended.set()

        self.site.nursery.start_soon(serve)
        return client

    async def leave(self, client: Client) -> None:
        client.leave()
        await client.ended.wait()


@asynccontextmanager
async def open_place(rate: float = 0.0, **limits: Any) -> AsyncIterator[Place]:
    """A site with a worker whose weights double, and a door."""
    async with open_site() as site:
        worker = await site.ready_worker("bob")
        await site.set_weights(b"2")
        yield Place(site, worker, SocketLimits(**limits), rate)


# --- what is asked


async def test_the_server_says_first_how_much_may_be_in_flight():
    async with open_place() as place:
        client = place.start()
        assert await client.hear() == {"type": "websocket.accept", "headers": [(b"x-request-id", b"run-1")]}
        assert await client.answer() == GREETING
        await place.leave(client)


async def test_a_connection_and_each_message_have_ids_that_their_client_may_choose(caplog):
    caplog.set_level("INFO", "pipeline.access")
    async with open_place(rate=1.0) as place:
        client = place.start(**{"x-request-id": "socket/1"})
        assert await client.hear() == {
            "type": "websocket.accept",
            "headers": [(b"x-request-id", b"socket/1")],
        }
        await client.answer()
        client.say(id="a", vector=[1, 2], request_id="checkout-81")
        assert (await client.answer())["request_id"] == "checkout-81"
        client.say(id="b", vector=[1, 2])
        assert "request_id" not in await client.answer()
        client.say(id="c", vector=[1, 2], request_id="two words")
        assert (await client.answer())["code"] == "bad_request"
        client.say(id="d", vector=[1, 2], request_id="bad", model="none")
        assert (await client.answer())["request_id"] == "bad"
        place.worker.hold()
        client.say_raw("nonsense")
        await client.answer()
        client.say(id="e", vector=[1, 2])
        client.say(cancel="e")
        assert (await client.answer())["code"] == "cancelled"
        client.say(id="f", vector=[1, 2])
        await trio.sleep(1)
        await place.leave(client)
        place.worker.held.set()
    lines = [dict(told.split("=", 1) for told in each.split()[1:]) for each in caplog.messages]
    assert [(each["door"], each["code"], each["request_id"]) for each in lines] == [
        ("ws", "ok", "checkout-81"), ("ws", "ok", "socket/1/b"), ("ws", "bad_request", "socket/1/c"),
        ("ws", "not_found", "bad"), ("ws", "bad_request", "socket/1"),
        ("ws", "cancelled", "socket/1/e"), ("ws", "cancelled", "socket/1/f"),
    ]  # fmt: skip


async def test_an_answer_has_the_id_v1s_body_and_who_answered():
    async with open_place() as place:
        client = await place.connect()
        client.say(id="a", vector=[1, 2])
        answer = await client.answer()
        assert answer.pop("timings").keys() == {"queue", "batch", "link", "infer"}
        assert answer == {
            "id": "a",
            "status": True,
            "message": NN,
            "result": 6.0,
            "worker": "bob",
            "version": NN,
            "cache": "miss",
        }
        await place.leave(client)


@pytest.mark.parametrize(
    ("asked", "field", "value"),
    [
        ({"vector": [1, 2]}, "result", 6.0),
        ({"vectors": [[1], [2]]}, "results", [2.0, 4.0]),
        ({"data": "AACAPw=="}, "result", 2.0),
        ({"vector": [1], "model": "default", "version": NN, "timeout_ms": 1000}, "result", 2.0),
        (
            {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}]},
            "outputs",
            [{"name": "result", "datatype": "FP32", "shape": [1, 1], "data": [6.0]}],
        ),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
async def test_whatever_predict_takes_is_taken_as_json_and_as_messagepack(asked, field, value, packed):
    async with open_place() as place:
        client = await place.connect()
        message = {"id": 1, **asked}
        client.say_raw(msgspec.msgpack.encode(message) if packed else json.dumps(message))
        answer = await client.answer()
        assert ("bytes" in client.said[-1]) is packed
        assert (answer["id"], answer["status"], answer[field]) == (1, True, value)
        await place.leave(client)


@pytest.mark.parametrize(
    ("asked", "answer"),
    [
        ({}, {"message": "vector or data is required", "code": "bad_request", "http_status": 400}),
        (
            {"vector": [1], "model": "other"},
            {
                "message": "there is no model other: GET /models says which there are",
                "code": "not_found",
                "http_status": 404,
            },
        ),
        (
            {"vector": [1], "version": "2"},
            {
                "message": f"version 2 of default does not serve: there are {NN}",
                "code": "not_found",
                "http_status": 404,
            },
        ),
        (
            {"vector": [1], "timeout_ms": 0},
            {
                "message": "timeout_ms should be a number from 1 to 3600000",
                "code": "bad_request",
                "http_status": 400,
            },
        ),
        (
            {"vectors": [[1]] * 1001},
            {
                "message": "1001 rows in one request: at most 1000 are allowed",
                "code": "too_large",
                "http_status": 413,
            },
        ),
    ],
)
async def test_a_wrong_message_is_refused_under_its_id_and_the_connection_stays(asked, answer):
    async with open_place() as place:
        client = await place.connect()
        client.say(id=3, **asked)
        assert await client.answer() == {"id": 3, "status": False, **answer}
        client.say_raw("nonsense")
        assert await client.answer() == {
            "id": None,
            "status": False,
            "message": "cannot parse message as JSON",
            "code": "bad_request",
            "http_status": 400,
        }
        client.say(id=3, vector=[1])
        assert (await client.answer())["result"] == 2.0
        await place.leave(client)


async def test_what_the_model_refuses_is_told_as_in_v1():
    async with open_place() as place:
        client = await place.connect()
        client.say(id=1, vector=[-2])
        answer = await client.answer()
        assert (answer["status"], answer["result"], answer["code"], answer["http_status"]) == (
            False,
            0.0,
            "model_error",
            200,
        )
        await place.leave(client)


async def test_answers_come_as_they_are_ready():
    async with open_place() as place:
        client, worker = await place.connect(), place.worker
        worker.hold()
        first = worker.held
        client.say(id=1, vector=[1])
        await place.site.until(lambda: worker.in_hand == 1)
        worker.held = trio.Event()
        worker.held.set()
        client.say(id=2, vector=[2])
        client.say(id=3, vector="x")
        assert {(await client.answer())["id"] for _ in range(2)} == {2, 3}
        first.set()
        assert (await client.answer())["result"] == 2.0
        await place.leave(client)


async def test_an_experiment_keeps_a_user_in_an_arm_by_message_or_by_the_header_of_the_upgrade():
    async with open_place() as place:
        for version in ("1", "2"):
            assert (await place.site.add("m", version, b"3")).ok
        plan = Plan(model="m", arms={"1": 50, "2": 50}, sticky="header:X-User")
        await place.site.experimenting.put("e", plan)
        client = await place.connect(**{"x-user": "u7"})
        for number in range(40):
            client.say(id=number, model="m", vector=[1], **({"user": f"u{number}"} if number < 20 else {}))
        versions = {}
        for _ in range(40):
            answer = await client.answer()
            versions[answer["id"]] = answer["version"]
        assert {versions[number] for number in range(20)} == {"1", "2"}
        assert {versions[number] for number in range(20, 40)} == {versions[7]}
        await place.leave(client)


# --- limits


async def test_more_than_the_window_and_an_id_that_is_in_flight_are_refused_one_by_one():
    async with open_place(window=2, max_bytes_in_flight=200) as place:
        worker = place.worker
        worker.hold()
        client = await place.connect()
        for name in (1, 1, 2, 3):
            client.say(id=name, vector=[name])
        assert await client.answer() == {
            "id": 1,
            "status": False,
            "message": "id 1 is in flight already: use another until it is answered",
            "code": "bad_request",
            "http_status": 400,
        }
        assert await client.answer() == {
            "id": 3,
            "status": False,
            "message": "2 requests are in flight, and no more may be",
            "code": "window_full",
            "http_status": 429,
        }
        worker.held.set()
        answers = [await client.answer() for _ in range(2)]
        assert sorted((answer["id"], answer["result"]) for answer in answers) == [(1, 2.0), (2, 4.0)]
        client.say(id=1, vector=[0.0] * 100)
        assert (await client.answer())["message"] == "requests in flight may have 200 bytes together"
        client.say(id=1, vector=[5])
        assert (await client.answer())["result"] == 10.0
        await place.leave(client)


async def test_a_client_that_does_not_read_is_closed_and_what_it_asked_is_cancelled():
    async with open_place(slow_time=10) as place:
        client = await place.connect()
        client.reads = trio.Event()
        client.say(id=1, vector=[1])
        await trio.sleep(5)
        worker = place.worker
        worker.hold()
        for name in range(2, 10):
            client.say(id=name, vector=[name])
        await trio.sleep(4.9)
        assert place.site.predictions.in_progress == 8
        await trio.sleep(0.2)
        assert place.site.predictions.in_progress == 0
        client.reads.set()
        assert (await client.answer())["id"] == 1
        assert await client.close() == (1013, "No answer was read for 10 s; what was asked is cancelled.")
        began = trio.current_time()
        await client.ended.wait()  # it never answers the close frame
        assert trio.current_time() - began == pytest.approx(5, abs=0.1)
        worker.held.set()


async def test_a_client_that_does_not_read_and_goes_on_asking_is_read_no_more():
    async with open_place(window=4, slow_time=10) as place:
        client = await place.connect()
        client.reads = trio.Event()
        for _ in range(100):
            client.say_raw("nonsense")
        await trio.sleep(1)
        assert client.receive.statistics().current_buffer_used > 90
        client.reads.set()
        answers = [await client.answer() for _ in range(100)]
        assert {answer["message"] for answer in answers} == {"cannot parse message as JSON"}
        await place.leave(client)


# --- cancelling, leaving, draining


async def test_a_request_is_cancelled_by_its_id_and_answered_so():
    async with open_place() as place:
        worker = place.worker
        worker.hold()
        client = await place.connect()
        client.say(id="a", vector=[1])
        client.say(id=2, vector=[2])
        client.say(cancel="a")
        client.say(cancel="a")
        client.say(cancel="unknown")
        assert await client.answer() == {
            "id": "a",
            "status": False,
            "message": "the request was cancelled",
            "code": "cancelled",
            "http_status": 499,
        }
        assert place.site.predictions.in_progress == 1
        worker.held.set()
        assert (await client.answer())["id"] == 2
        await place.leave(client)
        assert len(client.said) == 4


@pytest.mark.parametrize("batches", [0, 1])
async def test_a_client_that_goes_away_cancels_what_it_asked_for(batches):
    async with open_place() as place:
        worker = place.worker
        worker.hold()
        client = await place.connect()
        for name in range(10):
            client.say(id=name, vector=[name])
            if batches:
                await trio.sleep(0.01)
        await place.site.until(lambda: place.site.predictions.in_progress == 10)
        await place.leave(client)
        assert place.site.predictions.in_progress == 0
        worker.held.set()


async def test_a_drain_closes_each_session_when_what_is_in_flight_is_answered():
    async with open_place() as place:
        worker = place.worker
        worker.hold()
        busy, idle = await place.connect(), await place.connect()
        busy.say(id=1, vector=[1])
        await place.site.until(lambda: place.site.predictions.in_progress == 1)
        place.site.predictions.draining = True
        place.door.drain()
        sentence = "The server is shutting down; what was in flight is answered."
        assert await idle.close() == (1001, sentence)
        busy.say(id=2, vector=[1])
        assert await busy.answer() == {
            "id": 2,
            "status": False,
            "message": "Server is shutting down",
            "code": "draining",
            "http_status": 503,
        }
        worker.held.set()
        assert (await busy.answer())["result"] == 2.0
        assert await busy.close() == (1001, sentence)
        late = place.start()
        assert (await late.hear())["status"] == 503
        for client in (busy, idle):
            await place.leave(client)


# --- who may come


@pytest.mark.parametrize(
    ("origin", "host", "comes"),
    [
        ("http://gw.example:8080", "gw.example:8080", True),
        ("https://GW.example", "gw.example", True),
        ("https://gw.example:443", "gw.example", True),
        ("http://gw.example", "gw.example:80", True),
        ("http://evil.example", "gw.example", False),
        ("http://gw.example:8080", "gw.example:8081", False),
        ("http://gw.example.evil", "gw.example", False),
        ("null", "gw.example", False),
        ("", "gw.example", False),
    ],
)
async def test_only_pages_of_the_same_origin_may_come(origin, host, comes):
    async with open_place() as place:
        client = place.start(origin=origin, host=host)
        first = await client.hear()
        if comes:
            assert first["type"] == "websocket.accept"
            await place.leave(client)
        else:
            assert first["status"] == 403
            assert json.loads((await client.hear())["body"]) == {
                "status": False,
                "message": f"A page of {origin} may not open a WebSocket to {host}",
            }
            await client.ended.wait()


async def test_messages_that_come_too_fast_wait_to_be_read_and_are_all_answered():
    async with open_place(messages_per_second=10.0) as place:
        client = await place.connect()
        began = trio.current_time()
        for number in range(40):
            client.say(id=number, vector=[1.0])
        assert {(await client.answer())["id"] for _ in range(40)} == set(range(40))
        assert 2.5 < trio.current_time() - began < 4.0
        await place.leave(client)
