"""Collaboration: engine/server.py with everything under it, over a fake runtime and the sample network."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, wait
from typing import Any

import numpy as np
import pytest
import torch

from common.errors import (
    DeadlineExceeded,
    Draining,
    InvalidRequest,
    LoadError,
    ModelError,
    ModelNotFound,
    NotFound,
    NotRunning,
    QueueFull,
)
from common.tensor import TensorSpec
from engine import loading as loading_module
from engine.runtimes.fake import FakeRuntime
from engine.server import ModelServer

BAD = 666.0
PATIENCE = 20.0


class Site:
    """A server, and models that are fakes: `add` loads one; `busy` has a thread be in it until told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.real_load = loading_module.load_runtime
        self.monkeypatch = monkeypatch
        self.server = ModelServer(cache_size=0, max_queue_size=5)
        self.threads = ThreadPoolExecutor(70)

    def add(self, model: str = "m", *, runtime: FakeRuntime | None = None, **options: Any) -> FakeRuntime:
        runtime = runtime or FakeRuntime(bad=(BAD,))
        self.monkeypatch.setattr(loading_module, "load_runtime", lambda *_: runtime)
        self.server.load_model(model, b"", **options)
        self.monkeypatch.setattr(loading_module, "load_runtime", self.real_load)
        return runtime

    def busy(self, runtime: FakeRuntime, model: str = "m") -> "Future[float]":
        """A prediction of [100, 0] that is in the model until its gate is opened."""
        runtime.gate.clear()
        runtime.entered.clear()
        running = self.threads.submit(self.server.predict, model, [100, 0])
        assert runtime.entered.wait(PATIENCE)
        return running

    def until(self, condition: Callable[[], bool]) -> None:
        end = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < end, "it never came true"
            time.sleep(0.001)

    def queued(self, size: int) -> None:
        self.until(lambda: self.server.health_check()["queue_size"] == size)


@pytest.fixture
def site(monkeypatch) -> Iterator[Site]:
    site = Site(monkeypatch)
    site.server.start()
    yield site
    site.server.stop()
    site.threads.shutdown()
    assert not [each.name for each in threading.enumerate() if each.name.startswith("model-server")]


# --- predicting


def test_one_row_gets_its_prediction_in_the_callers_own_thread(site: Site) -> None:
    runtime = site.add()
    who: list[threading.Thread] = []
    runtime.on_call = lambda: who.append(threading.current_thread())
    assert site.server.predict("m", [1, 2]) == 3.0
    assert site.server.predict("m", np.array([1.5, 2.0])) == 3.5
    assert who == [threading.current_thread()] * 2


def test_what_came_while_a_batch_ran_is_the_next_batch(site: Site) -> None:
    runtime = site.add(batch_size=3)
    running = site.busy(runtime)
    waiting = []
    for i in range(5):
        waiting.append(site.threads.submit(site.server.predict, "m", [i, 0]))
        site.queued(i + 1)
    runtime.gate.set()
    assert [each.result(PATIENCE) for each in (running, *waiting)] == [100, 0, 1, 2, 3, 4]
    assert runtime.calls == [[[100, 0]], [[0, 0], [1, 0], [2, 0]], [[3, 0], [4, 0]]]
    assert site.server.get_metrics()["batches"] == {
        "count": 3, "mean_size": 2.0, "max_size": 3, "sizes": {1: 1, 2: 1, 3: 1},
    }  # fmt: skip


def test_a_leader_stops_after_its_own_row_is_answered(site: Site) -> None:
    runtime = site.add(batch_size=1)
    who: list[str] = []
    runtime.on_call = lambda: who.append(threading.current_thread().name)
    running = site.busy(runtime)
    others = [site.threads.submit(site.server.predict, "m", [i, 0]) for i in range(4)]
    site.queued(4)
    runtime.gate.set()
    assert [each.result(PATIENCE) for each in others] == [0, 1, 2, 3]
    assert running.result(PATIENCE) == 100
    assert len(who) == len(set(who)) == 5


