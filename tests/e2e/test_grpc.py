"""end to end: unmodified clients of the Open Inference Protocol over gRPC, and the services that gRPC has
itself, with real workers."""

from __future__ import annotations

import asyncio
import queue
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

import grpc
import numpy as np
import onnx
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from onnx import TensorProto, helper
from tritonclient.utils import InferenceServerException

import modelserver_pb2
import modelserver_pb2_grpc
from tests.e2e.held import spawn_held
from tests.e2e.processes import ROOT, SERVICES, Gateway, Process, Site, wait_for
from tests.e2e.test_models import linear, put
from tests.e2e.weights import ONE, expected, stored

ROWS = np.array([[0.1, 0.2], [0.3, 0.7], [0.5, 0.5]], np.float32)


class Server:
    """A gateway with a gRPC door, and what asks it."""

    def __init__(self, site: Site, *flags: str) -> None:
        self.address = f"127.0.0.1:{site.ports.take()}"
        self.gateway: Gateway = site.start_gateway("--addr_grpc", self.address, *flags)
        self.triton = triton.InferenceServerClient(self.address)
        self.channel = grpc.insecure_channel(self.address)

    def close(self) -> None:
        self.triton.close()
        self.channel.close()


@pytest.fixture(scope="module")
def server(shared_site):
    """Two workers; the sample network is `default`, and `line` is x·1 + y·2 (version 2: x·1000 + y·3)."""
    server = Server(shared_site, "--workers", "2")
    server.gateway.wait_ready(2)
    assert server.gateway.set_weights(ONE, stored(ONE)).json["message"] == "OK"
    for version in ("1", "2"):
        path = f"line/versions/{version}?file=model.pt"
        assert put(server.gateway, path, linear(version)).json["status"] is True
    yield server
    server.close()


@pytest.fixture
def held(site, tmp_path):
    """One worker that runs nothing while `hold` is there; at most three requests may wait."""
    hold = tmp_path / "hold"
    server = Server(site, "--queue_max", "3")
    spawn_held(site, server.gateway, hold)
    yield server, hold
    hold.unlink(missing_ok=True)
    server.close()


def tensor(rows: Any, name: str = "vector", datatype: str = "FP32") -> triton.InferInput:
    """An input, as the client sends it (raw)."""
    given = triton.InferInput(name, list(rows.shape), datatype)
    given.set_data_from_numpy(rows)
    return given


def answer(result: triton.InferResult) -> float:
    """The one number of an answer to one row."""
    number: float = result.as_numpy("result").item()
    return number


def in_flight(server: Server) -> int:
    """Rows at the workers."""
    return sum(worker["in_flight"] for worker in server.gateway.status()["workers"])


def waiting(server: Server) -> int:
    """Requests in the queue."""
    return int(server.gateway.status()["queue_requests_current"])


def identity(datatype: int, width: int = 2) -> bytes:
    """An ONNX model that answers its input."""
    shape = ["rows", width]
    nodes = [helper.make_node("Identity", ["x"], ["y"])]
    ends = [helper.make_tensor_value_info(name, datatype, shape) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "identity", ends[:1], ends[1:])
    opset = [helper.make_opsetid("", 17)]
    model: bytes = helper.make_model(graph, opset_imports=opset, ir_version=9).SerializeToString()
    onnx.checker.check_model(onnx.load_from_string(model))
    return model


def refused(call: Callable[[], object]) -> tuple[str, str]:
    """(status, message) of what tritonclient raises."""
    with pytest.raises(InferenceServerException) as caught:
        call()
    return caught.value.status().removeprefix("StatusCode."), caught.value.message()


# --- tritonclient


def test_a_batch_is_answered_with_the_id_the_version_and_who_answered(server):
    result = server.triton.infer("default", [tensor(ROWS)], request_id="seven")
    said = result.get_response()
    assert (said.id, said.model_name, said.model_version) == ("seven", "default", ONE)
    assert said.parameters["worker"].string_param in {"local-0", "local-1"}
    np.testing.assert_allclose(
        result.as_numpy("result").ravel(), [expected(ONE, *row) for row in ROWS], rtol=2e-6
    )


def test_a_version_is_answered_by_its_name(server):
    row = tensor(np.array([[7, 5]], np.float32), "x")
    for version, right in (("", 17), ("1", 17), ("2", 7015)):
        result = server.triton.infer("line", [row], model_version=version)
        assert (result.get_response().model_version, answer(result)) == (version or "1", right)


