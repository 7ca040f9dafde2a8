"""end to end: a real worker that has room for two of three models, and clients that ask for all of them."""

from __future__ import annotations

import base64
import json
import threading
from typing import Any

import pytest

from tests.e2e.processes import Gateway, wait_for
from tests.e2e.test_models import put
from tests.engine.test_memory import FACTORS, program

MODELS = {f"model-{int(factor)}": factor for factor in FACTORS}
INPUTS = {"name": "vector", "datatype": "FP32", "shape": [-1, 2]}


def upload_all(gateway: Gateway) -> None:
    for model, factor in MODELS.items():
        answer = put(gateway, f"{model}/versions/1?file=model.ts", program(factor))
        assert answer.json["status"] is True, answer


def holders(gateway: Gateway) -> dict[str, list[str]]:
    shown = {model: gateway.ask("GET", f"/models/{model}").json for model in MODELS}
    return {model: each["versions"][0]["workers"] for model, each in shown.items()}


def room(worker: dict[str, Any]) -> tuple[float, float]:
    return worker["models_used_mb"], worker["models_limit_mb"]


class Clients:
    """Each asks all models in turn, and none gives up before every one of its rows is answered."""

    def __init__(self, gateway: Gateway, count: int, rows: int) -> None:
        self.wrong: list[Any] = []
        self.answered = 0
        self._lock = threading.Lock()
        self._threads = [
            threading.Thread(target=self._run, args=(gateway, n, rows), daemon=True) for n in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def _run(self, gateway: Gateway, seed: int, rows: int) -> None:
        models = list(MODELS.items())
        with gateway.client() as client:
            for n in range(rows):
                model, factor = models[(n + seed) % len(models)]
                body = json.dumps({"inputs": [{**INPUTS, "shape": [1, 2], "data": [n, seed]}]}).encode()
                answer = client.ask("POST", f"/models/{model}/predict", body)
                right = answer.status == 200 and answer.json["outputs"][0]["data"] == [(n + seed) * factor]
                with self._lock:
                    self.answered += 1
                    if not right:
                        self.wrong.append((model, n, seed, answer))

    def join(self) -> None:
        for thread in self._threads:
            thread.join(120)
            assert not thread.is_alive()


@pytest.mark.parametrize("workers", [1, 2])
def test_clients_of_more_models_than_fit_are_all_answered_right(site, workers):
    gateway = site.start_gateway("--workers", str(workers), "--memory_mb", "3")
    gateway.wait_ready(workers)
    upload_all(gateway)
    assert [len(names) for names in holders(gateway).values()] == [0, workers, workers]
    wait_for(
        lambda: {room(worker) for worker in gateway.status()["workers"]} == {(2.0, 3)},
        "the room that is used",
    )
    clients = Clients(gateway, count=4, rows=30)
    clients.join()
    assert clients.wrong == []
    assert clients.answered == 120


def test_a_worker_that_is_killed_while_models_come_and_go_loses_no_request(site):
    gateway = site.start_gateway()
    workers = [site.spawn_worker("--memory_mb", "3") for _ in range(2)]
    gateway.wait_ready(2)
    upload_all(gateway)
    clients = Clients(gateway, count=4, rows=60)
    wait_for(lambda: clients.answered > 40, "answers")
    workers[0].kill()
    clients.join()
    assert clients.wrong == []
    assert clients.answered == 240


def test_a_model_that_no_worker_has_room_for_is_refused_with_both_sizes(site):
    gateway = site.start_gateway("--workers", "1", "--memory_mb", "1")
    gateway.wait_ready(1)
    answer = put(gateway, "big/versions/1?file=model.ts", program(1.0, 2 << 20))
    assert answer.json["status"] is False
    (worker,) = answer.json["workers"]
    trace = base64.b64decode(worker["trace"]).decode()
    assert "LoadError: the model takes 2.0 MiB, and --memory_mb allows 1.0 MiB for all models of" in trace


def test_a_worker_with_too_little_room_for_one_model_serves_the_others_and_says_why(site):
    gateway = site.start_gateway()
    roomy = site.spawn_worker()
    gateway.wait_ready(1)
    upload_all(gateway)
    assert put(gateway, "big/versions/1?file=model.ts", program(1.0, 8 << 20)).json["status"] is True
    site.spawn_worker("--memory_mb", "5", "--name", "small")
    gateway.wait_ready(2)
    (version,) = gateway.ask("GET", "/models/big").json["versions"]
    assert version["refused"].keys() == {"small"}
    assert "and --memory_mb allows 5.0 MiB" in version["refused"]["small"]
    roomy.kill()
    gateway.wait_ready(1)
    assert gateway.ask("POST", "/models/model-2/predict", BODY).json["outputs"][0]["data"] == [6.0]
    answer = gateway.ask("POST", "/models/big/predict", BODY)
    assert answer.status == 503
    assert answer.json["message"].startswith("No worker can load version 1 of big: the model takes 8.0 MiB")


BODY = json.dumps({"inputs": [{**INPUTS, "shape": [1, 2], "data": [1, 2]}]}).encode()
