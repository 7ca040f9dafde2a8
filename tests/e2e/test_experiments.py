"""end to end: the traffic of a model split between versions that are really loaded, in real processes."""

from __future__ import annotations

import io
import json
from collections import Counter
from typing import Any

import pytest
import torch

from tests.e2e.processes import Gateway, wait_for
from tests.e2e.rest import Answer


class Fails(torch.nn.Module):
    """Doubles, and fails on every second row or so."""

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        assert int(rows[0, 0]) % 2 == 0, "odd numbers are too much for it"
        return rows.sum(1) * 2


class Adds(torch.nn.Module):
    """Adds, and is off by `shift`."""

    def __init__(self, shift: float) -> None:
        super().__init__()
        self.shift = shift

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return rows.sum(1) + self.shift


def program(module: torch.nn.Module) -> bytes:
    file = io.BytesIO()
    torch.jit.save(torch.jit.script(module), file)
    return file.getvalue()


def put(gateway: Gateway, path: str, body: bytes | dict[str, Any]) -> Any:
    answer = gateway.ask("PUT", path, body if isinstance(body, bytes) else json.dumps(body).encode())
    assert (answer.status, answer.json["status"]) == (200, True), answer
    return answer.json


def predict(gateway: Gateway, model: str, number: float, user: str) -> Answer:
    body = json.dumps({"vector": [number, 1.0]}).encode()
    return gateway.ask("POST", f"/models/{model}/predict", body, x_user=user)


def arm(gateway: Gateway, experiment: str, part: str, name: str) -> Any:
    return gateway.ask("GET", f"/experiments/{experiment}").json[part][name]


@pytest.fixture(scope="module")
def gateway(shared_site) -> Gateway:
    gateway = shared_site.start_gateway("--workers", "1")
    gateway.wait_ready(1)
    return gateway


def test_users_keep_their_arm_when_the_parts_change_and_when_the_gateway_is_asked_again(gateway):
    for version, shift in (("1", 0.0), ("2", 100.0)):
        put(gateway, f"/models/kept/versions/{version}", program(Adds(shift)))
    plan = {"model": "kept", "arms": {"1": 90, "2": 10}, "sticky": "header:X-User", "guard": None}
    users = [f"user-{n}" for n in range(200)]

    def split(weights: dict[str, int]) -> dict[str, str]:
        put(gateway, "/experiments/keeping", plan | {"arms": weights})
        answers = {user: predict(gateway, "kept", 1.0, user) for user in users}
        for answer in answers.values():
            assert answer.json["result"] == {"1": 2.0, "2": 102.0}[answer.version]
        return {user: answer.version for user, answer in answers.items()}

    first = split({"1": 90, "2": 10})
    assert 5 <= Counter(first.values())["2"] <= 40
    assert split({"1": 90, "2": 10}) == first
    more = split({"1": 80, "2": 20})
    moved = [user for user in users if first[user] != more[user]]
    assert 5 <= len(moved) <= 40
    assert {more[user] for user in moved} == {"2"}


def test_a_canary_that_fails_is_taken_back_and_says_why(gateway):
    put(gateway, "/models/canary/versions/1", program(Adds(0.0)))
    put(gateway, "/models/canary/versions/2", program(Fails()))
    guard = {"factor": 2, "requests": 50}
    put(gateway, "/experiments/trying", {"model": "canary", "arms": {"1": 50, "2": 50}, "guard": guard})
    for n in range(300):
        predict(gateway, "canary", float(n), "")
        if gateway.ask("GET", "/experiments/trying").json["state"] == "tripped":
            break
    shown = gateway.ask("GET", "/experiments/trying").json
    assert shown["state"] == "tripped"
    assert shown["weights"] == {"1": 100.0, "2": 0.0}
    assert "requests to 2 failed" in shown["reason"]
    assert shown["arms"]["2"]["errors"] > 10
    assert shown["arms"]["1"]["errors"] == 0
    assert {predict(gateway, "canary", float(n), "").version for n in range(50)} == {"1"}


def test_a_shadow_gets_copies_and_answers_nobody(gateway):
    put(gateway, "/models/dark/versions/1", program(Adds(0.0)))
    put(gateway, "/models/dark/versions/2", program(Adds(0.25)))
    put(gateway, "/experiments/comparing", {"model": "dark", "arms": {"1": 1}, "shadows": ["2"]})
    for n in range(40):
        answer = predict(gateway, "dark", float(n), "")
        assert (answer.version, answer.json["result"]) == ("1", n + 1.0)
    wait_for(lambda: arm(gateway, "comparing", "shadows", "2")["requests"] == 40, "every copy was answered")
    shadow = arm(gateway, "comparing", "shadows", "2")
    assert shadow["errors"] == 0
    assert "0.25" in json.dumps(shadow)


def test_the_arm_that_is_promoted_answers_everybody(gateway):
    for version, shift in (("1", 0.0), ("2", 7.0)):
        put(gateway, f"/models/won/versions/{version}", program(Adds(shift)))
    put(gateway, "/experiments/choosing", {"model": "won", "arms": {"1": 99, "2": 1}, "guard": None})
    assert gateway.ask("POST", "/experiments/choosing/promote", b'{"arm":"2"}').json["status"] is True
    assert {predict(gateway, "won", 1.0, str(n)).json["result"] for n in range(30)} == {9.0}
