"""Collaboration: REST of the Open Inference Protocol over a gateway on a network in memory; virtual time."""

from __future__ import annotations

import base64
import gzip
import json
import struct
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import trio

from common.tensor import Buffer, TensorSpec
from gateway.auth import clients
from gateway.doors.v2 import coding
from gateway.doors.v2.infer import Inference
from gateway.doors.v2.rest import InferDoor
from gateway.experiments.plans import Plan
from tests.gateway.doors.test_rest import MAX_UPLOAD, Client, open_client
from tests.gateway.site import Site, open_site

pytestmark = pytest.mark.usefixtures("virtual_time")

INPUTS = (TensorSpec("x", "FP32", (2,)),)
PAIR = struct.pack("<2f", 1, 2)


class Exchange:
    """One request as the lane hands it over, and what it was answered."""

    def __init__(self, body: bytes, **headers: str) -> None:
        self.body: bytes | bytearray = body
        self.query = b""
        self.on_gone: Callable[[], None] | None = None
        self.client: clients.Client | None = None
        self.status, self.head, self.extra = 0, b"", b""
        self.rest: list[Buffer] = []
        self._headers = {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
        self._answered = trio.Event()

    def header(self, name: bytes) -> bytes | None:
        return self._headers.get(name)

    def respond(self, status: int, body: bytes, extra: bytes = b"", rest: Sequence[Buffer] = ()) -> None:
        assert not self.status
        self.status, self.head, self.extra, self.rest = status, body, extra, list(rest)
        self._answered.set()

    async def answer(self) -> tuple[int, Any]:
        await self._answered.wait()
        return self.status, json.loads(self.head)


def asked(**more: Any) -> bytes:
    tensor = {"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}
    return json.dumps({"inputs": [tensor], **more}).encode()


def binary() -> Exchange:
    tensor = {"name": "x", "shape": [1, 2], "datatype": "FP32", "parameters": {"binary_data_size": 8}}
    header = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    return Exchange(header + PAIR, inference_header_content_length=str(len(header)))


def door(site: Site, model: str = "m", version: str | None = None) -> InferDoor:
    inference = Inference(site.predictions, site.catalog)
    return InferDoor(inference, site.catalog, max_body=10_000).of(model, version)


async def ask(site: Site, body: bytes, *, version: str | None = None, **headers: str) -> tuple[int, Any]:
    exchange = Exchange(body, **headers)
    door(site, version=version)(exchange)
    return await exchange.answer()


async def test_an_answer_says_who_gave_it_in_its_body_and_in_its_head():
    async with open_site() as site:
        await site.ready_worker("bob", inputs=INPUTS)
        await site.add("m", "1", b"2")
        exchange = Exchange(asked(id="7"))
        door(site)(exchange)
        assert await exchange.answer() == (
            200,
            {
                "model_name": "m",
                "model_version": "1",
                "id": "7",
                "parameters": {"worker": "bob", "cache": "miss"},
                "outputs": [{"name": "result", "datatype": "FP32", "shape": [1, 1], "data": [6.0]}],
            },
        )
        lines = exchange.extra.decode().split("\r\n")
        assert lines[0] == "x-cache: miss"
        assert lines[1].startswith("server-timing: queue;dur=")
        assert lines[2:] == ["x-worker: bob", "x-model-version: 1", ""]


async def test_a_binary_answer_is_the_workers_own_buffer():
    async with open_site() as site:
        await site.ready_worker(inputs=INPUTS)
        await site.add("m", "1", b"2")
        exchange = binary()
        door(site)(exchange)
        await exchange.answer()
        assert exchange.extra.startswith(
            b"content-type: application/octet-stream\r\ninference-header-content-length: %d\r\nx-cache: miss"
            % len(exchange.head)
        )
        [buffer] = exchange.rest
        assert isinstance(buffer, memoryview)
        assert bytes(buffer) == struct.pack("<f", 6)


async def test_one_who_names_no_version_takes_part_in_the_experiment():
    async with open_site() as site:
        await site.ready_worker(inputs=INPUTS)
        await site.add("m", "1", b"1")
        await site.add("m", "2", b"2")
        await site.experimenting.put("e", Plan(model="m", arms={"2": 1}, sticky="header:X-User"))
        _, answer = await ask(site, asked(), x_user="ann")
        assert answer["model_version"] == "2"
        _, answer = await ask(site, asked(), version="1", x_user="ann")
        assert answer["model_version"] == "1"
        [arm] = site.experimenting.experiments.get("e").arms.values()
        assert arm.requests == 1


async def test_what_the_model_refuses_is_the_requests_fault_and_not_200():
    async with open_site() as site:
        await site.ready_worker(inputs=INPUTS)
        await site.add("m", "1", b"2")
        refused = json.loads(asked())
        refused["inputs"][0]["data"] = [-2, 0]
        assert await ask(site, json.dumps(refused).encode()) == (400, {"error": "it failed"})
        assert site.statistics.of(site.catalog.active("m").key).fail.count == 1


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (asked(), {"x_timeout_ms": "0"}, 400),
        (asked(), {"content_encoding": "br"}, 400),
        (asked(), {"inference_header_content_length": "x"}, 400),
        (asked(outputs=[{"name": "none"}]), {}, 400),
        (b"", {}, 400),
        (b"\xff", {"inference_header_content_length": "0"}, 400),
    ],
)
async def test_what_is_wrong_is_refused_at_once(body: bytes, headers: dict[str, str], status: int):
    async with open_site() as site:
        await site.ready_worker(inputs=INPUTS)
        await site.add("m", "1", b"2")
        exchange = Exchange(body, **headers)
        door(site)(exchange)
        assert exchange.status == status
        assert list(json.loads(exchange.head)) == ["error"]


