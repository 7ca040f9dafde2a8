"""Contract: server.py's two classes as a course's tests use them; then end to end, as a process over gRPC."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import grpc
import pytest
import torch

import modelserver_pb2 as pb
import modelserver_pb2_grpc
import server
from common.errors import InvalidRequest, NoWeights
from server import ModelServer, PredictionCache
from tests.services.model_server import model_server

ROOT = Path(__file__).resolve().parent.parent
COEFS = torch.tensor([[1.0], [2.0], [3.0]])
TIMEOUT = 30.0


@pytest.fixture
def cache() -> PredictionCache:
    cache = PredictionCache()
    cache.SetCoefs(COEFS)
    return cache


def row(*numbers: float) -> torch.Tensor:
    return torch.tensor([numbers], dtype=torch.float32)


def hits(cache: PredictionCache, *first_numbers: float) -> list[bool]:
    return [cache.Predict(row(number, 0, 0))[1] for number in first_numbers]


# --- PredictionCache


def test_a_row_is_computed_once_and_then_remembered(cache) -> None:
    y, hit = cache.Predict(row(1, 2, 3))
    assert (y, y.shape, y.dtype, hit) == (torch.tensor([[14.0]]), (1, 1), torch.float32, False)
    assert cache.Predict(row(1, 2, 3)) == (torch.tensor([[14.0]]), True)


def test_several_rows_at_once_are_a_column(cache) -> None:
    X = torch.tensor([[1.0, 2.0, 3.0], [0.0, 0.0, 1.0]])
    assert cache.Predict(X)[0].tolist() == [[14.0], [3.0]]
    assert cache.Predict(X)[1] is True
    assert cache.Predict(X[:1])[1] is False


def test_the_ten_rows_asked_last_are_remembered_and_the_least_recent_one_goes_first(cache) -> None:
    assert hits(cache, *range(10)) == [False] * 10
    assert hits(cache, *range(10)) == [True] * 10
    assert hits(cache, 0, 10) == [True, False]  # 1 is the one asked longest ago now, and goes for 10
    assert len(cache) == 10
    assert hits(cache, 0, *range(2, 11)) == [True] * 10
    assert hits(cache, 1, 0) == [False, False]


def test_numbers_are_rounded_to_four_decimals_before_anything_else(cache) -> None:
    y, _ = cache.Predict(row(1.00004, 0, 0))
    assert y.item() == 1.0
    assert hits(cache, 1.00001, 1.0, 0.99996) == [True, True, True]
    assert hits(cache, 1.0001, 1.00006) == [False, True]
    assert cache.Predict(row(0.12344, 0.0, 0.0))[0] == torch.round(row(0.12344), decimals=4)


def test_new_coefs_empty_the_cache_and_their_owner_may_change_the_tensor(cache) -> None:
    coefs = torch.tensor([[10.0], [0.0], [0.0]])
    cache.Predict(row(1, 2, 3))
    cache.SetCoefs(coefs)
    coefs.zero_()
    assert len(cache) == 0
    assert cache.Predict(row(1, 2, 3)) == (torch.tensor([[10.0]]), False)


def test_without_coefs_and_with_a_row_of_another_width_a_sentence_is_raised_and_the_lock_let_go(
    cache,
) -> None:
    empty = PredictionCache()
    for _ in range(2):
        with pytest.raises(NoWeights, match="there are no coefs yet: call SetCoefs first"):
            empty.Predict(row(1))
        with pytest.raises(InvalidRequest, match=r"there are 3 coefs, so X has to be of shape \[rows, 3\]"):
            cache.Predict(row(1, 2))
    with ThreadPoolExecutor(1) as other:
        assert other.submit(cache.Predict, row(1, 2, 3)).result(TIMEOUT)[0].item() == 14.0
        other.submit(empty.SetCoefs, COEFS).result(TIMEOUT)
    assert empty.Predict(row(1, 2, 3))[1] is False


@pytest.mark.parametrize(
    "coefs", [torch.tensor([1.0]), torch.ones(1, 2), torch.ones(0, 1), torch.ones(2, 1, dtype=torch.float64)]
)
def test_coefs_that_are_no_vertical_float32_tensor_are_refused_and_the_old_ones_stay(cache, coefs) -> None:
    with pytest.raises(InvalidRequest, match=r"coefs have to be a float32 tensor of shape \[n, 1\]"):
        cache.SetCoefs(coefs)
    assert cache.Predict(row(1, 2, 3))[0].item() == 14.0


def test_numbers_that_are_not_finite_are_answered_as_float32_does_and_remembered(cache) -> None:
    for X, expected in ((row(float("nan"), 0, 0), "nan"), (row(float("inf"), 1, 1), "inf")):
        assert [str(cache.Predict(X)[0].item()) for _ in range(2)] == [expected, expected]
        assert cache.Predict(X)[1] is True


def test_many_threads_with_the_same_ten_rows_compute_each_once(cache) -> None:
    together = threading.Barrier(8)

    def ask(_: int) -> list[tuple[float, bool]]:
        together.wait(TIMEOUT)
        answers = [cache.Predict(row(number, 1, 1)) for number in range(10)]
        return [(y.item(), hit) for y, hit in answers]

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(ask, range(8)))
    assert all([y for y, _ in each] == [number + 5.0 for number in range(10)] for each in answers)
    assert sum(hit for each in answers for _, hit in each) == 70


def test_every_answer_belongs_to_one_set_of_coefs_while_they_change(cache) -> None:
    """Coefs are all n, so that an answer of mixed ones, or of older ones than were set, shows."""
    size, ended = 5000, threading.Event()
    newest = [0]

    def ask(_: int) -> None:
        X = torch.ones(1, size)
        while not ended.is_set():
            least = newest[0]
            y = cache.Predict(X)[0].item() / size
            assert y == int(y)
            assert least <= y <= newest[0] + 1

    cache.SetCoefs(torch.zeros(size, 1))
    with ThreadPoolExecutor(4) as threads:
        asking = [threads.submit(ask, number) for number in range(4)]
        try:
            for number in range(1, 200):
                cache.SetCoefs(torch.full((size, 1), float(number)))
                newest[0] = number
        finally:
            ended.set()
        for each in asking:
            each.result(TIMEOUT)


# --- ModelServer, without a network


def test_it_is_the_service_of_the_proto_and_needs_no_arguments() -> None:
    service = ModelServer()
    assert isinstance(service, modelserver_pb2_grpc.ModelServerServicer)
    assert service.SetCoefs(pb.SetCoefsRequest(coefs=[1, 2, 3]), None) == pb.SetCoefsResponse()
    assert str(service.Predict(pb.PredictRequest(X=[1, 2, 3]), None)) == "y: 14\n"
    assert str(service.Predict(pb.PredictRequest(X=[1, 2, 3]), None)) == "y: 14\nhit: true\n"


def test_the_messages_have_exactly_these_fields_and_the_service_these_calls() -> None:
    fields = {
        name: [(field.name, field.number, field.type) for field in message.fields]
        for name, message in pb.DESCRIPTOR.message_types_by_name.items()
    }
    number, boolean, text = 2, 8, 9  # FieldDescriptorProto.Type
    assert fields == {
        "SetCoefsRequest": [("coefs", 1, number)],
        "SetCoefsResponse": [("error", 1, text)],
        "PredictRequest": [("X", 1, number)],
        "PredictResponse": [("y", 1, number), ("hit", 2, boolean), ("error", 3, text)],
    }
    assert pb.DESCRIPTOR.package == ""
    (service,) = pb.DESCRIPTOR.services_by_name.values()
    assert (service.full_name, [each.name for each in service.methods]) == (
        "ModelServer",
        ["SetCoefs", "Predict"],
    )


def test_the_generated_modules_are_what_the_generator_makes_of_the_proto(tmp_path) -> None:
    script = [sys.executable, str(ROOT / "scripts" / "generate.py"), str(tmp_path)]
    subprocess.run(script, check=True, timeout=120)
    for name in ("modelserver_pb2.py", "modelserver_pb2_grpc.py"):
        assert (ROOT / name).read_text() == (tmp_path / name).read_text(), "run python scripts/generate.py"


# --- over gRPC


@pytest.fixture(scope="module")
def running() -> Iterator[Any]:
    with model_server() as running:
        yield running


def set_coefs(running: Any, *coefs: float) -> str:
    return running.stub.SetCoefs(pb.SetCoefsRequest(coefs=coefs), timeout=TIMEOUT).error


def predict(running: Any, *X: float) -> Any:
    return running.stub.Predict(pb.PredictRequest(X=X), timeout=TIMEOUT)


def test_before_any_coefs_a_prediction_is_answered_with_an_error(running) -> None:
    assert predict(running, 1.0).error == "there are no coefs yet: call SetCoefs first"


def test_answers_print_as_the_contract_says(running) -> None:
    assert set_coefs(running, 1, 2, 3) == ""
    assert str(predict(running, 1, 2, 3)) == "y: 14\n"
    assert str(predict(running, 1, 2, 3)) == "y: 14\nhit: true\n"


def test_a_bad_request_is_answered_with_a_sentence_and_the_next_one_as_ever(running) -> None:
    set_coefs(running, 1, 2, 3)
    for X in ((), (1,), (1, 2, 3, 4)):
        assert predict(running, *X) == pb.PredictResponse(
            error=f"there are 3 coefs, so X has to be of shape [rows, 3], not [1, {len(X)}]"
        )
    assert set_coefs(running).startswith("coefs have to be a float32 tensor of shape [n, 1], n at least 1")
    assert predict(running, 0, 0, 1).y == 3.0


def test_bytes_that_are_no_message_harm_nobody(running) -> None:
    set_coefs(running, 1)
    with pytest.raises(grpc.RpcError) as caught:
        running.channel.unary_unary("/ModelServer/Predict")(b"\xff\xff", timeout=TIMEOUT)
    assert (caught.value.code(), caught.value.details()) == (
        grpc.StatusCode.INTERNAL,
        "the message is no PredictRequest",
    )
    assert predict(running, 2).y == 2.0


def test_a_million_coefs_are_no_matter(running) -> None:
    many = [1.0] * 1_000_000
    assert set_coefs(running, *many) == ""
    assert predict(running, *many) == pb.PredictResponse(y=1_000_000)
    assert predict(running, *many).hit is True


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_in_good_order(number: signal.Signals) -> None:
    with model_server("--threads", "1") as running:
        assert running.greeting == (
            f"The model server listens on 127.0.0.1:{running.port}."
            f' Next: python client.py {running.port} "1.0,2.0,3.0" x1.csv\n'
        )
        assert set_coefs(running, 1) == ""
        running.process.send_signal(number)
        out, err = running.process.communicate(timeout=60)
        assert (running.process.returncode, out, err) == (0, "", "")


HELD = """
import sys
import server
predict = server.ModelServer.Predict
def held(self, request, context):
    if len(request.X) > 1:
        print("began", flush=True)
        sys.stdin.readline()
    return predict(self, request, context)
