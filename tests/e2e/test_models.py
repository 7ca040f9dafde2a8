"""end to end: real models of many formats, by their names and versions, in real processes."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch

from common.tensor import DATATYPES
from engine.runtimes.runtime import datatype_of
from tests.e2e.processes import Gateway, wait_for
from tests.e2e.rest import Answer
from tests.engine.runtimes.conftest import Sample, make_sample
from tests.engine.runtimes.evil import evil_files

STEP = 7  # every seventh row is asked: files are sorted by what they should be answered
COEFS = {"1": (1.0, 2.0), "2": (1000.0, 3.0)}  # of float32: whole numbers are answered exactly


def saved(thing: object, dump: Callable[[Any, Any], object] = torch.save) -> bytes:
    file = io.BytesIO()
    dump(thing, file)
    return file.getvalue()


def linear(version: str) -> bytes:
    """A model that answers x·a + y·b."""
    return saved({"coefs": torch.tensor(COEFS[version])})


def put(gateway: Gateway, path: str, data: bytes) -> Answer:
    digest = base64.b64encode(hashlib.sha256(data).digest()).decode()
    return gateway.ask("PUT", f"/models/{path}", data, content_digest=f"sha-256=:{digest}:")


def post(gateway: Gateway, path: str, body: object = None) -> Answer:
    return gateway.ask("POST", f"/models/{path}", b"" if body is None else json.dumps(body).encode())


def predict(gateway: Gateway, model: str, row: list[float]) -> tuple[Any, str]:
    """(result, version that answered)."""
    answer = post(gateway, f"{model}/predict", {"vector": row})
    assert (answer.status, answer.json["status"]) == (200, True), answer
    return answer.json["result"], answer.version


def as_inputs(arrays: list[Any]) -> list[dict[str, Any]]:
    return [
        {"name": f"input_{i}", "datatype": datatype_of(a.dtype), "shape": list(a.shape), "data": a.tolist()}
        for i, a in enumerate(arrays)
    ]


def as_array(output: dict[str, Any]) -> Any:
    code = DATATYPES[output["datatype"]].code
    return np.array(output["data"], dtype=code).reshape(output["shape"])


def check_answer(gateway: Gateway, name: str, sample: Sample) -> None:
    """Rows are answered with what the model's own library answers."""
    answer = post(gateway, f"{name}/predict", {"inputs": as_inputs([rows[::STEP] for rows in sample.rows])})
    assert (answer.status, answer.json["status"]) == (200, True), answer
    own = sample.expected[0][::STEP]
    np.testing.assert_array_equal(as_array(answer.json["outputs"][0]).reshape(own.shape), own)


@pytest.fixture(scope="module")
def gateway(shared_site) -> Gateway:
    """A gateway with two workers of its own that may not load pickles, and a folder of nothing but evil."""
    folder = shared_site.folder / "models"
    for name, evil in evil_files(shared_site.folder / "ran").items():
        version = folder / name.replace(" ", "-") / "1"
        version.mkdir(parents=True)
        (version / f"model{evil.suffix}").write_bytes(evil.data)
    gateway = shared_site.start_gateway("--workers", "2", "--models", str(folder))
    gateway.wait_ready(2)
    return gateway


@pytest.mark.parametrize(("name", "form"), [("iris", "sklearn"), ("diabetes", "xgboost ubj")])
def test_a_plain_vector_becomes_what_the_model_takes(gateway, name, form):
    sample = make_sample(form)
    assert put(gateway, f"{name}-vector/versions/1", sample.data).json["status"] is True
    for i in (0, 70, 140):
        row = [float(value) for value in sample.rows[0][i]]
        assert predict(gateway, f"{name}-vector", row) == (sample.expected[0][i].item(), "1")


# --- versions under load


class Load:
    """Clients in a closed loop on one model; each row is of whole numbers, so each answer is exact."""

    def __init__(self) -> None:
        self.answered: dict[str, int] = {}
        self.wrong: list[str] = []
        self.stop = threading.Event()
        self._lock = threading.Lock()

    def run(self, gateway: Gateway, path: str, seed: int) -> None:
        chance = random.Random(seed)
        with gateway.client() as client:
            while not self.stop.is_set():
                x, y = chance.randrange(100), chance.randrange(100)
                answer = client.ask("POST", path, json.dumps({"vector": [x, y]}).encode())
                version = answer.headers.get("x-model-version", "none")
                a, b = COEFS.get(version, (0.0, 0.0))
                right = {"status": True, "message": version, "result": x * a + y * b}
                with self._lock:
                    self.answered[version] = self.answered.get(version, 0) + 1
                    if (answer.status, answer.json) != (200, right):
                        self.wrong.append(f"{x}, {y}: {answer}")

    def wait(self, version: str, more: int = 30) -> None:
        """Until a version has answered so many more times."""
        goal = self.answered.get(version, 0) + more
        wait_for(lambda: self.wrong or self.answered.get(version, 0) >= goal, f"answers of version {version}")