@pytest.mark.parametrize(
    ("name", "kind", "datatype", "rows"),
    [
        ("half", TensorProto.FLOAT16, "FP16", np.array([[0.5, -2], [3, 65504]], np.float16)),
        ("text", TensorProto.STRING, "BYTES", np.array([[b"", b"\xc3\xa9"], [b"long" * 99, b"d"]], object)),
        ("long", TensorProto.INT64, "INT64", np.array([[2**62, -1]], np.int64)),
    ],
)
def test_datatypes_come_back_as_they_went(server, name, kind, datatype, rows):
    assert put(server.gateway, f"{name}/versions/1?file=model.onnx", identity(kind)).json["status"] is True
    back = server.triton.infer(name, [tensor(rows, "x", datatype)]).as_numpy("y")
    assert back.tolist() == rows.tolist()


def test_typed_contents_are_taken_and_raw_ones_answered(server):
    message = triton.service_pb2.ModelInferRequest(model_name="default")
    given = message.inputs.add(name="vector", datatype="FP32", shape=[3, 2])
    given.contents.fp32_contents.extend(ROWS.ravel())
    stub = triton.service_pb2_grpc.GRPCInferenceServiceStub(server.channel)
    said = stub.ModelInfer(message, timeout=30)
    whole = server.triton.infer("default", [tensor(ROWS)]).get_response()
    assert list(said.raw_output_contents) == list(whole.raw_output_contents)


def test_64_mib_go_there_and_back(server):
    model = identity(TensorProto.FLOAT, width=1 << 18)
    assert put(server.gateway, "wide/versions/1?file=model.onnx", model).json["status"] is True
    rows = np.arange(64 << 18, dtype=np.float32).reshape(64, -1)
    assert server.triton.infer("wide", [tensor(rows, "x")]).as_numpy("y").tobytes() == rows.tobytes()


