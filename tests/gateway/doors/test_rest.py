"""Collaboration: REST v1 as an ASGI app over a gateway on a network in memory; virtual time."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from common.errors import LinkError, StateError
from gateway.core import Doors
from gateway.doors.answers import rolled_answer
from gateway.doors.rest import body_limit
from gateway.models.switching import Rolled
from tests.gateway.site import NN, Site, open_site

pytestmark = pytest.mark.usefixtures("virtual_time")

MAX_UPLOAD = 1000


class Client:
    """Speaks to the app as a server would, and keeps what it raises."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.app = Doors(site, max_upload=MAX_UPLOAD).app
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        self.http = httpx.AsyncClient(transport=transport, base_url="http://gateway")

    async def ask(self, method: str, path: str, **how: Any) -> tuple[int, Any]:
        response = await self.http.request(method, path, **how)
        assert response.headers["content-type"] == "application/json"
        return response.status_code, response.json()

    async def set_weights(self, weights: bytes, nn_id: str = NN) -> tuple[int, Any]:
        return await self.upload(base64.b64encode(weights), nn_id)

    async def upload(self, data: bytes, nn_id: str = NN) -> tuple[int, Any]:
        file = ("weights", data, "application/octet-stream")
        form = httpx.Request("PUT", "http://gateway", data={"nn_id": nn_id}, files={"data": file})
        body, headers = form.read(), {"content-type": form.headers["content-type"]}
        return await self.ask("PUT", "/set_weights", content=body, headers=headers)


@asynccontextmanager
async def open_client(directory: Path | None = None) -> AsyncIterator[Client]:
    async with open_site(directory) as site:
        client = Client(site)
        async with client.http:
            yield client


def refusal(message: str) -> dict[str, Any]:
    return {"status": False, "message": message}


# --- set_weights


async def test_weights_are_set_and_then_serve():
    async with open_client() as client:
        await client.site.ready_worker()
        await client.site.ready_worker()
        assert await client.set_weights(b"2") == (
            200,
            {"status": True, "message": "OK", "workers_count": 2, "workers": [{"result": True}] * 2},
        )
        assert await client.ask("POST", "/predict", json={"vector": [1, 2]}) == (
            200,
            {"status": True, "message": NN, "result": 6.0},
        )


async def test_without_workers_nobody_has_loaded_them_and_they_are_accepted():
    async with open_client() as client:
        assert await client.set_weights(b"2") == (
            200,
            {"status": True, "message": "OK", "workers_count": 0, "workers": []},
        )


async def test_weights_that_a_worker_refuses_are_answered_with_its_trace():
    async with open_client() as client:
        await client.site.ready_worker()
        trace = base64.b64encode(b"Traceback\nLoadError: it does not fit").decode()
        assert await client.set_weights(b"bad") == (
            200,
            {
                "status": False,
                "message": "One or more workers were failed with weights loading",
                "workers_count": 1,
                "workers": [{"result": False, "trace": trace}],
            },
        )


async def test_an_upload_that_breaks_the_contract_is_400_and_leaves_no_file(tmp_path):
    async with open_client(tmp_path) as client:
        assert await client.upload(b"no base64!") == (400, refusal("weights data has wrong format"))
        assert await client.ask("PUT", "/set_weights") == (400, refusal("NN id is required"))
        assert list((tmp_path / "blobs").rglob("*")) == []


# httpx's transport leaves its own stream where the app stopped reading.
@pytest.mark.filterwarnings("ignore:Async generator 'httpx.*:ResourceWarning")
async def test_weights_over_the_limit_are_413():
    async with open_client() as client:
        assert (await client.set_weights(b"2".ljust(MAX_UPLOAD)))[0] == 200
        assert await client.set_weights(b"2".ljust(MAX_UPLOAD + 1)) == (
            413,
            refusal(f"the weights have more than {MAX_UPLOAD} bytes: see --max_upload"),
        )


async def test_a_full_disk_is_said_and_the_old_weights_serve_on(monkeypatch):
    async with open_client() as client:
        await client.site.ready_worker()
        await client.set_weights(b"2")

        def full(*_: object) -> None:
            raise StateError("the disk is full")

        monkeypatch.setattr(client.site.state, "activate", full)
        assert await client.set_weights(b"3") == (500, refusal("the disk is full"))
        assert (await client.ask("POST", "/predict", json={"vector": [1]}))[1]["result"] == 2.0