async def test_a_full_queue_and_a_server_that_leaves_say_when_to_come_back():
    async with open_site(queue_max=1) as site:
        worker = await site.ready_worker(inputs=INPUTS, slots=1)
        await site.add("m", "1", b"2")
        worker.hold()
        first, second, third = Exchange(asked()), Exchange(asked()), Exchange(asked())
        door(site)(first)
        await site.until(lambda: worker.in_hand == 1)
        door(site)(second)
        door(site)(third)
        assert (third.status, third.extra) == (503, b"retry-after: 1\r\n")
        worker.held.set()
        await first.answer()
        await second.answer()
        site.predictions.draining = True
        assert await ask(site, asked()) == (503, {"error": "Server is shutting down"})


async def test_a_client_that_leaves_is_never_run():
    async with open_site() as site:
        worker = await site.ready_worker(inputs=INPUTS, slots=1)
        await site.add("m", "1", b"2")
        worker.hold()
        first, second = Exchange(asked()), Exchange(asked())
        door(site)(first)
        await site.until(lambda: worker.in_hand == 1)
        door(site)(second)
        assert second.on_gone is not None
        second.on_gone()
        worker.held.set()
        await first.answer()
        assert len(worker.batches) == 1
        assert second.status == 0


async def test_rows_beyond_what_a_frame_holds_are_refused(monkeypatch):
    monkeypatch.setattr("gateway.scheduling.predictions.MAX_BATCH_BYTES", 7)
    async with open_site() as site:
        await site.ready_worker(inputs=INPUTS)
        await site.add("m", "1", b"2")
        assert await ask(site, asked()) == (413, {"error": "the rows have 8 bytes: at most 7 go to a worker"})


# --- through the app


async def index(client: Client) -> list[tuple[str, str, str]]:
    status, answer = await client.ask("POST", "/v2/repository/index")
    assert status == 200
    return [(each["version"], each["state"], each["reason"]) for each in answer]