def test_what_is_too_much_for_a_frame_is_refused_and_harms_no_worker(server):
    pids = [worker["pid"] for worker in server.gateway.wait_ready(2)]
    blob = identity(TensorProto.STRING)
    assert put(server.gateway, "blob/versions/1?file=model.onnx", blob).json["status"] is True

    def refusal(size: int) -> tuple[str, str]:
        large = np.array([[b"\1" * (size // 2), b"\2" * (size // 2)]], object)
        return refused(lambda: server.triton.infer("blob", [tensor(large, "x", "BYTES")]))

    status, message = refusal((64 << 20) + 4096)
    assert (status, "at most 67108864 go to a worker" in message) == ("INVALID_ARGUMENT", True)
    status, message = refusal(66 << 20)  # more than any message may have, rows or not
    assert (status, "more than the 68157440 bytes that are allowed" in message) == (
        "RESOURCE_EXHAUSTED",
        True,
    )
    assert [worker["pid"] for worker in server.gateway.wait_ready(2)] == pids


def test_requests_started_together_are_all_answered(server):
    answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
    for n in range(200):
        row = np.array([[n, 2 * n]], np.float32)
        server.triton.async_infer(
            "line", [tensor(row, "x")], lambda result, error: answers.put((result, error)), request_id=str(n)
        )
    for _ in range(200):
        result, error = answers.get(timeout=30)
        assert error is None
        assert answer(result) == 5 * int(result.get_response().id)


def test_a_stream_answers_in_order_and_outlives_what_is_wrong_with_one(server):
    answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
    server.triton.start_stream(lambda result, error: answers.put((result, error)))
    for n in range(100):
        row = tensor(np.array([[n, 0]], np.float32), "x")
        name = "line" if n % 10 else "none"
        server.triton.async_stream_infer(name, [row], request_id=str(n), enable_empty_final_response=True)
    for n in range(100):
        result, error = answers.get(timeout=30)
        if n % 10:
            said = result.get_response()
            assert (said.id, answer(result)) == (str(n), n)
            assert said.parameters["triton_final_response"].bool_param
        else:
            assert "[NOT_FOUND] there is no model none" in error.message()
    server.triton.stop_stream()


def test_the_asyncio_client_infers_compressed_and_streams(server):
    async def ask() -> tuple[list[float], list[str]]:
        async with triton_aio.InferenceServerClient(server.address) as client:
            rows = [np.array([[n, 1]], np.float32) for n in range(50)]
            results = await asyncio.gather(
                *[client.infer("line", [tensor(row, "x")], compression_algorithm="gzip") for row in rows]
            )

            async def requests() -> Any:
                for n, row in enumerate(rows):
                    yield {"model_name": "line", "inputs": [tensor(row, "x")], "request_id": str(n)}

            ids = [result.get_response().id async for result, _ in client.stream_infer(requests())]
            return [answer(result) for result in results], ids

    sums, ids = asyncio.run(ask())
    assert sums == [n + 2 for n in range(50)]
    assert ids == [str(n) for n in range(50)]


def test_what_is_said_of_server_and_models(server):
    client = server.triton
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("line", "2")
    assert client.get_server_metadata().name == "pipeline"
    metadata = client.get_model_metadata("default", as_json=True)
    assert metadata["inputs"] == [{"name": "vector", "datatype": "FP32", "shape": ["-1", "2"]}]
    config = client.get_model_config("default").config
    assert (config.max_batch_size, config.input[0].data_type, list(config.input[0].dims)) == (1024, 11, [2])
    index = {(each.name, each.version): each.state for each in client.get_model_repository_index().models}
    assert index["line", "1"] == index["line", "2"] == "READY"


def test_statistics_count_what_was_asked(server):
    def count() -> int:
        (stats,) = server.triton.get_inference_statistics("line", "2").model_stats
        return int(stats.inference_stats.success.count)

    before = count()
    for n in range(5):
        server.triton.infer("line", [tensor(np.array([[n, 9]], np.float32), "x")], model_version="2")
    assert count() == before + 5


def test_a_model_is_loaded_from_the_request_and_unloaded(server):
    model = identity(TensorProto.FLOAT)
    server.triton.load_model("sent", config="{}", files={"file:1/model.onnx": model})
    rows = tensor(np.ones((1, 2), np.float32), "x")
    assert server.triton.infer("sent", [rows]).as_numpy("y").tolist() == [[1, 1]]
    server.triton.unload_model("sent")
    assert refused(lambda: server.triton.infer("sent", [rows]))[0] == "NOT_FOUND"
    server.triton.load_model("sent")
    assert server.triton.infer("sent", [rows]).as_numpy("y").tolist() == [[1, 1]]


def test_errors_have_the_status_that_says_whose_fault_it_is(server):
    client = server.triton
    rows = tensor(ROWS)
    assert refused(lambda: client.infer("none", [rows]))[0] == "NOT_FOUND"
    assert refused(lambda: client.infer("line", [rows], model_version="9"))[0] == "NOT_FOUND"
    assert refused(lambda: client.infer("default", [tensor(ROWS, "x")]))[0] == "INVALID_ARGUMENT"
    assert (
        refused(lambda: client.infer("default", [tensor(np.ones((1, 3), np.float32))]))[0]
        == "INVALID_ARGUMENT"
    )
    assert refused(lambda: client.load_model("none"))[0] == "NOT_FOUND"
    assert refused(client.get_system_shared_memory_status)[0] == "UNIMPLEMENTED"
    assert refused(client.get_trace_settings)[0] == "UNIMPLEMENTED"


# --- deadlines, cancels, a full queue


def test_the_smaller_of_deadline_and_timeout_is_the_one_that_counts(held):
    server, _ = held
    rows = tensor(ROWS[:1])
    began = time.monotonic()
    status, _ = refused(
        lambda: server.triton.infer("default", [rows], client_timeout=0.2, timeout=20_000_000)
    )
    assert status == "DEADLINE_EXCEEDED"
    status, message = refused(
        lambda: server.triton.infer("default", [rows], client_timeout=60, timeout=200_000)
    )
    assert (status, message) == ("DEADLINE_EXCEEDED", "Deadline exceeded")  # in the server's own words
    assert time.monotonic() - began < 20


def test_a_full_queue_says_so_and_cancelled_requests_never_run(held):
    server, hold = held
    answers: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def ask(n: int) -> Any:
        row = tensor(np.array([[n, 0.5]], np.float32))
        return server.triton.async_infer("default", [row], lambda result, error: answers.put((result, error)))

    flying = []
    for n in range(2):  # a worker has two slots, each of which takes one batch
        flying.append(ask(n))
        wait_for(lambda: in_flight(server) == len(flying), "it is at the worker")
    queued = [ask(n) for n in range(2, 5)]
    wait_for(lambda: waiting(server) == 3, "three wait")
    assert refused(lambda: server.triton.infer("default", [tensor(ROWS)])) == (
        "RESOURCE_EXHAUSTED",
        "Server is busy",
    )
    for each in queued:
        each.cancel()
    wait_for(lambda: waiting(server) == 0, "cancelled requests leave the queue")
    hold.unlink()
    ends = [answers.get(timeout=30) for _ in range(5)]
    assert sorted(error is None for _, error in ends) == [False] * 3 + [True] * 2
    (stats,) = server.triton.get_inference_statistics("default").model_stats
    assert stats.inference_count == 2


def test_hundreds_of_cancels_at_once_leave_nothing_behind(held):
    server, hold = held
    hold.unlink()
    server.triton.infer("default", [tensor(ROWS)])

    async def ask_and_go() -> int:
        async with triton_aio.InferenceServerClient(server.address) as client:
            chance = np.random.default_rng(7)
            tasks = [
                asyncio.create_task(
                    client.infer("default", [tensor(chance.random((1, 2), np.float32))], client_timeout=10)
                )
                for _ in range(300)
            ]
            await asyncio.sleep(0)
            for n, task in enumerate(tasks):
                if n % 3 == 0:
                    await asyncio.sleep(0)
                task.cancel()
            return len(await asyncio.gather(*tasks, return_exceptions=True))

    for _ in range(3):
        assert asyncio.run(ask_and_go()) == 300
    wait_for(lambda: not waiting(server) and not in_flight(server), "nothing is left")
    server.gateway.wait_ready(1)
    assert server.triton.infer("default", [tensor(ROWS)]).as_numpy("result").shape == (3, 1)


# --- what dies


def test_a_worker_killed_meanwhile_costs_no_request(site):
    server = Server(site)
    workers = [site.spawn_worker() for _ in range(2)]
    server.gateway.wait_ready(2)
    assert server.gateway.set_weights(ONE, stored(ONE)).json["message"] == "OK"

    async def run() -> list[float]:
        wrong: list[float] = []
        async with triton_aio.InferenceServerClient(server.address) as client:

            async def loop(seed: int) -> None:
                chance = np.random.default_rng(seed)
                for n in range(150):
                    row = chance.random((1, 2), np.float32)
                    got = answer(await client.infer("default", [tensor(row)]))
                    if abs(got - expected(ONE, *row[0])) > 1e-5:
                        wrong.append(got)
                    if (seed, n) == (0, 30):
                        workers[0].kill()

            await asyncio.gather(*map(loop, range(8)))
        return wrong

    assert asyncio.run(run()) == []
    server.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_gateway_that_is_told_to_stop_answers_what_it_has(held, number):
    server, hold = held
    answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
    server.triton.async_infer("default", [tensor(ROWS)], lambda result, error: answers.put((result, error)))
    server.triton.start_stream(lambda result, error: answers.put((result, error)))
    wait_for(lambda: in_flight(server), "it is at the worker")
    server.gateway.send(number)
    server.gateway.wait_for_line("draining")
    hold.unlink()
    result, error = answers.get(timeout=30)
    if result is None:  # the stream's end may come first
        assert "UNAVAILABLE" in str(error)
        result, error = answers.get(timeout=30)
    assert error is None
    assert result.as_numpy("result").shape == (3, 1)
    assert server.gateway.wait() == 0


# --- other clients


def test_kserves_client_infers(server):
    process = Process("kserve", [sys.executable, str(SERVICES / "kserve_grpc.py"), server.address], {
        "PYTHONPATH": str(ROOT), "PATH": "", "HOME": "/nonexistent",
    }, server.gateway.log.with_name("kserve.log"))  # fmt: skip
    try:
        assert process.wait(120) == 0, process.output
    finally:
        process.kill()
    assert "live True ready True model True" in process.output
    assert "infer [17.0]" in process.output


def test_grpcs_own_health_service_and_reflection(server):
    stub = health_pb2_grpc.HealthStub(server.channel)
    for service in ("", "inference.GRPCInferenceService", "ModelServer"):
        assert stub.Check(health_pb2.HealthCheckRequest(service=service)).status == 1
        assert next(stub.Watch(health_pb2.HealthCheckRequest(service=service))).status == 1
    with pytest.raises(grpc.RpcError) as caught:
        stub.Check(health_pb2.HealthCheckRequest(service="none"))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    database = ProtoReflectionDescriptorDatabase(server.channel)
    assert {"ModelServer", "inference.GRPCInferenceService"} <= set(database.get_services())
    assert database.FindFileContainingSymbol("inference.ModelInferRequest").package == "inference"


def test_the_model_server_through_the_fleet(server):
    stub = modelserver_pb2_grpc.ModelServerStub(server.channel)
    predict = lambda *row: stub.Predict(modelserver_pb2.PredictRequest(X=row))  # noqa: E731
    assert predict(1).error == "there are no coefs yet: call SetCoefs first"
    for coefs in ([1, 2, 3], [10, 20, 30], [10, 20, 30]):
        assert stub.SetCoefs(modelserver_pb2.SetCoefsRequest(coefs=coefs)).error == ""
        right = float(sum(coefs))
        assert [(each.y, each.hit) for each in (predict(1, 1, 1), predict(1, 1, 1.00001))] == [
            (right, False),
            (right, True),
        ]
    assert "FP32 [3]" in predict(1, 2).error
    assert stub.SetCoefs(modelserver_pb2.SetCoefsRequest()).error != ""
    assert [predict(n, 0, 0).hit for n in [*range(11), 0, 10]] == [False] * 12 + [True]  # ten are remembered
