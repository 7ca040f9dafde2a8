"""Collaboration: /experiments as an ASGI app over a gateway on a network in memory; virtual time."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
import trio

from common.intervals import Interval
from common.models import ModelSettings
from common.tensor import pack_vector, vector_spec
from gateway.core import Doors
from gateway.doors.models.experiments import estimate
from gateway.experiments.guard import Guard
from gateway.experiments.plans import Plan
from gateway.scheduling.requests import ModelKey
from gateway.state.state import VersionRecord
from tests.gateway.fakes import FakeWorker
from tests.gateway.site import NN, Site, open_site

pytestmark = pytest.mark.usefixtures("virtual_time")

TRIAL: dict[str, Any] = {"model": "default", "arms": {"1": 90, "2": 10}}


class Client:
    """Speaks to the app as a server would; version n answers n times the sum of a row."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.worker: FakeWorker
        transport = httpx.ASGITransport(Doors(site, max_upload=1000).app, raise_app_exceptions=False)
        self.http = httpx.AsyncClient(transport=transport, base_url="http://gateway")

    async def ask(self, method: str, path: str, **how: Any) -> tuple[int, Any]:
        response = await self.http.request(method, path, **how)
        assert response.headers["content-type"] == "application/json"
        return response.status_code, response.json()

    async def begin(self, **plan: Any) -> Any:
        status, body = await self.ask("PUT", "/experiments/trial", json=TRIAL | plan)
        assert (status, body["status"]) == (200, True), body
        return body

    async def show(self) -> Any:
        status, body = await self.ask("GET", "/experiments/trial")
        assert status == 200
        return body

    async def predict(self, user: str | None = None, row: float = 1.0) -> tuple[str | None, Any]:
        """(version, result)."""
        headers = {} if user is None else {"X-User": user}
        response = await self.http.post("/predict", json={"vector": [row]}, headers=headers)
        return response.headers.get("x-model-version"), response.json().get("result")

    async def version(self, name: str, *, activate: bool = False, keep_versions: int = 9) -> None:
        blob = self.site.blob(name.encode())
        settings = ModelSettings(keep_versions=keep_versions)
        record = VersionRecord("default", name, NN, blob.sha256, blob.size, 1.0, settings=settings)
        assert (await self.site.rollouts.add(record, activate=activate)).ok


@asynccontextmanager
async def open_client(directory: Path | None = None, **worker: Any) -> AsyncIterator[Client]:
    async with open_site(directory) as site:
        client = Client(site)
        client.worker = await site.ready_worker(**worker)
        for name in ("1", "2", "3"):
            await client.version(name, activate=name == "1")
        async with client.http:
            yield client


async def test_a_user_keeps_an_arm_and_ten_more_percent_move_a_tenth() -> None:
    async with open_client() as client:
        await client.begin(sticky="header:X-User")
        users = [f"user-{number}" for number in range(300)]
        before = {user: (await client.predict(user))[0] for user in users}
        assert {user: (await client.predict(user))[0] for user in users} == before
        assert 10 <= Counter(before.values())["2"] <= 60
        await client.begin(arms={"2": 20, "1": 80}, sticky="header:X-User")
        after = {user: (await client.predict(user))[0] for user in users}
        moves = Counter((before[user], after[user]) for user in users)
        assert set(moves) == {("1", "1"), ("1", "2"), ("2", "2")}
        assert 10 <= moves["1", "2"] <= 60


async def test_an_answer_is_that_of_the_version_it_names() -> None:
    async with open_client() as client:
        await client.begin(arms={"1": 50, "2": 50})
        for number in range(40):
            version, result = await client.predict(row=float(number))
            assert version is not None
            assert result == number * float(version)
        arms = (await client.show())["arms"]
        assert arms["1"]["requests"] + arms["2"]["requests"] == 40
        assert min(arms["1"]["requests"], arms["2"]["requests"]) > 5


async def test_who_names_a_version_takes_no_part() -> None:
    async with open_client() as client:
        await client.begin(arms={"1": 0, "2": 1})
        response = await client.http.post("/models/default/versions/1/predict", json={"vector": [1]})
        assert response.headers["x-model-version"] == "1"
        assert (await client.predict())[0] == "2"
        arms = (await client.show())["arms"]
        assert [arms[name]["requests"] for name in ("1", "2")] == [0, 1]


