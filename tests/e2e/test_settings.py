"""end to end: a model's settings over REST and from a folder, in real processes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.e2e.processes import Gateway, wait_for
from tests.e2e.rest import Answer
from tests.e2e.test_models import linear, put

ROOT = Path(__file__).parents[2]
LINEAR = {"architecture": "linear"}  # of 1·x + 2·y


def say(gateway: Gateway, settings: Any, *, method: str = "PUT", query: str = "") -> Answer:
    return gateway.ask(method, f"/models/line{query}", json.dumps(settings).encode())


def shown(gateway: Gateway) -> dict[str, Any]:
    return gateway.ask("GET", "/models/line").json


def predict(gateway: Gateway, *row: float) -> float:
    answer = gateway.ask("POST", "/models/line/predict", json.dumps({"vector": row}).encode())
    assert answer.json["status"] is True, answer
    return answer.json["result"]


def test_settings_count_from_the_first_version_on_and_survive_a_kill(site):
    gateway = site.start_gateway(ephemeral=False)
    workers = [site.spawn_worker() for _ in range(2)]
    gateway.wait_ready(2)
    say(gateway, {"architecture": "sample"})
    assert put(gateway, "line/versions/1", linear("1")).json["status"] is False
    assert say(gateway, LINEAR).json["settings"] == LINEAR
    assert put(gateway, "line/versions/1", linear("1")).json["workers"] == [{"result": True}] * 2
    assert predict(gateway, 0.25, 1.0) == 2.25
    rounds = {**LINEAR, "round_decimals": 0}
    answer = say(gateway, {"round_decimals": 0}, method="PATCH").json
    assert (answer["workers"], answer["settings"]) == ([{"result": True}] * 2, rounds)
    assert predict(gateway, 0.25, 1.0) == 2.0
    gateway.kill()
    gateway = site.start_gateway(ephemeral=False)
    gateway.wait_ready(2)
    assert (shown(gateway)["settings"], predict(gateway, 0.25, 1.0)) == (rounds, 2.0)
    assert [len(worker.lines("weights loaded")) for worker in workers] == [2, 2]


def test_settings_that_workers_refuse_are_told_and_the_old_ones_answer_on(site):
    gateway = site.start_gateway("--workers", "2")
    gateway.wait_ready(2)
    say(gateway, LINEAR)
    put(gateway, "line/versions/1", linear("1"))
    answer = say(gateway, {"architecture": "sample"})
    assert (answer.status, answer.json["status"], answer.json["settings"]) == (200, False, LINEAR)
    assert [worker["result"] for worker in answer.json["workers"]] == [False, False]
    assert (shown(gateway)["settings"], predict(gateway, 0.25, 1.0)) == (LINEAR, 2.25)
    assert say(gateway, {"max_bacth": 3}).status == 400


def test_a_file_of_settings_that_changes_counts_without_a_new_version(site, tmp_path):
    model = tmp_path / "models" / "line"
    (model / "1").mkdir(parents=True)
    (model / "1" / "model.pt").write_bytes(linear("1"))
    (model / "model.toml").write_text('architecture = "linear"')
    gateway = site.start_gateway("--models", str(tmp_path / "models"), "--watch", "--workers", "1")
    gateway.wait_ready(1)
    wait_for(lambda: gateway.ask("GET", "/models").json["models"], "the folder to serve")
    assert predict(gateway, 0.25, 1.0) == 2.25
    (model / "model.toml").write_text('architecture = "linear"\nround_decimals = 0')
    wait_for(lambda: predict(gateway, 0.25, 1.0) == 2.0, "the new settings to count")