@contextmanager
def run_load(gateway: Gateway, path: str, clients: int = 8) -> Iterator[Load]:
    load = Load()
    threads = [
        threading.Thread(target=load.run, args=(gateway, path, seed), daemon=True) for seed in range(clients)
    ]
    for thread in threads:
        thread.start()
    try:
        yield load
    finally:
        load.stop.set()
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive()


def test_versions_change_under_load_and_every_answer_is_of_the_version_it_names(gateway):
    assert put(gateway, "line/versions/1", linear("1")).json["status"] is True
    with run_load(gateway, "/models/line/predict") as load:
        load.wait("1")
        assert put(gateway, "line/versions/2", linear("2")).json["status"] is True
        assert "2" not in load.answered
        for _ in range(3):
            assert post(gateway, "line/activate", {"version": "2"}).json["status"] is True
            load.wait("2")
            assert post(gateway, "line/rollback").json["status"] is True
            load.wait("1")
    assert load.wrong == []
    assert load.answered.keys() == {"1", "2"}


def test_a_version_asked_by_its_name_answers_whatever_is_active(gateway):
    for version in ("1", "2"):
        assert put(gateway, f"named/versions/{version}", linear(version)).json["status"] is True
    with run_load(gateway, "/models/named/versions/2/predict") as load:
        for version in ("2", "1"):
            assert post(gateway, "named/activate", {"version": version}).json["status"] is True
            load.wait("2")
    assert load.wrong == []
    assert load.answered.keys() == {"2"}


# --- files that would run code


def test_an_evil_file_is_refused_by_every_door_that_takes_files(gateway, shared_site):
    marker = shared_site.folder / "ran"
    pids = {worker["pid"] for worker in gateway.status()["workers"]}
    for name, evil in evil_files(marker).items():
        word = name.replace(" ", "-")
        gateway.wait_for_line("unchecked weights do not load", f"model={word} version=1 to=None")
        answers = [gateway.set_weights("e" * 32, evil.data)]
        for file in ("", "model.pt", f"model{evil.suffix}"):
            answers.append(put(gateway, f"evil/versions/{word}?file={file}", evil.data))
        for answer in answers:
            assert (answer.status, answer.json["status"], answer.json["workers_count"]) == (200, False, 2)
            for worker in answer.json["workers"]:
                assert b"LoadError" in base64.b64decode(worker["trace"])
        assert not any(
            version["serves"] for version in gateway.ask("GET", f"/models/{word}").json["versions"]
        )
    assert not marker.exists()
    assert gateway.ask("GET", "/models/evil").status == 404
    assert {worker["pid"] for worker in gateway.status()["workers"]} == pids  # none of them died of it


def test_where_the_operator_allows_pickles_they_load_and_run_what_is_in_them(site, tmp_path):
    gateway = site.start_gateway("--workers", "1", "--allow_pickle")
    gateway.wait_ready(1)
    sample = make_sample("pickle")
    assert put(gateway, "iris/versions/1", sample.data).json["status"] is True
    check_answer(gateway, "iris", sample)
    marker = tmp_path / "ran"
    answer = put(gateway, "evil/versions/1", evil_files(marker)["pickle"].data)
    assert answer.json["status"] is False  # it is no model
    assert marker.is_dir()


# --- a gateway that is killed


def test_after_kill_9_of_the_gateway_every_model_is_there_and_nobody_uploads_again(site):
    gateway = site.start_gateway(ephemeral=False)
    workers = [site.spawn_worker()]
    gateway.wait_ready(1)
    iris = make_sample("sklearn")
    assert put(gateway, "iris/versions/1?file=iris.skops", iris.data).json["status"] is True
    for version in ("1", "2"):
        assert put(gateway, f"line/versions/{version}", linear(version)).json["status"] is True
    assert post(gateway, "line/activate", {"version": "2"}).json["status"] is True
    shown = [gateway.ask("GET", path).json for path in ("/models", "/models/iris", "/models/line")]
    gateway.kill()
    gateway = site.start_gateway(ephemeral=False)
    gateway.wait_ready(1)
    assert [gateway.ask("GET", path).json for path in ("/models", "/models/iris", "/models/line")] == shown
    workers[0].kill()  # and one that has never seen the files is given them
    gateway.wait_status(lambda status: not status["workers"], "the worker is gone")
    site.spawn_worker()
    gateway.wait_ready(1)
    check_answer(gateway, "iris", iris)
    assert predict(gateway, "line", [7.0, 5.0]) == (7015.0, "2")
    assert post(gateway, "line/rollback").json["status"] is True
    assert predict(gateway, "line", [7.0, 5.0]) == (17.0, "1")
