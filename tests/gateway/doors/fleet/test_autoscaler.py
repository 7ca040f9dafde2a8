"""Collaboration: /autoscaler as an ASGI app over a gateway on a network in memory; virtual time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import msgspec
import pytest
import trio

from gateway.autoscaler.policy import Parameters
from gateway.core import Doors
from tests.gateway.autoscaler.test_autoscaler import Scaled, open_scaled
from tests.gateway.site import open_site

pytestmark = pytest.mark.usefixtures("virtual_time")


class Client:
    """Speaks to the app as a server would."""

    def __init__(self, scaled: Scaled) -> None:
        self.scaled = scaled
        transport = httpx.ASGITransport(Doors(scaled.site, max_upload=1000).app, raise_app_exceptions=False)
        self.http = httpx.AsyncClient(transport=transport, base_url="http://gateway")

    async def ask(self, method: str, path: str, **how: Any) -> tuple[int, Any]:
        response = await self.http.request(method, path, **how)
        return response.status_code, response.json()


@asynccontextmanager
async def open_client(**how: Any) -> AsyncIterator[Client]:
    async with open_scaled(**how) as scaled:
        await trio.sleep(1)
        yield Client(scaled)


async def test_it_says_what_it_goes_by_and_what_it_decided():
    async with open_client(policy=Parameters()) as client:
        await client.scaled.ask(20, 5)
        status, body = await client.ask("GET", "/autoscaler")
        assert status == 200
        assert body.pop("policy") == msgspec.to_builtins(Parameters())
        assert 19 <= body.pop("traffic").pop("rows_per_second") <= 21
        assert body == {
            "status": True,
            "message": "OK",
            "min_workers": 1,
            "max_workers": 16,
            "scale_to_zero": False,
            "paused": False,
            "workers": {"wanted": 1, "ready": 1, "starting": 0, "draining": 0, "failing": 0},
            "decision": {"n": 1, "rule": "stable", "reason": body["decision"]["reason"]},
            "capacity": {"rows_per_second": 50.0, "batch_ms": 20.0},
        }
        assert body["decision"]["reason"].endswith("rows/s came, and one worker answers 50")


async def test_a_change_answers_with_what_it_goes_by_then():
    async with open_client() as client:
        status, body = await client.ask(
            "PUT", "/autoscaler", json={"min_workers": 2, "policy": {"target_queue_ms": 50}}
        )
        assert (status, body["min_workers"], body["policy"]["target_queue_ms"]) == (200, 2, 50.0)
        assert body["policy"]["stable_window"] == 4.0
        await trio.sleep(1)
        assert client.scaled.ready == 2
        status, body = await client.ask("PUT", "/autoscaler", json={"min_workers": None, "policy": None})
        assert (status, body["min_workers"], body["policy"]["target_queue_ms"]) == (200, 1, 100.0)


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"", "cannot parse request body: it should be JSON"),
        (b"{", "cannot parse request body: it should be JSON"),
        (b"[" * 100_000, "request body is nested too deeply: "),
        (b"[]", 'the body should be an object, like {"paused": true}'),
        (b'{"n":3}', "there is no n (allowed are min_workers, max_workers, scale_to_zero, paused, policy)"),
        (b'{"policy":{"look_ahead":"soon"}}', "Expected `float`, got `str` - at `$.policy.look_ahead`"),
        (b'{"policy":{"look_ahead":NaN}}', "cannot parse request body: it should be JSON"),
        (b'{"policy":{"look_ahead":1e400}}', "request body has a wrong shape: Number out of range"),
        (b'{"min_workers":99}', "min_workers cannot be more than max_workers: 99 and 16"),
    ],
)
async def test_what_makes_no_sense_is_refused_with_a_sentence(body, problem):
    async with open_client() as client:
        status, answer = await client.ask("PUT", "/autoscaler", content=body)
        assert (status, answer["status"]) == (400, False)
        assert problem in answer["message"]


async def test_a_policy_nested_a_hundred_times_is_refused_too():
    async with open_client() as client:
        deep = b'{"policy":' * 500 + b"{}" + b"}" * 500
        status, answer = await client.ask("PUT", "/autoscaler", content=deep)
        assert status == 400
        assert answer["message"].startswith("request body is nested too deeply: ")


async def test_decisions_are_listed_newest_first():
    async with open_client() as client:
        await client.scaled.ask(150, 3)
        await client.scaled.answered()
        status, body = await client.ask("GET", "/autoscaler/events")
        assert status == 200
        numbers = [each["number"] for each in body["events"]]
        assert numbers == list(range(len(numbers), 0, -1))
        assert sorted(body["events"][0]) == sorted([
            "number", "at", "before", "n", "rule", "reason", "paused",
            "workers_ready", "rows_waiting", "requests_in_progress",
        ])  # fmt: skip
        _, few = await client.ask("GET", "/autoscaler/events?limit=2")
        assert [each["number"] for each in few["events"]] == numbers[:2]


@pytest.mark.parametrize("limit", ["0", "1001", "-1", "two", "", "1e2", "٣", "9" * 50])
async def test_a_limit_that_is_none_is_refused_with_a_sentence(limit):
    async with open_client() as client:
        status, body = await client.ask("GET", "/autoscaler/events", params={"limit": limit})
        assert status == 400
        assert body["message"] == f"limit must be a whole number from 1 to 1000, not {limit!r}"


async def test_a_gateway_that_starts_no_workers_has_none():
    async with open_site() as site:
        transport = httpx.ASGITransport(Doors(site, max_upload=1000).app)
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as http:
            for method, path in (("GET", ""), ("PUT", ""), ("GET", "/events")):
                answer = await http.request(method, f"/autoscaler{path}", content=b"{}")
                assert answer.status_code == 404
                assert answer.json()["message"].startswith("this gateway starts no workers itself")