def test_a_row_that_fails_fails_alone(site: Site) -> None:
    runtime = site.add()
    running = site.busy(runtime)
    good = [site.threads.submit(site.server.predict, "m", [i, 0]) for i in range(3)]
    site.queued(3)
    bad = site.threads.submit(site.server.predict, "m", [BAD, 0], None, "mine")
    site.queued(4)
    runtime.gate.set()
    assert [each.result(PATIENCE) for each in (running, *good)] == [100, 0, 1, 2]
    with pytest.raises(ModelError, match=r"^cannot run 666\.0$") as raised:
        bad.result(PATIENCE)
    assert raised.value.trace.endswith("ValueError: cannot run 666.0\n")
    assert raised.value.request_id == "mine"


def test_a_batch_has_each_rows_prediction_or_error_in_its_place(site: Site) -> None:
    runtime = site.add(batch_size=2)
    answers = site.server.predict_batch("m", [[1, 2], [BAD, 0], [1], [5, 6], "no", (7, 8)])
    assert [answers[i] for i in (0, 3, 5)] == [3, 11, 15]
    assert [type(answers[i]) for i in (1, 2, 4)] == [ModelError, InvalidRequest, InvalidRequest]
    assert max(len(call) for call in runtime.calls) == 2
    assert site.server.predict_batch("m", np.arange(6).reshape(3, 2)) == [1, 5, 9]
    assert site.server.predict_batch("m", []) == []
    metrics = site.server.get_metrics()
    assert (metrics["requests"], metrics["errors"], metrics["rejected"]) == (9, 3, 0)


def test_a_batch_larger_than_the_queue_is_one_request_and_lets_others_in_between(site: Site) -> None:
    runtime = site.add(batch_size=2)
    running = site.busy(runtime)
    many = site.threads.submit(site.server.predict_batch, "m", [[i, 0] for i in range(50)])
    site.queued(1)
    one = site.threads.submit(site.server.predict, "m", [200, 0])
    site.queued(2)
    runtime.gate.set()
    assert (running.result(PATIENCE), one.result(PATIENCE)) == (100, 200)
    assert many.result(PATIENCE) == list(range(50))
    assert runtime.ran.index([200, 0]) < 5


def test_rows_of_unlike_shapes_wait_in_one_queue_and_run_apart(site: Site) -> None:
    runtime = site.add(runtime=FakeRuntime((TensorSpec("x", "FP32", (-1,)),)))
    running = site.busy(runtime)
    rows = [[1], [1, 2], [2], [1, 2, 3]]
    waiting = []
    for row in rows:
        waiting.append(site.threads.submit(site.server.predict, "m", row))
        site.queued(len(waiting))
    runtime.gate.set()
    assert [each.result(PATIENCE) for each in waiting] == [1, 3, 2, 6]
    assert running.result(PATIENCE) == 100
    assert runtime.calls[1:] == [[[1], [2]], [[1, 2]], [[1, 2, 3]]]
    assert site.server.predict_batch("m", rows) == [1, 3, 2, 6]


def test_sixty_four_threads_get_what_the_bare_model_says(adding) -> None:
    with ModelServer(cache_size=500) as server, ThreadPoolExecutor(64) as threads:
        server.load_model("adder", adding.data)
        together = threading.Barrier(64)

        def ask(seed: int) -> list[tuple[list[float], float]]:
            rows = np.random.default_rng(seed % 8).normal(size=(40, 2)).astype(np.float32).tolist()
            together.wait(PATIENCE)
            return [(row, server.predict("adder", row)) for row in rows]

        answered = [pair for pairs in threads.map(ask, range(64)) for pair in pairs]
        metrics = server.get_metrics()
        runtime = server._registry.get("adder", "1")._runtime
        _, (expected,) = runtime.run([np.array([row for row, _ in answered], np.float32)])
    assert [answer for _, answer in answered] == expected[:, 0].tolist()
    assert (metrics["requests"], metrics["errors"], metrics["queue_depth"]) == (64 * 40, 0, 0)
    # Of the rows that were in a batch, only the first of each was run; the cache knew the others.
    assert metrics["cache"]["hits"] + metrics["cache"]["misses"] == 64 * 40
    assert metrics["cache"]["misses"] == 8 * 40