async def test_the_report_has_every_figure_with_its_interval() -> None:
    async with open_client() as client:
        began = time.time()
        body = await client.begin(arms={"1": 1, "2": 1}, shadows=["3"], sticky="header:X-User", guard=None)
        assert began <= body["created"] <= time.time()
        nothing = {
            "requests": 0,
            "errors": 0,
            "error_rate": {"value": 0.0, "low": None, "high": None},
            "latency_ms": {
                each: {"value": 0.0, "low": None, "high": None} for each in ("mean", "p50", "p95", "p99")
            },
        }
        empty = {"value": 0.0, "low": None, "high": None}
        assert body == {
            "status": True, "message": "OK", "name": "trial", "model": "default", "state": "running",
            "reason": "", "promoted": None, "created": body["created"], "sticky": "header:X-User",
            "control": "1", "guard": None, "weights": {"1": 1.0, "2": 1.0},
            "arms": {
                "1": {"weight": 1.0, "share": 0.5, **nothing, "difference": None},
                "2": {
                    "weight": 1.0, "share": 0.5, **nothing,
                    "difference": {"error_rate": empty, "latency_ms": empty},
                },
            },
            "shadows": {"3": {**nothing, "compared": 0, "left_out": 0, "mean_absolute_difference": None}},
        }  # fmt: skip
        for number in range(100):
            await client.predict(str(number))
        await client.site.until(lambda: client.site.scheduler.unfinished == 0)
        body = await client.show()
        for name in ("1", "2"):
            arm = body["arms"][name]
            assert arm["error_rate"]["low"] == 0.0 < arm["error_rate"]["high"] < 0.2
            assert arm["latency_ms"]["p50"]["low"] <= arm["latency_ms"]["p50"]["value"]
        shadow = body["shadows"]["3"]
        assert (shadow["requests"], shadow["compared"], shadow["left_out"]) == (100, 100, 0)
        off = shadow["mean_absolute_difference"]  # it says 3 where the arms say 1 and 2
        assert 1.0 < off["low"] < off["value"] < off["high"] < 2.0


async def test_nobody_waits_for_a_shadow() -> None:
    async with open_client(slots=1, takes=1.0) as client:
        await client.begin(arms={"1": 1}, shadows=["2"])
        assert (await client.predict())[0] == "1"
        assert client.site.scheduler.unfinished == 1
        assert (await client.show())["shadows"]["2"]["compared"] == 0
        await client.site.until(lambda: client.site.scheduler.unfinished == 0)
        assert (await client.show())["shadows"]["2"]["compared"] == 1


async def test_a_shadow_that_would_cost_clients_their_place_is_left_out() -> None:
    async with open_client() as client:
        site = client.site
        await client.begin(arms={"1": 1}, shadows=["2"])
        site.scheduler.queue_max = 4
        for waiting, left_out in ((2, 0), (3, 1), (4, 2)):  # the first has a copy beside it, the others none
            site.predictions.start(
                site.catalog.choose("default", lambda name: None),
                vector_spec(1), (pack_vector([1.0]),), 1, None, lambda answer: None, door="test",
            )  # fmt: skip
            assert site.scheduler.waiting == waiting
            assert site.experimenting.experiments.get("trial").shadows["2"].left_out == left_out
        await site.until(lambda: site.scheduler.unfinished == 0)
        assert (await client.show())["shadows"]["2"]["requests"] == 1


async def test_a_shadow_that_fails_is_counted_and_the_client_never_knows() -> None:
    async with open_client() as client:
        await client.begin(arms={"1": 1}, shadows=["2"])
        assert await client.predict(row=1.0) == ("1", 1.0)
        version, _ = await client.predict(row=-2.0)  # more than either can take
        assert version is None
        await client.site.until(lambda: client.site.scheduler.unfinished == 0)
        body = await client.show()
        assert (body["arms"]["1"]["requests"], body["arms"]["1"]["errors"]) == (2, 1)
        shadow = body["shadows"]["2"]
        assert (shadow["errors"], shadow["compared"], shadow["left_out"]) == (1, 1, 1)