async def test_health_follows_the_workers():
    async with open_client() as client:
        assert await client.ask("GET", "/v2/health/live") == (200, {"live": True})
        await client.site.add("m", "1", b"2")
        why_not = {"error": "no worker is ready: none has come"}
        assert await client.ask("GET", "/v2/health/ready") == (503, why_not)
        worker = await client.site.ready_worker(inputs=INPUTS)
        assert await client.ask("GET", "/v2/health/ready") == (200, {"ready": True})
        assert await client.ask("GET", "/v2/models/m/ready") == (200, {"name": "m", "ready": True})
        worker.die()
        await client.site.until(lambda: not client.site.fleet.ids())
        response = await client.http.get("/v2/models/m/ready")
        assert (response.status_code, response.headers["retry-after"]) == (503, "1")
        assert await index(client) == [("1", "UNAVAILABLE", "no worker that is ready holds it")]


async def test_an_inference_over_asgi_is_answered_as_on_the_lane():
    async with open_client() as client:
        await client.site.ready_worker("bob", inputs=INPUTS)
        await client.site.add("m", "1", b"2")
        tensor = binary()
        response = await client.http.post(
            "/v2/models/m/versions/1/infer",
            content=bytes(tensor.body),
            headers={"inference-header-content-length": str(len(tensor.body) - 8)},
        )
        assert (response.status_code, response.headers["x-worker"]) == (200, "bob")
        assert response.headers["content-type"] == "application/octet-stream"
        head = int(response.headers["inference-header-content-length"])
        assert response.content[head:] == struct.pack("<f", 6)


async def test_what_was_unloaded_is_loaded_as_it_was():
    async with open_client() as client:
        worker = await client.site.ready_worker(inputs=INPUTS)
        for version in ("1", "2", "3"):
            await client.site.add("m", version, version.encode())
        await client.site.rollouts.activate("m", "2")
        before = await index(client)
        assert before == [("1", "UNAVAILABLE", "not loaded"), ("2", "READY", ""), ("3", "READY", "")]
        assert await client.ask("POST", "/v2/repository/models/m/unload", content=b"{}") == (200, {})
        assert {state for _, state, _ in await index(client)} == {"UNAVAILABLE"}
        assert worker.weights == {}
        assert (await ask(client.site, asked()))[0] == 404
        assert await client.ask("POST", "/v2/repository/models/m/unload") == (200, {})
        assert await client.ask("POST", "/v2/repository/models/m/load") == (200, {})
        assert await index(client) == before
        assert (await ask(client.site, asked()))[1]["model_version"] == "2"


async def test_a_model_that_made_room_for_another_is_ready_and_is_loaded_unloaded_and_counted_like_any():
    async with open_client() as client:
        worker = await client.site.ready_worker(inputs=INPUTS, room=1)
        await client.site.add("m", "1", b"2")
        await client.site.add("other", "1", b"3")
        assert list(worker.weights) == ["other/1"]
        assert await client.ask("GET", "/v2/models/m/ready") == (200, {"name": "m", "ready": True})
        assert (await ask(client.site, asked()))[0] == 200
        worker.weights.clear()  # it had no room for that either, and told nobody
        assert (await ask(client.site, asked()))[0] == 200
        _, said = await client.ask("GET", "/v2/models/m/stats")
        (figures,) = said["model_stats"]
        counts = {name: figures["inference_stats"][name]["count"] for name in ("success", "fail")}
        assert counts == {"success": 2, "fail": 0}
        assert await client.ask("POST", "/v2/repository/models/m/unload") == (200, {})
        assert await index(client) == [("1", "UNAVAILABLE", "not loaded"), ("1", "READY", "")]
        assert await client.ask("POST", "/v2/repository/models/m/load") == (200, {})
        assert (await ask(client.site, asked()))[0] == 200


async def test_what_is_unloaded_stays_so_over_a_restart(tmp_path):
    async with open_client(tmp_path) as client:
        await client.site.ready_worker(inputs=INPUTS)
        await client.site.add("m", "1", b"2")
        await client.ask("POST", "/v2/repository/models/m/unload")
    async with open_client(tmp_path) as client:
        await client.site.ready_worker(inputs=INPUTS)
        assert await index(client) == [("1", "UNAVAILABLE", "not loaded")]
        assert await client.ask("POST", "/v2/repository/models/m/load") == (200, {})
        assert (await ask(client.site, asked()))[0] == 200