def test_what_the_cache_knows_waits_for_nobody(site: Site) -> None:
    runtime = site.add(cache_size=10)
    assert site.server.predict("m", [1, 2]) == 3
    running = site.busy(runtime)
    assert site.server.predict("m", [1, 2], timeout=PATIENCE) == 3
    assert site.server.predict_async("m", [1, 2]).result(PATIENCE) == 3
    runtime.gate.set()
    assert running.result(PATIENCE) == 100
    metrics = site.server.get_metrics()
    assert (metrics["requests"], metrics["cache"]["hits"], metrics["cache"]["misses"]) == (4, 2, 2)
    assert metrics["cache"]["hit_rate"] == 0.5


def test_a_model_told_to_round_sees_the_rounded_row(site: Site) -> None:
    runtime = site.add(cache_size=10, round_decimals=1)
    assert site.server.predict("m", [0.52, 0.0]) == site.server.predict("m", [0.48, -0.01]) == 0.5
    assert runtime.ran == [[0.5, 0.0]]


# --- limits


def test_a_full_queue_raises_at_once_for_whoever_comes(site: Site) -> None:
    runtime = site.add()
    running = site.busy(runtime)
    waiting = [site.server.predict_async("m", [i, 0]) for i in range(5)]
    for ask in (
        lambda: site.server.predict("m", [9, 9], request_id="x"),
        lambda: site.server.predict_async("m", [9, 9]),
        lambda: site.server.predict_batch("m", [[9, 9], [8, 8]]),
    ):
        with pytest.raises(QueueFull, match=r"^5 requests wait already"):
            ask()
    runtime.gate.set()
    assert [each.result(PATIENCE) for each in waiting] == [0, 1, 2, 3, 4]
    assert running.result(PATIENCE) == 100
    metrics = site.server.get_metrics()
    assert (metrics["requests"], metrics["errors"], metrics["rejected"]) == (10, 4, 4)
    assert metrics["success_rate"] == 0.6


def test_who_waits_too_long_is_told_and_counted_once_whether_queued_or_in_the_model(site: Site) -> None:
    runtime = site.add()
    running = site.busy(runtime)
    with pytest.raises(DeadlineExceeded, match=r"^Deadline exceeded$"):
        site.server.predict("m", [1, 0], timeout=0.01)
    assert [type(each) for each in site.server.predict_batch("m", [[2, 0], [3, 0]], timeout=0.01)] == [
        DeadlineExceeded
    ] * 2
    late = site.server.predict_async("m", [4, 0], timeout=0.0)
    runtime.gate.set()
    with pytest.raises(DeadlineExceeded):
        late.result(PATIENCE)
    assert running.result(PATIENCE) == 100
    assert runtime.ran == [[100, 0]]
    # Now one whose row is in another's batch as its time ends.
    running = site.busy(runtime)
    one = site.threads.submit(site.server.predict, "m", [5, 0])
    site.queued(1)
    two = site.threads.submit(site.server.predict, "m", [6, 0], timeout=0.3)
    site.queued(2)
    runtime.entered.clear()
    steps = [threading.Event(), threading.Event()]
    runtime.on_call = lambda: (steps[0].set(), steps[1].wait(PATIENCE)) if len(runtime.calls) == 3 else None
    runtime.gate.set()
    assert steps[0].wait(PATIENCE)
    with pytest.raises(DeadlineExceeded):
        two.result(PATIENCE)
    steps[1].set()
    assert (running.result(PATIENCE), one.result(PATIENCE)) == (100, 5)
    metrics = site.server.get_metrics()
    assert (metrics["requests"], metrics["errors"]) == (8, 5)


def test_a_batch_waits_for_others_as_long_as_it_was_told(site: Site) -> None:
    runtime = site.add(max_wait_time=PATIENCE, batch_size=3)
    waiting = [site.threads.submit(site.server.predict, "m", [i, 0]) for i in range(3)]
    assert sorted(each.result(PATIENCE / 2) for each in waiting) == [0, 1, 2]
    assert [len(call) for call in runtime.calls] == [3]
    began = time.monotonic()
    assert site.server.predict("m", [7, 0], timeout=0.2) == 7  # half of its time, not all of it
    assert 0.09 < time.monotonic() - began < 5
    short = site.add("short", max_wait_time=0.05)
    began = time.monotonic()
    assert site.server.predict("short", [1, 1]) == 2
    assert time.monotonic() - began >= 0.05
    assert len(short.calls) == 1