async def test_a_canary_that_fails_goes_back_to_0_says_why_and_stays_there_after_a_restart(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_client(tmp_path) as client:
        await client.begin(
            arms={"1": 50, "2": 50}, sticky="header:X-User", guard={"factor": 2, "requests": 20}
        )
        users = [f"user-{number}" for number in range(100)]
        experiment = client.site.experimenting.experiments.get("trial")
        arms = {user: experiment.choose(user).name for user in users}
        for user in [user for user in users if arms[user] == "1"][:20]:
            assert (await client.predict(user))[0] == "1"
        for user in [user for user in users if arms[user] == "2"][:20]:
            await client.predict(user, row=-2.0)
        body = await client.show()
        why = "20 of 20 requests to 2 failed, 0 of 20 to 1: more than 2 times the rate"
        assert (body["state"], body["reason"], body["weights"]) == ("tripped", why, {"1": 100.0, "2": 0.0})
        assert any(why in each.getMessage() for each in caplog.records)
        assert all([(await client.predict(user))[0] == "1" for user in users])
        await client.site.until(lambda: b"tripped" in client.site.state.experiments()["trial"])
    async with open_site(tmp_path) as site:
        experiment = site.experimenting.experiments.get("trial")
        assert (experiment.record.reason, experiment.plan.arms) == (why, {"1": 100.0, "2": 0.0})


async def test_a_canary_that_refuses_the_rows_its_control_takes_goes_back_to_0() -> None:
    async with open_client() as client:
        await client.begin(arms={"1": 50, "2": 50}, guard={"factor": 2, "requests": 20}, shadows=["3"])
        client.worker.picky["2"] = client.worker.picky["3"] = "row has 1 numbers, and the model takes 2"
        while (await client.show())["state"] == "running":
            await client.predict()
        body = await client.show()
        assert "requests to 2 failed, 0 of " in body["reason"]
        assert body["shadows"]["3"]["errors"] == body["shadows"]["3"]["requests"] > 0


async def test_what_cannot_be_read_or_meets_a_full_queue_is_no_arms_failure() -> None:
    async with open_client() as client:
        await client.begin(arms={"1": 1}, shadows=["2"])
        await client.ask("POST", "/predict", json={"vector": "no"})
        client.site.scheduler.queue_max = 0
        await client.ask("POST", "/predict", json={"vector": [1]})
        client.site.scheduler.queue_max = 100
        client.worker.die()
        status, body = await client.ask("POST", "/predict", json={"vector": [1]})
        assert (status, body["message"]) == (503, "No live worker")
        body = await client.show()
        assert (body["arms"]["1"]["requests"], body["shadows"]["2"]["requests"]) == (0, 0)


async def test_who_is_promoted_is_active_and_the_split_ends() -> None:
    async with open_client() as client:
        await client.begin()
        status, body = await client.ask("POST", "/experiments/trial/promote")
        assert (status, body["status"], body["workers"]) == (200, True, [{"result": True}])
        assert (body["state"], body["promoted"]) == ("promoted", "2")
        assert client.site.catalog.active().key == ModelKey("default", "2")
        assert {(await client.predict())[0] for _ in range(20)} == {"2"}
        assert (await client.show())["arms"]["2"]["requests"] == 0
        status, body = await client.ask("POST", "/experiments/trial/promote", json={"arm": "1"})
        assert (status, body["message"]) == (409, "experiment trial is promoted: it cannot be promoted")
        await client.begin()  # and anew


async def test_an_experiment_ends_and_the_active_version_answers_again() -> None:
    async with open_client() as client:
        await client.begin(arms={"2": 1})
        assert (await client.predict())[0] == "2"
        status, body = await client.ask("DELETE", "/experiments/trial")
        assert (status, body["state"]) == (200, "ended")
        assert (await client.predict())[0] == "1"
        assert await client.ask("GET", "/experiments/trial") == (
            404,
            {"status": False, "message": "there is no experiment trial"},
        )
        assert await client.ask("GET", "/experiments") == (
            200,
            {"status": True, "message": "OK", "experiments": []},
        )


async def test_arms_serve_on_while_newer_versions_come_and_cannot_be_removed() -> None:
    async with open_client() as client:
        await client.begin(arms={"1": 1, "2": 1})
        for name in ("4", "5", "6"):
            await client.version(name, activate=True, keep_versions=2)
        assert [each.key.version for each in client.site.catalog.of("default")] == ["1", "2", "5", "6"]
        assert {(await client.predict())[0] for _ in range(30)} == {"1", "2"}
        status, body = await client.ask("DELETE", "/models/default/versions/2")
        assert (status, body["message"]) == (
            409,
            "version 2 of default is an arm of experiment trial: end it first",
        )
        await client.ask("DELETE", "/experiments/trial")
        assert (await client.ask("DELETE", "/models/default/versions/2"))[0] == 200


async def test_an_experiment_goes_on_after_a_restart_with_everybody_in_place(tmp_path: Path) -> None:
    users = [f"user-{number}" for number in range(50)]
    async with open_client(tmp_path) as client:
        await client.begin(sticky="header:X-User")
        await client.begin(arms={"1": 60, "2": 40}, sticky="header:X-User")
        before = [(await client.predict(user))[0] for user in users]
    async with open_site(tmp_path) as site:
        await site.ready_worker()
        client = Client(site)
        async with client.http:
            assert [(await client.predict(user))[0] for user in users] == before
            assert (await client.show())["arms"]["1"]["requests"] == before.count("1")


async def test_one_that_cannot_be_read_keeps_no_gateway_from_starting(tmp_path: Path) -> None:
    async with open_client(tmp_path) as client:
        await client.begin()
        client.site.state.put_experiment("broken", b'{"name": 1}', "default", [])
    async with open_site(tmp_path) as site:
        assert [each.name for each in site.experimenting.experiments.all()] == ["trial"]


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (TRIAL | {"arms": {"9": 1}}, 404, "version 9 of default does not serve: there are 1, 2, 3"),
        ({"arms": {"1": 1}}, 400, "request body has a wrong shape: Object missing required field `model`"),
        (
            TRIAL | {"arms": {"1": "all"}},
            400,
            "request body has a wrong shape: Expected `float`, got `str` - at `$.arms[...]`",
        ),
        (
            TRIAL | {"stiky": 1},
            400,
            "request body has a wrong shape: Object contains unknown field `stiky` (allowed are model, arms,"
            " sticky, shadows, control, guard)",
        ),
        (TRIAL | {"arms": {"1": 0}}, 400, "arms: one arm at least should have a weight above 0"),
        (
            TRIAL | {"guard": {"factor": 0.5}},
            400,
            "request body has a wrong shape: Expected `float` >= 1.0 - at `$.guard.factor`",
        ),
    ],
)
async def test_a_plan_that_cannot_be_is_refused_with_a_sentence_and_changes_nothing(
    body: dict[str, Any], status: int, message: str
) -> None:
    async with open_client() as client:
        answer = await client.ask("PUT", "/experiments/trial", json=body)
        assert answer == (status, {"status": False, "message": message})
        assert client.site.state.experiments() == {}
        assert (await client.predict())[0] == "1"


async def test_a_model_has_one_experiment_at_a_time() -> None:
    async with open_client() as client:
        await client.begin()
        assert await client.ask("PUT", "/experiments/other", json=TRIAL) == (
            409,
            {"status": False, "message": "model default has experiment trial: end it first"},
        )


async def test_a_client_that_goes_leaves_nothing_behind() -> None:
    async with open_client() as client:
        await client.begin(arms={"1": 1}, shadows=["2"])
        for _ in range(50):
            with trio.move_on_after(0):
                await client.predict()
        await client.site.until(lambda: client.site.scheduler.unfinished == 0)


def test_bodies_are_read_with_their_defaults() -> None:
    plan = msgspec.json.decode(json.dumps(TRIAL), type=Plan)
    assert plan == Plan(model="default", arms={"1": 90.0, "2": 10.0}, guard=Guard(factor=2, requests=200))
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"requests": 1}, Guard)


def test_an_estimate_says_null_where_nothing_is_sure() -> None:
    assert estimate(0.5, None) == {"value": 0.5, "low": None, "high": None}
    assert estimate(0.5, Interval(0.25, 1.0), scale=1000) == {"value": 500.0, "low": 250.0, "high": 1000.0}
