"""end to end: real models of many formats, by their names and versions, in real processes."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import pickle
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import torch

from common.tensor import DATATYPES
from engine.runtimes.runtime import datatype_of
from tests.e2e.processes import Gateway, wait_for
from tests.e2e.rest import Answer
from tests.engine.runtimes.conftest import Sample, make_sample
from tests.engine.runtimes.refusals import RunsCode

STEP = 7  # every seventh row is asked: files are sorted by what they should be answered
FORMATS = {
    "iris": "sklearn",
    "diabetes": "xgboost ubj",
    "cnn-torchscript": "torchscript",
    "cnn-onnx": "onnx",
    "cnn-pt2": "torch.export",
    "net-safetensors": "safetensors",
}
EXACT = {"iris", "diabetes"}
COEFS = {"1": (1.0, 2.0), "2": (1000.0, 3.0)}  # of float32: whole numbers are answered exactly
NAMES = [
    "model.pt",
    "model.pkl",
    "model.joblib",
    "model.skops",
    "model.onnx",
    "model.pt2",
    "model.safetensors",
    "",
]


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
    given = as_array(answer.json["outputs"][0]).reshape(own.shape)
    assert np.isfinite(own).all()
    assert len(np.unique(own)) > 2  # it tells rows apart
    if name in EXACT:
        np.testing.assert_array_equal(given, own)
    else:
        np.testing.assert_allclose(given, own, rtol=1e-5, atol=1e-6)


@pytest.fixture(scope="module")
def gateway(shared_site) -> Gateway:
    """A gateway with two workers of its own that may not load pickles."""
    gateway = shared_site.start_gateway("--workers", "2")
    gateway.wait_ready(2)
    return gateway


# --- formats


@pytest.mark.parametrize("name", FORMATS)
def test_a_model_answers_what_its_own_library_answers(gateway, name):
    sample = make_sample(FORMATS[name])
    answer = put(gateway, f"{name}/versions/1?file=model{sample.suffix}", sample.data)
    assert answer.json == {
        "status": True,
        "message": "OK",
        "workers_count": 2,
        "workers": [{"result": True}] * 2,
    }
    check_answer(gateway, name, sample)


@pytest.mark.parametrize("name", ["iris", "diabetes"])
def test_a_plain_vector_becomes_what_the_model_takes(gateway, name):
    sample = make_sample(FORMATS[name])
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


def evil(marker: Path) -> dict[str, bytes]:
    """A file that would make a folder as it loads, as different libraries write it."""
    code = RunsCode(marker)
    return {
        "pickle": pickle.dumps(code),
        "joblib": saved(code, joblib.dump),
        "torch": saved(code),
    }


def test_a_pickle_that_would_run_code_is_refused_by_every_door(gateway, tmp_path):
    marker = tmp_path / "ran"
    before = gateway.ask("GET", "/models").json
    for form, data in evil(marker).items():
        answers = [gateway.set_weights("e" * 32, data)]
        answers += [put(gateway, f"evil/versions/{form}?file={name}", data) for name in NAMES]
        for answer in answers:
            assert (answer.status, answer.json["status"], answer.json["workers_count"]) == (200, False, 2)
            for worker in answer.json["workers"]:
                assert b"LoadError" in base64.b64decode(worker["trace"])
    assert not marker.exists()
    assert gateway.ask("GET", "/models").json == before
    assert gateway.ask("GET", "/models/evil").status == 404


def test_where_the_operator_allows_pickles_they_load_and_run_what_is_in_them(site, tmp_path):
    gateway = site.start_gateway("--workers", "1", "--allow_pickle")
    gateway.wait_ready(1)
    sample = make_sample("pickle")
    assert put(gateway, "iris/versions/1", sample.data).json["status"] is True
    check_answer(gateway, "iris", sample)
    marker = tmp_path / "ran"
    assert put(gateway, "evil/versions/1", evil(marker)["pickle"]).json["status"] is False  # it is no model
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
