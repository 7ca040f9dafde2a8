"""end to end: unmodified clients of the Open Inference Protocol over REST, with a gateway and its workers."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from tritonclient.utils import InferenceServerException

from tests.e2e.processes import ROOT, SERVICES, Gateway, wait_for

CODE = "tests.services.v2_models"
LINEAR = {"1": (1.0, 2.0), "2": (10.0, 20.0)}
# name: (the function, its settings)
FUNCTIONS = {
    "upper": ("upper", '[[inputs]]\nname = "text"\ndatatype = "BYTES"\nshape = [2]\n'),
    "word": ("same", '[[inputs]]\nname = "word"\ndatatype = "BYTES"\nshape = [1]\n'),
    "halves": ("double", '[[inputs]]\nname = "halves"\ndatatype = "FP16"\nshape = [-1]\n'),
    "add_sub": ("add_sub", "".join(f'[[inputs]]\nname="{n}"\ndatatype="INT32"\nshape=[2]\n' for n in "ab")),
    "scores": (
        "same",
        'labels = ["cat", "dog"]\ncache_size = 0\n[[inputs]]\nname = "x"\ndatatype = "FP32"\nshape = [3]\n',
    ),
    "anything": ("same", ""),
    "slow": ("slow", 'cache_size = 0\n[[inputs]]\nname = "x"\ndatatype = "FP32"\nshape = [1]\n'),
}
NUMPY_TYPES = {
    "BOOL": np.bool_, "INT8": np.int8, "INT16": np.int16, "INT32": np.int32, "INT64": np.int64,
    "UINT8": np.uint8, "UINT16": np.uint16, "UINT32": np.uint32, "UINT64": np.uint64,
    "FP16": np.float16, "FP32": np.float32, "FP64": np.float64,
}  # fmt: skip


def weights(version: str) -> bytes:
    file = io.BytesIO()
    torch.save({"coefs": torch.tensor(LINEAR[version])}, file)
    return file.getvalue()


def write_folder(folder: Path) -> None:
    for name, (function, settings) in FUNCTIONS.items():
        (folder / name / "1").mkdir(parents=True)
        (folder / name / "model.toml").write_text(settings)
        (folder / name / "1" / "model.py").write_text(f"{CODE}:{function}")
    for version in LINEAR:
        (folder / "linear" / version).mkdir(parents=True)
        (folder / "linear" / version / "model.pt").write_bytes(weights(version))
    (folder / "linear" / "model.toml").write_text('architecture = "linear"\n')


@pytest.fixture(scope="module")
def gateway(shared_site) -> Gateway:
    """A gateway with two local workers and a folder of models."""
    folder = shared_site.folder / "models"
    write_folder(folder)
    gateway = shared_site.start_gateway("--workers", "2", "--models", str(folder), "--allow_code", CODE)
    gateway.wait_ready(2)
    return gateway


@pytest.fixture
def client(gateway) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(f"127.0.0.1:{gateway.port}", concurrency=4) as opened:
        wait_for(lambda: len(opened.get_model_repository_index()) >= len(FUNCTIONS) + 2, "all models")
        yield opened


def given(name: str, array: Any, datatype: str, *, binary: bool = True) -> triton.InferInput:
    tensor = triton.InferInput(name, list(array.shape), datatype)
    tensor.set_data_from_numpy(array, binary_data=binary)
    return tensor


def row(*numbers: float) -> Any:
    return np.array([numbers], np.float32)


@contextmanager
def refused(status: int, sentence: str) -> Iterator[None]:
    with pytest.raises(InferenceServerException) as caught:
        yield
    assert caught.value.status() == str(status)
    assert sentence in caught.value.message()


# --- health and descriptions


def test_health_and_metadata_are_what_the_client_expects(client) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("linear")
    assert client.is_model_ready("linear", "1")
    assert not client.is_model_ready("linear", "9")
    assert not client.is_model_ready("nothing")
    server = client.get_server_metadata()
    assert server["name"] == "pipeline"
    assert "binary_tensor_data" in server["extensions"]
    assert client.get_model_metadata("linear") == {
        "name": "linear",
        "versions": ["1", "2"],
        "platform": "torch",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}],
        "outputs": [{"name": "result", "datatype": "FP32", "shape": [-1]}],
    }
    config = client.get_model_config("upper")
    assert config["max_batch_size"] == 1024
    assert config["input"] == [{"name": "text", "data_type": "TYPE_STRING", "dims": [2]}]


# --- inference


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False])
def test_rows_are_answered_in_json_and_in_binary(client, binary_in: bool, binary_out: bool) -> None:
    tensor = given("x", np.array([[1, 2], [3, 4]], np.float32), "FP32", binary=binary_in)
    outputs = [triton.InferRequestedOutput("result", binary_data=binary_out)]
    result = client.infer("linear", [tensor], outputs=outputs, request_id="mine")
    assert result.as_numpy("result").tolist() == [50.0, 110.0]
    said = result.get_response()
    assert (said["id"], said["model_name"], said["model_version"]) == ("mine", "linear", "2")
    assert said["parameters"]["worker"].startswith("local-")
    assert ("data" in said["outputs"][0]) is not binary_out


def test_a_version_that_is_named_answers(client) -> None:
    for version, (a, b) in LINEAR.items():
        result = client.infer("linear", [given("x", row(1, 1), "FP32")], model_version=version)
        assert result.as_numpy("result").tolist() == [a + b]
        assert result.get_response()["model_version"] == version


@pytest.mark.parametrize("datatype", NUMPY_TYPES)
def test_every_datatype_comes_back_as_it_was(client, datatype: str) -> None:
    numbers = np.array([[0, 1, 2], [1, 0, 5]]).astype(NUMPY_TYPES[datatype])
    result = client.infer("anything", [given("x", numbers, datatype)])
    answer = result.as_numpy("result")
    assert answer.dtype == numbers.dtype
    assert answer.tolist() == numbers.tolist()


def test_bytes_go_and_come_whatever_they_are(client) -> None:
    text = np.array([[b"one", "zwölf".encode()], [b"", b"\xff\x00a"]], np.object_)
    answer = client.infer("upper", [given("text", text, "BYTES")]).as_numpy("result")
    assert answer.tolist() == [[b"ONE", "zwölf".encode().upper()], [b"", b"\xff\x00A"]]
    answer = client.infer(
        "upper",
        [given("text", text[:1], "BYTES", binary=False)],
        outputs=[triton.InferRequestedOutput("result", binary_data=False)],
    ).as_numpy("result")
    assert answer.tolist() == [["ONE", "ZWöLF"]]
    with refused(400, "output result holds bytes that are no UTF-8 text"):
        client.infer(
            "upper",
            [given("text", text, "BYTES")],
            outputs=[triton.InferRequestedOutput("result", binary_data=False)],
        )


def test_halves_are_binary_and_have_no_form_in_json(client) -> None:
    halves = given("halves", np.array([[1.5, -2.25]], np.float16), "FP16")
    answer = client.infer("halves", [halves]).as_numpy("result")
    assert (answer.dtype, answer.tolist()) == (np.float16, [[3.0, -4.5]])
    with refused(400, "output result is of FP16, which JSON has no form for"):
        client.infer("halves", [halves], outputs=[triton.InferRequestedOutput("result", binary_data=False)])


def test_several_inputs_come_in_any_order_and_outputs_are_chosen(client) -> None:
    a = given("a", np.array([[1, 2]], np.int32), "INT32")
    b = given("b", np.array([[10, 20]], np.int32), "INT32", binary=False)
    result = client.infer("add_sub", [b, a])
    assert result.as_numpy("sum").tolist() == [[11, 22]]
    assert result.as_numpy("difference").tolist() == [[-9, -18]]
    result = client.infer("add_sub", [a, b], outputs=[triton.InferRequestedOutput("difference")])
    assert [output["name"] for output in result.get_response()["outputs"]] == ["difference"]
    with refused(400, "there is no output product: the model gives sum, difference"):
        client.infer("add_sub", [a, b], outputs=[triton.InferRequestedOutput("product")])


def test_classes_are_scores_indexes_and_labels(client) -> None:
    scores = given("x", np.array([[0.1, 0.7, 0.2], [3, 2, 9]], np.float32), "FP32")
    outputs = [triton.InferRequestedOutput("result", class_count=2)]
    answer = client.infer("scores", [scores], outputs=outputs).as_numpy("result")
    assert answer.tolist() == [[b"0.700000:1:dog", b"0.200000:2"], [b"9.000000:2", b"3.000000:0:cat"]]


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_bodies_are_compressed_both_ways(client, gateway, coding: str) -> None:
    numbers = np.arange(3000, dtype=np.float32).reshape(1000, 3)
    result = client.infer(
        "scores",
        [given("x", numbers, "FP32")],
        request_compression_algorithm=coding,
        response_compression_algorithm=coding,
    )
    assert result.as_numpy("result").tolist() == numbers.tolist()
    body = json.dumps(
        {"inputs": [{"name": "x", "shape": [1000, 3], "datatype": "FP32", "data": numbers.tolist()}]}
    ).encode()
    answer = gateway.ask("POST", "/v2/models/scores/infer", body, accept_encoding=coding)
    assert answer.headers["content-encoding"] == coding
    for path in ("/v2/models/scores", "/v2/models/stats", "/v2/models/nothing"):
        assert "content-encoding" not in gateway.ask("GET", path, accept_encoding=coding).headers


def test_a_small_body_that_becomes_a_large_one_is_refused(gateway) -> None:
    body = gzip.compress(bytes(64 << 20))
    answer = gateway.ask("POST", "/v2/models/linear/infer", body, content_encoding="gzip")
    assert answer.status == 413
    assert answer.json == {"error": "the body has more than 8388608 bytes when it is decompressed"}


def test_a_body_without_json_is_one_row(gateway) -> None:
    answer = gateway.ask(
        "POST", "/v2/models/linear/infer", row(1, 2).tobytes(), inference_header_content_length="0"
    )
    head = int(answer.headers["inference-header-content-length"])
    assert answer.headers["content-type"] == "application/octet-stream"
    assert json.loads(answer.body[:head])["outputs"][0]["shape"] == [1]
    assert np.frombuffer(answer.body[head:], np.float32).tolist() == [50.0]
    assert answer.headers["x-model-version"] == "2"
    word = gateway.ask("POST", "/v2/models/word/infer", b"hello", inference_header_content_length="0")
    assert word.body.endswith(b"\5\0\0\0hello")


def test_the_clients_many_requests_at_once_are_all_answered(client) -> None:
    waiting = [client.async_infer("linear", [given("x", row(n, 0), "FP32")]) for n in range(50)]
    assert [each.get_result().as_numpy("result")[0] for each in waiting] == [10.0 * n for n in range(50)]


def test_the_client_of_asyncio_does_the_same(gateway, client) -> None:
    async def use() -> list[float]:
        async with triton_aio.InferenceServerClient(f"127.0.0.1:{gateway.port}") as aio:
            assert await aio.is_server_ready()
            assert (await aio.get_model_metadata("linear"))["versions"] == ["1", "2"]
            assert len(await aio.get_model_repository_index()) >= len(FUNCTIONS)
            with refused(404, "there is no model nothing"):
                await aio.infer("nothing", [given("x", row(1, 2), "FP32")])
            jobs = [
                aio.infer("linear", [given("x", row(n, 0), "FP32")], response_compression_algorithm="gzip")
                for n in range(20)
            ]
            return [float(result.as_numpy("result")[0]) for result in await asyncio.gather(*jobs)]

    assert asyncio.run(use()) == [10.0 * n for n in range(20)]


@pytest.mark.parametrize("form", ["binary", "json"])
def test_the_client_of_kserve_does_the_same(gateway, client, form: str) -> None:
    kserve = subprocess.run(
        [sys.executable, SERVICES / "kserve_rest.py", gateway.url, form],
        env={"PYTHONPATH": str(ROOT), "PATH": "", "HOME": "/nonexistent"},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert kserve.returncode == 0, kserve.stderr
    assert kserve.stdout.splitlines() == ["live True ready True", "models True False", "mine [50.0, 110.0]"]


# --- what is refused


@pytest.mark.parametrize(
    ("model", "tensor", "sentence"),
    [
        ("linear", given("y", row(1, 2), "FP32"), "takes the inputs x, each once, and the request has y"),
        ("linear", given("x", row(1, 2, 3), "FP32"), "takes the shape [-1, 2], where -1 is any number, and"),
        ("linear", given("x", row(1, 2).astype(np.int32), "INT32"), "takes FP32, and the request has INT32"),
    ],
)
def test_what_does_not_fit_the_model_is_said(client, model: str, tensor: Any, sentence: str) -> None:
    with refused(400, sentence):
        client.infer(model, [tensor])


def test_parameters_that_ask_for_what_is_not_served_are_refused(client) -> None:
    tensor = [given("x", row(1, 2), "FP32")]
    with refused(400, "sequence_id is not served"):
        client.infer("linear", tensor, sequence_id=7, sequence_start=True)
    shared = triton.InferInput("x", [1, 2], "FP32")
    shared.set_shared_memory("region", 8)
    with refused(400, "input x: shared memory is not served"):
        client.infer("linear", [shared])
    with refused(501, "systemsharedmemory/status is not served"):
        client.get_system_shared_memory_status()
    assert client.infer("linear", tensor, priority=1).as_numpy("result").tolist() == [50.0]


def test_a_timeout_in_microseconds_is_kept(client) -> None:
    with refused(504, "Deadline exceeded"):
        client.infer("slow", [given("x", row(1), "FP32")], timeout=100_000)


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/v2/nothing", b"", 404),
        ("GET", "/v2/models/nothing", b"", 404),
        ("GET", "/v2/models/linear/infer", b"", 405),
        ("PUT", "/v2", b"", 405),
        ("POST", "/v2/models/linear/infer", b"{", 400),
        ("POST", "/v2/models/linear/infer", b'{"inputs":[]}', 400),
        ("POST", "/v2/models/linear/infer", bytes(9 << 20), 413),
        ("POST", "/v2/repository/models/nothing/load", b"{}", 404),
        ("POST", "/v2/repository/models/nothing/unload", b"{}", 404),
        ("POST", "/v2/repository/index", b"[", 400),
        ("POST", "/v2/logging", b"{}", 501),
        ("GET", "/v2/models/linear/versions/9/infer", b"", 405),
    ],
)
def test_every_refusal_has_the_protocols_shape(
    gateway, client, method: str, path: str, body: bytes, status: int
) -> None:
    answer = gateway.ask(method, path, body)
    assert answer.status == status
    assert list(answer.json) == ["error"]
    assert isinstance(answer.json["error"], str)


def test_a_head_that_is_too_large_is_refused_in_the_protocols_shape(gateway) -> None:
    answer = gateway.ask("GET", "/v2/health/live", x_large="a" * 40_000)
    assert (answer.status, list(answer.json)) == (431, ["error"])


# --- loading and unloading


def test_a_model_is_unloaded_and_loaded_again(client, gateway) -> None:
    client.load_model(
        "fresh",
        config=json.dumps({"backend": "torch", "parameters": {"architecture": {"string_value": "linear"}}}),
        files={"file:7/model.pt": weights("1")},
    )
    ask = [given("x", row(1, 1), "FP32")]
    assert client.infer("fresh", ask).as_numpy("result").tolist() == [3.0]
    client.unload_model("fresh")
    [entry] = [each for each in client.get_model_repository_index() if each["name"] == "fresh"]
    assert entry == {"name": "fresh", "version": "7", "state": "UNAVAILABLE", "reason": "not loaded"}
    assert not client.is_model_ready("fresh")
    with refused(404, "there is no model fresh"):
        client.infer("fresh", ask)
    ready = gateway.ask("POST", "/v2/repository/index", b'{"ready":true}').json
    assert "fresh" not in [each["name"] for each in ready]
    client.load_model("fresh")
    assert client.is_model_ready("fresh")
    assert client.infer("fresh", ask).as_numpy("result").tolist() == [3.0]


def test_a_model_of_the_folder_is_loaded_from_there(client) -> None:
    client.unload_model("word")
    client.load_model("word")
    tensor = given("word", np.array([[b"a"]], np.object_), "BYTES")
    assert client.infer("word", [tensor]).as_numpy("result").tolist() == [[b"a"]]


def test_what_is_wrong_in_the_folder_is_said(client, shared_site) -> None:
    (shared_site.folder / "models" / "torn" / "1").mkdir(parents=True)
    with refused(400, "torn/1: a version has exactly one file called model.*, and there is none"):
        client.load_model("torn")


def test_a_file_that_does_not_load_is_refused_and_leaves_nothing(client) -> None:
    with refused(400, "LoadError"):
        client.load_model("broken", config="{}", files={"file:1/model.pt": b"not a model"})
    assert "broken" not in [each["name"] for each in client.get_model_repository_index()]
    with refused(400, "config alone changes nothing"):
        client.load_model("linear", config="{}")


def test_no_request_is_lost_as_its_model_is_unloaded(client, gateway) -> None:
    askers = [gateway.client() for _ in range(3)]
    for n, asker in enumerate(askers):
        asked = {"inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [n]}]}
        asker.send("POST", "/v2/models/slow/infer", json.dumps(asked).encode())
    gateway.wait_status(lambda status: status["requests_in_progress"] == 3, "three requests in progress")
    client.unload_model("slow")
    answers = [asker.receive().json["outputs"][0]["data"] for asker in askers]
    assert answers == [[0.0], [1.0], [2.0]]
    assert not client.is_model_ready("slow")
    client.load_model("slow")


# --- statistics


def counts(client: Any, model: str) -> dict[str, Any]:
    [stats] = client.get_inference_statistics(model)["model_stats"]
    found = {name: each["count"] for name, each in stats["inference_stats"].items()}
    return found | {"rows": stats["inference_count"], "executions": stats["execution_count"]}


def test_statistics_count_exactly_what_was_asked(client) -> None:
    client.load_model(
        "counted",
        config=json.dumps({"backend": "torch", "parameters": {"architecture": {"string_value": "linear"}}}),
        files={"file:1/model.pt": weights("1")},
    )
    assert counts(client, "counted") == dict.fromkeys(counts(client, "counted"), 0)
    for rows in ([1, 2, 3], [4], [1, 2, 3], [5, 5]):
        client.infer("counted", [given("x", np.array([[n, 0] for n in rows], np.float32), "FP32")])
    with refused(400, "takes the inputs x"):
        client.infer("counted", [given("y", row(1, 2), "FP32")])
    assert counts(client, "counted") == {
        "success": 4,
        "fail": 0,  # what is refused at the door was never the model's
        "queue": 4,
        "compute_input": 3,
        "compute_infer": 3,
        "compute_output": 3,
        "cache_hit": 1,
        "cache_miss": 3,
        "rows": 5,  # two equal rows are computed once
        "executions": 3,
    }
    [stats] = client.get_inference_statistics("counted")["model_stats"]
    assert {each["batch_size"]: each["compute_infer"]["count"] for each in stats["batch_stats"]} == {
        1: 2,
        3: 1,
    }
    assert stats["last_inference"] > 1.7e12
    assert 0 < stats["inference_stats"]["compute_infer"]["ns"] <= stats["inference_stats"]["success"]["ns"]
    everything = client.get_inference_statistics()["model_stats"]
    assert {each["name"] for each in everything} >= {"counted", "linear", "upper"}