async def test_an_arm_of_an_experiment_is_not_unloaded():
    async with open_client() as client:
        await client.site.ready_worker(inputs=INPUTS)
        await client.site.add("m", "1", b"2")
        await client.site.experimenting.put("e", Plan(model="m", arms={"1": 1}))
        assert await client.ask("POST", "/v2/repository/models/m/unload") == (
            409,
            {"error": "version 1 of m is an arm of an experiment"},
        )
        assert (await ask(client.site, asked()))[0] == 200


@pytest.mark.parametrize(
    ("parameters", "status", "sentence"),
    [
        ({"file:1/m.pt": "~"}, 400, "file:1/m.pt should be the file in base64"),
        ({"file:1/m.pt": 7}, 400, "file:1/m.pt should be the file in base64"),
        ({"file:1/m.pt": ""}, 400, "file:1/m.pt is empty"),
        ({"file:m.pt": "YQ=="}, 400, "file:m.pt should be file:<version>/<name>, as file:1/model.onnx"),
        ({"file:a b/m.pt": "YQ=="}, 400, "'a b' cannot name a version"),
        (
            {"file:1/a": "YQ==", "file:1/b": "YQ=="},
            400,
            "a version is one file, and there are file:1/a, file",
        ),
        ({"file:1/m.pt": "YmFk"}, 400, "LoadError: it does not fit"),
        ({"file:1/m.pt": "YQ==", "config": "["}, 400, "config is not the JSON of a model's configuration"),
        (
            {"file:1/m.pt": base64.b64encode(bytes(MAX_UPLOAD + 1)).decode()},
            413,
            "the file has more than 1000",
        ),
        ([1], 400, "parameters should be an object"),
    ],
)
async def test_a_load_that_makes_no_sense_is_refused_and_leaves_nothing(
    parameters: Any, status: int, sentence: str
):
    async with open_client() as client:
        await client.site.ready_worker(inputs=INPUTS)
        said = await client.ask("POST", "/v2/repository/models/m/load", json={"parameters": parameters})
        assert said[0] == status
        assert said[1]["error"].startswith(sentence)
        assert await index(client) == []


async def test_counts_stay_as_the_worker_that_did_it_dies():
    async with open_client() as client:
        worker = await client.site.ready_worker(inputs=INPUTS)
        await client.site.add("m", "1", b"2")
        await ask(client.site, asked())
        worker.die()
        await client.site.until(lambda: not client.site.fleet.ids())
        _, answer = await client.ask("GET", "/v2/models/m/stats")
        [stats] = answer["model_stats"]
        assert stats["inference_stats"]["success"]["count"] == 1
        assert (stats["name"], stats["version"]) == ("m", "1")


async def test_a_compressed_body_is_decompressed_whatever_its_size(monkeypatch):
    monkeypatch.setattr(coding, "SHORT", 100)
    async with open_site() as site:
        await site.ready_worker("bob", inputs=INPUTS)
        await site.add("m", "1", b"2")
        for more in ({}, {"parameters": {"padding": "x" * 1000}}):
            status, answer = await ask(site, gzip.compress(asked(**more)), content_encoding="gzip")
            assert (status, answer["outputs"][0]["shape"]) == (200, [1, 1])
        for body, status, error in (
            (gzip.compress(bytes(10_001)), 413, "the body has more than 10000 bytes when it is decompressed"),
            (gzip.compress(asked(padding="x" * 1000))[:-1], 400, "the body is not one whole gzip stream"),
            (gzip.compress(bytes(10_000)), 400, "the request is not JSON: JSON is malformed: "),
        ):
            answered = await ask(site, body, content_encoding="gzip")
            assert (answered[0], answered[1]["error"][: len(error)]) == (status, error)