# --- futures


def test_a_future_has_the_request_id_and_its_callback_the_prediction(site: Site) -> None:
    site.add()
    told: list[object] = []
    called = threading.Event()

    def callback(prediction: object, error: object) -> None:
        told.append((prediction, error, threading.current_thread().name.startswith("model-server")))
        called.set()

    future = site.server.predict_async("m", [1, 2], callback, request_id="r-1")
    assert isinstance(future, Future)
    assert (future.result(PATIENCE), future.request_id) == (3, "r-1")
    assert called.wait(PATIENCE)
    assert told == [(3, None, True)]
    one, two = (site.server.predict_async("m", [i, 2]) for i in range(2))
    assert len({one.request_id, two.request_id}) == 2
    assert len(one.request_id) == 32
    wait([one, two], PATIENCE)


def test_a_row_that_fails_sets_the_error_and_tells_the_callback(site: Site) -> None:
    site.add()
    told: Future[object] = Future()
    future = site.server.predict_async("m", [BAD, 0], lambda *both: told.set_result(both), request_id="r")
    error = future.exception(PATIENCE)
    assert isinstance(error, ModelError)
    assert error.request_id == "r"
    assert told.result(PATIENCE) == (None, error)


def test_what_is_known_at_once_is_raised_at_once(site: Site) -> None:
    site.add()
    with pytest.raises(InvalidRequest) as raised:
        site.server.predict_async("m", [1], request_id="r")
    assert raised.value.request_id == "r"
    with pytest.raises(ModelNotFound):
        site.server.predict_async("x", [1, 2])


def test_a_future_cancelled_while_it_waits_is_never_run_and_makes_room(site: Site) -> None:
    runtime = site.add()
    running = site.busy(runtime)
    told: list[object] = []
    futures = [site.server.predict_async("m", [i, 0], lambda *both: told.append(both)) for i in range(5)]
    assert [futures[i].cancel() for i in (0, 2, 2)] == [True, True, True]
    site.server.predict_async("m", [5, 0])
    assert [(prediction, type(error)) for prediction, error in told] == [(None, CancelledError)] * 2
    assert wait([futures[0]], PATIENCE).done
    runtime.gate.set()
    assert [futures[i].result(PATIENCE) for i in (1, 3, 4)] == [1, 3, 4]
    assert running.result(PATIENCE) == 100
    site.server.stop()
    assert sorted(row[0] for row in runtime.ran) == [1, 3, 4, 5, 100]
    assert not futures[1].cancel()
    metrics = site.server.get_metrics()
    assert (metrics["requests"], metrics["cancelled"], metrics["errors"]) == (5, 2, 0)