server.ModelServer.Predict = held
server.MAX_WAITING = 1
sys.exit(server.main(["--port", "0", "--threads", "1"]))
"""
LONG = [1.0] * (server.SHORT // 4)


def begin_long(running: Any) -> Any:
    return running.stub.Predict.future(pb.PredictRequest(X=LONG), timeout=TIMEOUT)


def let_one_go(running: Any) -> None:
    running.process.stdin.write("\n")
    running.process.stdin.flush()


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_a_call_in_flight_is_answered_before_it_ends() -> None:
    with model_server(command=["-c", HELD]) as running:
        set_coefs(running, *LONG)
        call = begin_long(running)
        assert running.process.stdout.readline() == "began\n"
        running.process.terminate()
        deadline = time.monotonic() + TIMEOUT
        while listens(running.port):
            assert time.monotonic() < deadline
        let_one_go(running)
        assert call.result(TIMEOUT).y == len(LONG)
        assert running.process.wait(60) == 0


def test_long_calls_have_threads_of_their_own_and_the_next_wait_or_are_refused() -> None:
    with model_server(command=["-c", HELD]) as running:
        set_coefs(running, *LONG)
        first = begin_long(running)
        assert running.process.stdout.readline() == "began\n"
        assert predict(running, 1).error.startswith(f"there are {len(LONG)} coefs")
        ended: SimpleQueue[Any] = SimpleQueue()
        for _ in range(2):  # one of them waits
            begin_long(running).add_done_callback(ended.put)
        refused = ended.get(timeout=TIMEOUT)
        assert (refused.code(), refused.details()) == (
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "as many long calls wait as may: 1",
        )
        let_one_go(running)
        assert first.result(TIMEOUT) == pb.PredictResponse(y=len(LONG))
        assert running.process.stdout.readline() == "began\n"
        let_one_go(running)
        assert ended.get(timeout=TIMEOUT).result() == pb.PredictResponse(y=len(LONG), hit=True)


def serve(*flags: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, str(ROOT / "server.py"), *flags],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.stdout == ""
    return done.returncode, done.stderr


def test_a_port_in_use_is_a_sentence(running) -> None:
    assert serve("--port", str(running.port)) == (
        1,
        f"server.py: cannot listen on 127.0.0.1:{running.port}: Address already in use\n",
    )


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--host", "0.0.0.0"], "--host 0.0.0.0 can be reached from other machines, and anybody who reaches"),
        (["--port", "65536"], "--port must be 0 to 65535, not 65536"),
        (["--threads", "0"], "--threads must be 1 or more, not 0"),
    ],
)
def test_a_flag_that_makes_no_sense_is_refused(flags: list[str], sentence: str, capsys) -> None:
    with pytest.raises(SystemExit, match="2"):
        server.main(flags)
    assert f"server.py: error: {sentence}" in capsys.readouterr().err


def test_where_others_can_reach_it_it_listens_when_it_is_told_so() -> None:
    with model_server("--host", "0.0.0.0", "--insecure") as running:
        assert running.greeting.startswith("The model server listens on 0.0.0.0:")
        assert set_coefs(running, 1) == ""


@pytest.mark.parametrize(("program", "extras"), [("server.py", "grpc,worker"), ("client.py", "grpc")])
def test_without_its_extra_a_program_says_which(program: str, extras: str, tmp_path) -> None:
    blocked = f"""
import runpy, sys
sys.path.insert(0, {str(ROOT)!r})
sys.modules['grpc'] = None
runpy.run_path({str(ROOT / program)!r}, run_name='__main__')
"""
    done = subprocess.run(
        [sys.executable, "-c", blocked],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert re.fullmatch(rf"{program} needs grpc: pip install 'pipeline-inference\[{extras}\]'\n", done.stderr)
