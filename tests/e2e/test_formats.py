"""end to end: two versions of a model in every format, side by side in one gateway and under load."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import pytest

from tests.e2e.formats import BAD, CODE, GOOD, MAKERS, ROWS, Format, asked, format_of, is_right
from tests.e2e.processes import Gateway, Site, wait_for
from tests.e2e.rest import Answer

# Nothing is remembered: the models themselves are what is tested.
SETTINGS = "keep_versions = 4\ncache_size = 0\n"
CLIENTS = 2  # of each model
MORE = 20  # answers that a load is waited for


def ask(gateway: Gateway, method: str, path: str, body: bytes | dict[str, Any] = b"") -> Any:
    answer = gateway.ask(method, path, body if isinstance(body, bytes) else json.dumps(body).encode())
    assert (answer.status, answer.json["status"]) == (200, True), answer
    return answer.json


def put(gateway: Gateway, model: str, version: str) -> None:
    form = format_of(model)
    path = f"/models/{model}/versions/{version}?file=model{form.suffix}"
    assert ask(gateway, "PUT", path, form.files[version])["workers_count"] == 2


@contextmanager
def experiment(gateway: Gateway, model: str, **plan: Any) -> Iterator[str]:
    """The path of an experiment that is over when the block is."""
    path = f"/experiments/of-{model}"
    ask(gateway, "PUT", path, {"model": model, "guard": None, **plan})
    yield path
    ask(gateway, "DELETE", path)


class Load:
    """Clients in a closed loop on one model, each with a connection of its own."""

    def __init__(self, model: str) -> None:
        self.model = model
        self.answered: Counter[str] = Counter()  # by version
        self.failed: list[str] = []
        self.wrong: list[str] = []
        self._lock = threading.Lock()

    def run(self, gateway: Gateway, stop: threading.Event) -> None:
        form = format_of(self.model)
        bodies = [asked(form.rows[row : row + 1]) for row in range(ROWS)]
        with gateway.client() as client:
            while not stop.is_set():
                for row, body in enumerate(bodies):  # as often one as the other
                    self._note(client.ask("POST", f"/models/{self.model}/predict", body), form, row)

    def _note(self, answer: Answer, form: Format, row: int) -> None:
        with self._lock:
            if answer.status != 200 or answer.json["status"] is not True:
                self.failed.append(str(answer))
                return
            self.answered[answer.version] += 1
            if not is_right(answer, form, slice(row, row + 1)):
                self.wrong.append(f"row {row}: {answer}")


class Loads(dict[str, Load]):
    """The load of every model."""

    def wait(self, version: str) -> None:
        """Until a version of every model has answered some more."""
        goals = {load: load.answered[version] + MORE for load in self.values()}
        wait_for(
            lambda: self.wrong or all(load.answered[version] >= goal for load, goal in goals.items()),
            f"answers of version {version} of every model",
        )

    @property
    def wrong(self) -> dict[str, list[str]]:
        """Answers that are not what their version says."""
        return {model: load.wrong[:3] for model, load in self.items() if load.wrong}

    @property
    def failed(self) -> dict[str, list[str]]:
        """Requests that got no answer."""
        return {model: load.failed[:3] for model, load in self.items() if load.failed}


@contextmanager
def run_loads(gateway: Gateway) -> Iterator[Loads]:
    loads, stop = Loads({model: Load(model) for model in MAKERS}), threading.Event()
    threads = [
        threading.Thread(target=load.run, args=(gateway, stop), daemon=True)
        for load in loads.values()
        for _ in range(CLIENTS)
    ]
    for thread in threads:
        thread.start()
    try:
        yield loads
    finally:
        stop.set()
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive()


@pytest.fixture(scope="module")
def gateway(shared_site: Site) -> Gateway:
    """Version 1 of every format is in its folder of models, version 2 is uploaded."""
    folder = shared_site.folder / "models"
    for model in MAKERS:
        form = format_of(model)
        (folder / model / "1").mkdir(parents=True)
        (folder / model / "1" / f"model{form.suffix}").write_bytes(form.files["1"])
        (folder / model / "model.toml").write_text(SETTINGS + form.settings)
    gateway = shared_site.start_gateway(
        "--workers", "2", "--models", str(folder), "--allow_pickle", "--allow_code", CODE
    )
    gateway.wait_ready(2)
    for model in MAKERS:
        put(gateway, model, "2")
    return gateway


@pytest.mark.parametrize("model", MAKERS)
def test_each_version_of_a_format_answers_what_its_own_library_answers(gateway, model):
    form = format_of(model)
    for version in GOOD:
        answer = gateway.ask("POST", f"/models/{model}/versions/{version}/predict", asked(form.rows))
        assert (answer.status, answer.version) == (200, version), answer
        assert is_right(answer, form, slice(None)), answer
    for one, other in zip(form.answers["1"], form.answers["2"], strict=True):
        apart = np.abs(one.astype(float) - other).reshape(ROWS, -1).max(1)
        assert (apart > 1e-4).all()  # no answer of the one passes for the other's


def test_versions_of_every_format_change_under_load_and_every_answer_is_of_the_version_it_names(gateway):
    with run_loads(gateway) as loads:
        loads.wait("1")
        for _ in range(2):
            for model in MAKERS:
                ask(gateway, "POST", f"/models/{model}/activate", {"version": "2"})
            loads.wait("2")
            for model in MAKERS:
                ask(gateway, "POST", f"/models/{model}/rollback")
            loads.wait("1")
    assert (loads.failed, loads.wrong) == ({}, {})


def mean_difference(form: Format) -> float:
    """The mean over all rows and numbers of how far the two versions are apart."""
    apart = [
        np.abs(one.astype(float) - other).reshape(ROWS, -1)
        for one, other in zip(form.answers["1"], form.answers["2"], strict=True)
    ]
    return float(np.concatenate(apart, axis=1).mean())


def test_a_shadow_of_every_format_answers_nobody_and_its_difference_is_told(gateway):
    with ExitStack() as stack:
        paths = {
            model: stack.enter_context(experiment(gateway, model, arms={"1": 1}, shadows=["2"]))
            for model in MAKERS
        }
        with run_loads(gateway) as loads:
            loads.wait("1")
        assert (loads.failed, loads.wrong) == ({}, {})
        for model, path in paths.items():
            assert loads[model].answered.keys() == {"1"}
            count = loads[model].answered["1"]
            shadow = wait_for(
                lambda path=path, count=count: shadow_of(gateway, path, count), f"{model} is compared"
            )
            assert (shadow["errors"], shadow["left_out"]) == (0, 0)
            told = shadow["mean_absolute_difference"]["value"]
            assert told == pytest.approx(mean_difference(format_of(model)), rel=1e-3), model


def shadow_of(gateway: Gateway, path: str, count: int) -> Any:
    """What the shadow did, once it has answered so many requests."""
    shadow = ask(gateway, "GET", path)["shadows"]["2"]
    return shadow if shadow["compared"] >= count else None


def test_a_version_of_every_format_that_fails_is_taken_back_while_the_others_answer(gateway):
    for model in MAKERS:
        put(gateway, model, BAD)
    with ExitStack() as stack:
        guard = {"factor": 2, "requests": 20}
        plan = {"arms": {"1": 50, "2": 30, BAD: 20}, "guard": None}
        paths = {model: stack.enter_context(experiment(gateway, model, **plan)) for model in MAKERS}
        with run_loads(gateway) as loads:
            for version in GOOD:
                loads.wait(version)
            for model, path in paths.items():
                arms = {"1": 60, BAD: 40}
                ask(gateway, "PUT", path, {"model": model, "arms": arms, "guard": guard})
            for path in paths.values():
                wait_for(lambda path=path: ask(gateway, "GET", path)["state"] == "tripped", f"{path} trips")
            failed = {model: len(load.failed) for model, load in loads.items()}
            loads.wait("1")
        assert loads.wrong == {}
        for model, path in paths.items():
            shown = ask(gateway, "GET", path)
            assert shown["weights"] == {"1": 100.0, BAD: 0.0}
            assert f"requests to {BAD} failed, 0 of" in shown["reason"]
            assert shown["arms"]["1"]["errors"] == 0
            bad = shown["arms"][BAD]
            assert bad["errors"] == bad["requests"] == len(loads[model].failed)  # no other request failed
            assert len(loads[model].failed) - failed[model] <= CLIENTS  # that were on their way


def test_a_version_that_is_slow_is_taken_back(gateway):
    put(gateway, "python", "slow")
    form = format_of("python")
    guard = {"factor": 2, "requests": 20}
    with experiment(gateway, "python", arms={"1": 50, "slow": 50}, guard=guard) as path:
        for row in [row % ROWS for row in range(400)]:
            answer = gateway.ask("POST", "/models/python/predict", asked(form.rows[row : row + 1]))
            assert is_right(answer, form, slice(row, row + 1))
            shown = ask(gateway, "GET", path)
            if shown["state"] == "tripped":
                break
        assert shown["weights"] == {"1": 100.0, "slow": 0.0}
        assert shown["reason"].startswith("the 95th percentile of slow is ")