async def test_a_client_that_goes_in_the_middle_of_an_upload_leaves_nothing(tmp_path):
    async with open_client(tmp_path) as client:
        events = [
            {"type": "http.request", "body": b"--b\r\n", "more_body": True},
            {"type": "http.disconnect"},
        ]
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return events.pop(0)

        async def send(message: Any) -> None:
            sent.append(dict(message))

        scope = {
            "type": "http", "method": "PUT", "path": "/set_weights", "query_string": b"",
            "headers": [(b"content-type", b"multipart/form-data; boundary=b")],
        }  # fmt: skip
        await client.app(scope, receive, send)
        assert sent[0]["status"] == 499  # nobody reads it
        assert list((tmp_path / "blobs").rglob("*")) == []


def test_the_answer_to_set_weights_counts_and_names_every_workers_result():
    assert rolled_answer(Rolled([(True, ""), (False, "é")])) == {
        "status": False,
        "message": "One or more workers were failed with weights loading",
        "workers_count": 2,
        "workers": [{"result": True}, {"result": False, "trace": base64.b64encode("é".encode()).decode()}],
    }


@pytest.mark.parametrize("size", [0, 1, 1000, 100_000_000])
def test_a_body_may_be_as_large_as_the_largest_weights_in_wrapped_base64_need(size):
    lines = -(-size // 48)  # of 64 characters and a line's end of two
    assert body_limit(size) >= 4 * -(-size // 3) + 2 * lines + 1000
    assert body_limit(size) <= 1.5 * size + 100_000


# --- predict and status


async def test_a_prediction_that_fails_has_its_status_and_retry_after():
    async with open_client() as client:
        await client.set_weights(b"2")
        response = await client.http.post("/predict", json={"vector": [1]}, headers={"X-Timeout-Ms": "100"})
        assert (response.status_code, response.json()) == (503, refusal("No live worker"))
        assert response.headers["retry-after"] == "1"


async def test_status_is_there():
    async with open_client() as client:
        status, answer = await client.ask("GET", "/status")
        assert (status, answer["status"], answer["workers_count"]) == (200, True, 0)


async def test_a_status_that_cannot_be_asked_for_is_503():
    async with open_client() as client:
        await client.site.ready_worker()
        client.site.surveyor.broken = LinkError("no memory")
        assert await client.ask("GET", "/status") == (503, refusal("no memory"))
        client.site.surveyor.broken = None


async def test_a_head_request_has_the_same_head_and_no_surprises():
    async with open_client() as client:
        response = await client.http.head("/status")
        assert response.status_code == 200


# --- what is not there


@pytest.mark.parametrize("path", ["/", "/predict/", "/status/", "/set_weights/x", "/%2e%2e/etc", "//predict"])
async def test_what_is_not_there_is_404_and_json(path):
    async with open_client() as client:
        status, answer = await client.ask("GET", f"http://gateway{path}")
        assert (status, answer["status"]) == (404, False)
        assert answer["message"].startswith("There is nothing at /")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/predict", {"POST"}),
        ("POST", "/status", {"GET", "HEAD"}),
        ("POST", "/set_weights", {"PUT"}),
        ("DELETE", "/set_weights", {"PUT"}),
    ],
)
async def test_a_method_that_a_path_does_not_take_is_405_and_says_which_it_does(method, path, allowed):
    async with open_client() as client:
        response = await client.http.request(method, path)
        assert (response.status_code, response.json()) == (405, refusal(f"{method} is not allowed at {path}"))
        assert set(response.headers["allow"].split(", ")) == allowed


async def test_a_bug_is_500_in_the_same_shape_and_raised_for_the_log(monkeypatch):
    async with open_client() as client:
        monkeypatch.setattr(client.site.catalog, "active", lambda model: 1 / 0)
        assert await client.ask("POST", "/predict", json={"vector": [1]}) == (
            500,
            refusal("The server failed on this request."),
        )
        async with httpx.AsyncClient(transport=httpx.ASGITransport(client.app)) as client.http:
            with pytest.raises(ZeroDivisionError):
                await client.ask("POST", "http://gateway/predict", json={"vector": [1]})


async def test_answers_are_compact_json():
    async with open_client() as client:
        body = (await client.http.get("/nowhere")).content
        assert body == json.dumps(refusal("There is nothing at /nowhere"), separators=(",", ":")).encode()


async def test_weights_are_set_while_predictions_go_on():
    async with open_client() as client:
        await client.site.ready_worker(takes=0.01)
        await client.set_weights(b"2")
        got: set[float] = set()

        async def ask() -> None:
            while True:
                got.add((await client.ask("POST", "/predict", json={"vector": [1]}))[1]["result"])

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await trio.sleep(0.2)
            await client.set_weights(b"3", "f" * 32)
            await trio.sleep(0.2)
            nursery.cancel_scope.cancel()
        assert got == {2.0, 3.0}