def test_hundreds_of_cancels_at_any_moment_leave_nothing_behind(site: Site) -> None:
    runtime = site.add(max_queue_size=1000, batch_size=4)
    futures = []
    for i in range(600):
        futures.append(site.server.predict_async("m", [i, 0]))
        if i % 3 == 0:
            futures[i // 2].cancel()
    wait(futures, PATIENCE)
    site.server.stop()
    ran = {row[0] for row in runtime.ran}
    assert [each.cancelled() or each.result(0) == i for i, each in enumerate(futures)] == [True] * 600
    assert ran == {i for i, each in enumerate(futures) if not each.cancelled()}
    metrics = site.server.get_metrics()
    assert metrics["requests"] + metrics["cancelled"] == 600
    assert metrics["queue_depth"] == 0


@pytest.mark.parametrize("raised", [ValueError("mine"), SystemExit()])
def test_a_callback_that_raises_harms_nobody(site: Site, raised, caplog) -> None:
    runtime = site.add()
    running = site.busy(runtime)

    def fail(*_: object) -> None:
        raise raised

    futures = [site.server.predict_async("m", [i, 0], fail) for i in range(3)]
    runtime.gate.set()
    assert [each.result(PATIENCE) for each in futures] == [0, 1, 2]
    assert site.server.predict_async("m", [4, 0]).result(PATIENCE) == 4
    assert running.result(PATIENCE) == 100
    site.server.stop()
    assert caplog.text.count("a callback of predict_async failed") == 3


def test_a_callback_may_ask_again_and_may_stop_the_server(site: Site) -> None:
    site.add()
    done: Future[float] = Future()
    site.server.predict_async("m", [1, 0], lambda *_: done.set_result(site.server.predict("m", [2, 0])))
    assert done.result(PATIENCE) == 2
    stopped = threading.Event()
    site.server.predict_async("m", [1, 0], lambda *_: (site.server.stop(), stopped.set()))
    assert stopped.wait(PATIENCE)
    assert site.server.health_check()["status"] == "stopped"
    site.until(lambda: not [t for t in threading.enumerate() if t.name.startswith("model-server")])


def test_slow_callbacks_of_one_model_do_not_hold_up_callers_of_another(site: Site) -> None:
    site.add("slow")
    site.add("quick")
    go_on = threading.Event()
    futures = [site.server.predict_async("slow", [i, 0], lambda *_: go_on.wait(PATIENCE)) for i in range(5)]
    assert site.server.predict("quick", [1, 2]) == 3
    assert site.server.predict_async("quick", [3, 4]).result(PATIENCE) == 7
    go_on.set()
    wait(futures, PATIENCE)


# --- beginning and end


def test_a_server_that_is_not_started_says_what_to_do(adding) -> None:
    server = ModelServer()
    assert server.load_model("adder", adding.data) == "1"
    assert server.health_check()["status"] == "stopped"
    for ask in (
        lambda: server.predict("adder", [1, 2]),
        lambda: server.predict_async("adder", [1, 2]),
        lambda: server.predict_batch("adder", [[1, 2]]),
    ):
        with pytest.raises(NotRunning) as raised:
            ask()
        assert str(raised.value) == (
            "the model server is not running: call start(), or use it in a with statement"
        )
    with server:
        server.start()
        assert server.predict("adder", [0.3, 0.7]) == pytest.approx(1.0, abs=1e-4)
        assert server.health_check()["status"] == "running"
    with pytest.raises(NotRunning):
        server.predict("adder", [1, 2])
    server.stop()
    with server:
        assert server.predict("adder", [0.3, 0.7]) == pytest.approx(1.0, abs=1e-4)
    assert server.get_metrics()["requests"] == 2


def test_stop_answers_what_waits_and_refuses_what_comes(site: Site) -> None:
    runtime = site.add(max_wait_time=PATIENCE)
    runtime.gate.clear()
    first = site.threads.submit(site.server.predict, "m", [1, 0])
    site.queued(1)
    futures = [site.server.predict_async("m", [i, 0]) for i in range(2, 4)]
    stopping = site.threads.submit(site.server.stop)
    assert runtime.entered.wait(PATIENCE)  # the batch waits for nobody any more
    assert site.server.health_check()["status"] == "stopping"
    with pytest.raises(NotRunning):
        site.server.predict("m", [5, 0])
    runtime.gate.set()
    stopping.result(PATIENCE)
    assert [each.result(0) for each in futures] == [2, 3]
    assert first.result(PATIENCE) == 1


def test_what_stop_has_no_time_for_fails_with_a_sentence_and_what_runs_goes_on(site: Site) -> None:
    runtime = site.add()
    running = site.busy(runtime)
    waiting = site.threads.submit(site.server.predict, "m", [1, 0])
    site.queued(1)
    told: list[object] = []
    future = site.server.predict_async("m", [2, 0], lambda *both: told.append(both))
    gone = site.server.predict_async("m", [3, 0])
    gone.cancel()
    site.server.stop(timeout=0.01)
    for each in (waiting, future):
        with pytest.raises(Draining, match=r"^the model server was stopped before this was run$"):
            each.result(PATIENCE)
    assert told == [(None, future.exception())]
    runtime.gate.set()
    assert running.result(PATIENCE) == 100
    assert runtime.ran == [[100, 0]]
    site.server.start()
    assert site.server.predict("m", [4, 0]) == 4
    metrics = site.server.get_metrics()
    assert (metrics["requests"], metrics["errors"], metrics["cancelled"]) == (4, 2, 1)


def test_ctrl_c_in_a_waiting_caller_or_in_the_leader_keeps_nobody_waiting(site: Site) -> None:
    runtime = site.add()

    def interrupt() -> None:
        runtime.on_call = lambda: None
        raise KeyboardInterrupt

    runtime.on_call = interrupt
    running = site.busy(runtime)
    other = site.threads.submit(site.server.predict, "m", [1, 0])
    site.queued(1)
    runtime.gate.set()
    with pytest.raises(KeyboardInterrupt):
        running.result(PATIENCE)
    assert other.result(PATIENCE) == 1
    assert site.server.predict("m", [2, 0]) == 2


# --- models and versions


def test_versions_are_numbered_and_the_newest_or_the_activated_answers(constant) -> None:
    with ModelServer() as server:
        weights = {value: constant(value).data for value in (1.0, 2.0, 3.0)}
        assert [server.load_model("m", weights[value]) for value in (1.0, 2.0)] == ["1", "2"]
        assert server.predict("m", [5, 6]) == 2.0
        assert server.predict("m", [5, 6], version="1") == 1.0
        server.activate("m", "1")
        assert server.load_model("m", weights[3.0], version="blue") == "blue"
        assert server.predict("m", [5, 6]) == 1.0
        assert server.health_check()["models"]["m"]["active"] == "1"
        assert server.models() == {"m": ["1", "2", "blue"]}
        server.unload_model("m", "1")
        assert server.predict("m", [5, 6]) == 3.0
        server.unload_model("m", "blue")
        assert server.predict("m", [5, 6]) == 2.0
        assert server.load_model("m", weights[1.0]) == "3"
        server.unload_model("m")
        assert server.models() == {}
        for ask in (
            lambda: server.predict("m", [5, 6]),
            lambda: server.unload_model("m"),
            lambda: server.predict_batch("m", [[5, 6]]),
        ):
            with pytest.raises(ModelNotFound, match=r"^no model 'm' is loaded$"):
                ask()
        assert server.get_metrics()["requests"] == 5
        assert server.load_model("m", weights[1.0]) == "1"


def test_what_is_not_there_or_there_already_is_told(constant) -> None:
    data = constant(1.0).data
    with ModelServer() as server:
        server.load_model("m", data, version="a")
        with pytest.raises(ModelNotFound, match=r"^model 'm' has no version 'b' loaded$") as raised:
            server.predict("m", [1, 2], version="b", request_id="r")
        assert isinstance(raised.value, NotFound)
        assert raised.value.request_id == "r"
        with pytest.raises(ModelNotFound, match=r"^model 'm' has no version 'b' loaded$"):
            server.activate("m", "b")
        with pytest.raises(InvalidRequest, match=r"^model 'm' has a version 'a': unload it first"):
            server.load_model("m", data, version="a")
        with pytest.raises(TypeError, match=r"^load_model has no option batchsize$"):
            server.load_model("m", data, batchsize=3)
        with pytest.raises(ValueError, match=r"^batch_size is 0, and has to be at least 1$"):
            server.load_model("m", data, batch_size=0)
        with pytest.raises(ValueError, match=r"^a model needs a name"):
            server.load_model("", data)
        with pytest.raises(LoadError):
            server.load_model("m", b"random")
        with pytest.raises(LoadError, match=r"^the weights cannot be read: No such file or directory$"):
            server.load_model("m", "/no/such/file")
        with pytest.raises(LoadError, match="none such"):
            server.load_model("m", data, "none such")
        assert server.models() == {"m": ["a"]}
        assert server.load_model("m", data) == "1"


@pytest.mark.parametrize(
    "arguments",
    [
        {"batch_size": 0},
        {"max_wait_time": -1.0},
        {"max_wait_time": float("nan")},
        {"max_queue_size": 0},
        {"cache_size": -1},
        {"cache_bytes": -1},
        {"device": "cuda"},
    ],
)
def test_nonsense_is_refused_with_a_sentence(arguments) -> None:
    if "device" in arguments and torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    with pytest.raises(ValueError, match=r"\w+ \w+"):
        ModelServer(**arguments)


def test_a_model_loads_from_a_file_by_its_path(adding, tmp_path) -> None:
    path = tmp_path / "adder.pt"
    path.write_bytes(adding.data)
    with ModelServer() as server:
        server.load_model("a", str(path), "torch")
        server.load_model("b", path, architecture="sample")
        assert server.predict("a", [1, 2]) == server.predict("b", [1, 2])
        assert server.health_check()["models_loaded"] == 2


def test_a_slow_load_does_not_hold_up_predictions(site: Site, monkeypatch) -> None:
    site.add()
    loading, go_on = threading.Event(), threading.Event()

    def slow(*_: object) -> FakeRuntime:
        loading.set()
        assert go_on.wait(PATIENCE)
        return FakeRuntime()

    monkeypatch.setattr(loading_module, "load_runtime", slow)
    load = site.threads.submit(site.server.load_model, "slow", b"")
    assert loading.wait(PATIENCE)
    assert site.server.predict("m", [1, 2]) == 3
    assert site.server.health_check()["models_loaded"] == 1
    with pytest.raises(ModelNotFound):
        site.server.predict("slow", [1, 2])
    go_on.set()
    assert load.result(PATIENCE) == "1"
    assert site.server.predict("slow", [1, 2]) == 3


def test_versions_loaded_at_once_never_get_one_name(constant) -> None:
    with ModelServer() as server, ThreadPoolExecutor(8) as threads:
        data = constant(1.0).data
        names = list(threads.map(lambda _: server.load_model("m", data), range(24)))
        assert sorted(names, key=int) == [str(i) for i in range(1, 25)]
        assert server.predict("m", [1, 2]) == 1.0


def test_unloading_answers_what_waits_under_the_version_it_came_to(site: Site) -> None:
    runtime = site.add()
    running = site.busy(runtime)
    waiting = site.threads.submit(site.server.predict, "m", [1, 0])
    site.queued(1)
    unloading = site.threads.submit(site.server.unload_model, "m")
    site.until(lambda: site.server.models() == {})
    other = site.add()
    assert site.server.predict("m", [2, 0]) == 2
    runtime.gate.set()
    assert (running.result(PATIENCE), waiting.result(PATIENCE)) == (100, 1)
    unloading.result(PATIENCE)
    assert (runtime.ran, other.ran) == ([[100, 0], [1, 0]], [[2, 0]])


def test_what_unloading_has_no_time_for_fails_with_a_sentence(site: Site) -> None:
    runtime = site.add()
    running = site.busy(runtime)
    future = site.server.predict_async("m", [1, 0])
    site.server.unload_model("m", timeout=0.0)
    with pytest.raises(Draining, match=r"^model 'm' was unloaded before this was run$"):
        future.result(PATIENCE)
    runtime.gate.set()
    assert running.result(PATIENCE) == 100


# --- figures


def test_metrics_are_exact(site: Site) -> None:
    site.add("a")
    site.add("b")
    for i in range(3):
        site.server.predict("a", [i, 0])
    with pytest.raises(ModelError):
        site.server.predict("a", [BAD, 0])
    with pytest.raises(InvalidRequest):
        site.server.predict("b", [1])
    health = site.server.health_check()
    assert (health["status"], health["models_loaded"], health["queue_size"]) == ("running", 2, 0)
    a, b = health["models"]["a"], health["models"]["b"]
    assert (a["versions"], a["requests"], a["errors"], a["success_rate"]) == (["1"], 4, 1, 0.75)
    assert (b["requests"], b["errors"], b["success_rate"], b["latency"]["p99"]) == (1, 1, 0.0, 0.0)
    assert 0 < a["latency"]["p50"] <= a["latency"]["p99"] <= a["latency"]["max"] < PATIENCE
    site.server.unload_model("b")
    metrics = site.server.get_metrics()
    assert (metrics["requests"], metrics["errors"], metrics["rejected"], metrics["cancelled"]) == (5, 2, 0, 0)
    assert metrics["batches"]["sizes"] == {1: 4}
    assert metrics["throughput"] == pytest.approx(3 / metrics["uptime"])
    assert metrics["latency"]["mean"] > 0


def test_latency_is_from_the_call_to_the_answer(site: Site) -> None:
    runtime = site.add()
    running = site.busy(runtime)
    time.sleep(0.05)
    runtime.gate.set()
    running.result(PATIENCE)
    assert 0.05 <= site.server.get_metrics()["latency"]["max"] < PATIENCE
