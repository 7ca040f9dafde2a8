"""end to end: every sentence of REST v1, asked of a real gateway with two real workers over real sockets."""

from __future__ import annotations

import base64
import io
import json
import os
import pickle
import random
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch

from tests.e2e.held import spawn_held
from tests.e2e.processes import Gateway, Site, Worker, open_site, wait_for
from tests.e2e.rest import Answer, ask_raw
from tests.e2e.weights import (
    ONE,
    TWO,
    bad_tensors,
    is_right,
    multipart,
    padded,
    saved,
    stored,
    upload,
)

MAX_UPLOAD = 64 << 10
BINARY = "application/octet-stream"
SHOWN = "One or more workers were failed with weights loading"


@pytest.fixture(scope="module")
def gateway(shared_site) -> Gateway:
    """A gateway with two workers of its own and the first network."""
    gateway = shared_site.start_gateway("--workers", "2", "--max_upload", str(MAX_UPLOAD))
    gateway.wait_ready(2)
    assert gateway.set_weights(ONE, stored(ONE)).json["status"] is True
    return gateway


def put(gateway: Gateway, body: bytes, content_type: str) -> tuple[int, Any]:
    answer = gateway.ask("PUT", "/set_weights", body, content_type=content_type)
    return answer.status, answer.json


def post(gateway: Gateway, body: str | bytes, **headers: str) -> Answer:
    raw = body.encode() if isinstance(body, str) else body
    return gateway.ask("POST", "/predict", raw, **headers)


def refusal(message: str) -> dict[str, Any]:
    return {"status": False, "message": message}


def trace(text: str) -> str:
    return base64.b64decode(text, validate=True).decode()


# --- PUT /set_weights

GOOD_ID = ("nn_id", ONE.encode(), None, None)
UUID = "NN id should contain a lower case UUID string"
GOOD_DATA = ("data", base64.b64encode(stored(ONE)), "weights.b64", BINARY)


def test_weights_are_set_on_every_worker(gateway):
    body, content_type = upload(ONE, stored(ONE))
    answer = gateway.ask("PUT", "/set_weights", body, content_type=content_type)
    assert answer.status == 200
    assert answer.body == (
        b'{"status":true,"message":"OK","workers_count":2,"workers":[{"result":true},{"result":true}]}'
    )


def test_the_parts_may_come_in_any_order_with_others_between(gateway):
    body, content_type = multipart(GOOD_DATA, ("comment", b"hello", None, None), GOOD_ID)
    status, said = put(gateway, body, content_type)
    assert (status, said["message"]) == (200, "OK")


def test_base64_may_be_wrapped_into_lines(gateway):
    wrapped = base64.encodebytes(stored(ONE)).replace(b"\n", b"\r\n")
    body, content_type = multipart(GOOD_ID, ("data", wrapped, "weights.b64", BINARY))
    status, said = put(gateway, body, content_type)
    assert (status, said["message"]) == (200, "OK")


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([], "NN id is required"),
        ([GOOD_DATA], "NN id is required"),
        ([("nn_id", ONE.encode(), "id.txt", "text/plain"), GOOD_DATA], "NN id should be a string"),
        ([("nn_id", b"", None, None), GOOD_DATA], UUID),
        ([("nn_id", ONE[:-1].encode(), None, None), GOOD_DATA], UUID),
        ([("nn_id", f"{ONE}0".encode(), None, None), GOOD_DATA], UUID),
        ([("nn_id", TWO.upper().encode(), None, None), GOOD_DATA], UUID),
        ([("nn_id", b"g" * 32, None, None), GOOD_DATA], UUID),
        ([("nn_id", f"{ONE}\n".encode(), None, None), GOOD_DATA], UUID),
        ([("nn_id", "é".encode() * 16, None, None), GOOD_DATA], UUID),
        ([GOOD_ID], "weights data is required"),
        ([GOOD_ID, ("data", GOOD_DATA[1], None, None)], "weights data should be a file"),
        ([GOOD_ID, ("data", GOOD_DATA[1], None, BINARY)], "weights data should be a file"),
        ([GOOD_ID, ("data", GOOD_DATA[1], "a.b64", "text/plain")], "weights data should be a binary file"),
        ([GOOD_ID, ("data", GOOD_DATA[1], "weights.b64", None)], "weights data should be a binary file"),
        ([GOOD_ID, ("data", b"", "weights.b64", BINARY)], "weights data has wrong format"),
        ([GOOD_ID, ("data", b"this is not base64!", "weights.b64", BINARY)], "weights data has wrong format"),
        ([GOOD_ID, ("data", GOOD_DATA[1][:-1], "weights.b64", BINARY)], "weights data has wrong format"),
        ([GOOD_ID, ("data", b"QQ==" + GOOD_DATA[1], "weights.b64", BINARY)], "weights data has wrong format"),
        ([GOOD_ID, ("data", stored(ONE), "weights.pt", BINARY)], "weights data has wrong format"),
    ],
)  # fmt: skip
def test_an_upload_that_breaks_the_contract_is_told_so_in_its_words(gateway, parts, message):
    assert put(gateway, *multipart(*parts)) == (400, refusal(message))


def test_an_upload_that_is_no_form_has_no_nn_id(gateway):
    assert put(gateway, b'{"nn_id":"a"}', "application/json") == (400, refusal("NN id is required"))
    assert put(gateway, b"", "text/plain") == (400, refusal("NN id is required"))


def test_a_form_that_does_not_parse_is_the_callers_fault(gateway):
    status, said = put(gateway, b"no boundary in here", "multipart/form-data; boundary=x")
    assert status == 400
    assert said["message"].startswith("cannot parse request body: ")


@pytest.mark.parametrize("size", [MAX_UPLOAD + 1, 4 * MAX_UPLOAD])
def test_weights_over_max_upload_are_413(gateway, size):
    status, said = put(gateway, *upload(ONE, padded(ONE, size)))
    assert status == 413
    assert said["status"] is False
    assert "bytes" in said["message"]
    assert gateway.predict(0.25, 0.5).json["status"] is True


class Crime:
    """A pickle of it writes a file where it is loaded."""

    def __init__(self, evidence: Path) -> None:
        self.evidence = evidence

    def __reduce__(self) -> Any:
        return (os.system, (f"touch '{self.evidence}'",))


def other(state: dict[str, Any], **changes: Any) -> bytes:
    """The first network's state_dict with changes; None leaves a key out."""
    named = {name.replace("__", "."): value for name, value in changes.items()}
    return saved({name: value for name, value in {**state, **named}.items() if value is not None})


def misfits(evidence: Path) -> dict[str, bytes]:
    """Files that no worker may serve."""
    state = torch.load(io.BytesIO(stored(ONE)), weights_only=True)
    crime = Crime(evidence)
    return {
        "tensors of other shapes and keys": bad_tensors(),
        "a key too few": other(state, output_layer__bias=None),
        "a key too many": other(state, fc3__bias=torch.zeros(20)),
        "a shape that does not fit": other(state, fc1__weight=torch.zeros(20, 3)),
        "another dtype": other(state, fc1__bias=state["fc1.bias"].double()),
        "numbers that are not finite": other(state, fc1__bias=torch.full((20,), float("nan"))),
        "a truncated file": stored(ONE)[:-200],
        "half a file": stored(ONE)[: len(stored(ONE)) // 2],
        "random bytes": random.Random(1).randbytes(5000),
        "one byte": b"x",
        "a list": saved([1, 2, 3]),
        "a pickle that runs code": pickle.dumps(crime),
        "a torch file that runs code": saved({**state, "fc1.bias": crime}),
    }


@pytest.mark.parametrize("what", misfits(Path("/nowhere")))
def test_weights_that_do_not_fit_are_refused_by_every_worker_and_the_old_ones_serve_on(
    gateway, what, tmp_path
):
    evidence = tmp_path / "ran"
    answer = gateway.set_weights(TWO, misfits(evidence)[what])
    assert answer.status == 200
    said = answer.json
    assert list(said) == ["status", "message", "workers_count", "workers"]
    assert (said["status"], said["message"], said["workers_count"]) == (False, SHOWN, 2)
    for worker in said["workers"]:
        assert list(worker) == ["result", "trace"]
        assert worker["result"] is False
        assert trace(worker["trace"]).startswith("Traceback (most recent call last):\n")
        assert "LoadError: " in trace(worker["trace"])
    assert not evidence.exists()
    answer = gateway.predict(0.125, 0.5)
    assert answer.version == answer.json["message"] == ONE
    assert is_right(answer.json["result"], ONE, 0.125, 0.5)
    assert len(gateway.wait_ready(2)) == 2


def test_a_version_switches_and_switches_back(gateway):
    for nn_id in (TWO, ONE):
        assert gateway.set_weights(nn_id, stored(nn_id)).json["message"] == "OK"
        answer = gateway.predict(3.0, 4.0)
        assert (answer.version, answer.json["message"]) == (nn_id, nn_id)
        assert is_right(answer.json["result"], nn_id, 3.0, 4.0)
        gateway.wait_status(
            lambda status, nn_id=nn_id: {w["nn_id"] for w in status["workers"]} == {nn_id}, nn_id
        )


def test_other_bytes_under_a_name_already_taken_serve_under_it(gateway):
    assert gateway.set_weights(ONE, padded(ONE, 10_000)).json["message"] == "OK"
    answer = gateway.predict(0.75, 0.5)
    assert answer.json["message"] == ONE
    assert answer.version.startswith(f"{ONE}.")
    assert gateway.set_weights(ONE, stored(ONE)).json["message"] == "OK"
    assert gateway.predict(0.75, 0.5).version == ONE


# --- POST /predict


def test_a_vector_is_answered_with_one_number(gateway):
    answer = post(gateway, '{"vector":[0.3,0.7]}')
    assert answer.status == 200
    said = answer.json
    assert list(said) == ["status", "message", "result"]
    assert (said["status"], said["message"]) == (True, ONE)
    assert is_right(said["result"], ONE, 0.3, 0.7)
    assert said["result"] == struct.unpack("<f", struct.pack("<f", said["result"]))[0]


def test_data_is_the_same_row_as_little_endian_float32(gateway):
    data = base64.b64encode(struct.pack("<2f", 0.3, 0.7)).decode()
    assert post(gateway, json.dumps({"data": data})).body == post(gateway, '{"vector":[0.3,0.7]}').body


def test_vectors_are_answered_in_their_order_thousands_at_once(gateway):
    rows = [[i / 5000, (i * 7 % 5000) / 5000] for i in range(5000)]
    answer = post(gateway, json.dumps({"vectors": rows}))
    assert answer.status == 200
    said = answer.json
    assert list(said) == ["status", "message", "results"]
    assert (said["status"], said["message"], len(said["results"])) == (True, ONE, 5000)
    wrong = [row for row, r in zip(rows, said["results"], strict=True) if not is_right(r, ONE, *row)]
    assert wrong == []


@pytest.mark.parametrize(
    ("body", "empty"),
    [
        ('{"vector":[0.1,0.2,0.3]}', {"result": 0.0}),
        ('{"vector":[0.1]}', {"result": 0.0}),
        ('{"vector":[]}', {"result": 0.0}),
        ('{"data":"AACAPw=="}', {"result": 0.0}),
        ('{"vectors":[[1,2,3],[4,5,6]]}', {"results": []}),
    ],
)
def test_a_row_that_the_model_refuses_is_answered_with_its_stack_trace(gateway, body, empty):
    answer = post(gateway, body)
    assert answer.status == 200
    said = answer.json
    message = said.pop("message")
    assert said == {"status": False, **empty}
    assert trace(message).startswith("Traceback (most recent call last):\n")
    assert "ModelError: the model takes rows of FP32 [2]" in trace(message)


HUGE = "9" * 400
FLOAT32 = "beyond float32's range of ±3.4e38"
DEEP = "request body is nested too deeply: lists and objects may be 64 deep within each other"
SHAPE = "request body has a wrong shape: "


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("", "cannot parse request body"),
        ("vector=0.3", "cannot parse request body"),
        ('{"vector":[0.3,0.7]', "cannot parse request body"),
        ('{"vector":[0.3,0.7]} {}', "cannot parse request body"),
        (b"\xff\xfe\x00\x00", "cannot parse request body"),
        ('{"vector":[NaN,0.7]}', "cannot parse request body"),
        ('{"vector":[0.3,Infinity]}', "cannot parse request body"),
        ('{"vector":[0.3,-Infinity]}', "cannot parse request body"),
        ("[" * 100_000, f"{SHAPE}Expected `object`, got `array`"),
        ('{"x":' * 100_000, DEEP),
        ("{}", "vector or data is required"),
        ('{"row":[0.3,0.7]}', "vector or data is required"),
        ('{"vector":null}', "vector or data is required"),
        ('{"vector":[0.3,0.7],"data":"AA=="}', "give one of vector, vectors, data and inputs, not several"),
        ("[0.3,0.7]", f"{SHAPE}Expected `object`, got `array`"),
        ("0.3", f"{SHAPE}Expected `object`, got `float`"),
        ('{"vector":0.3}', f"{SHAPE}Expected `array | null`, got `float` - at `$.vector`"),
        ('{"vector":["0.3",0.7]}', f"{SHAPE}Expected `float`, got `str` - at `$.vector[0]`"),
        ('{"vector":[0.3,true]}', f"{SHAPE}Expected `float`, got `bool` - at `$.vector[1]`"),
        ('{"vector":[0.3,null]}', f"{SHAPE}Expected `float`, got `null` - at `$.vector[1]`"),
        ('{"vector":[[0.3],0.7]}', f"{SHAPE}Expected `float`, got `array` - at `$.vector[0]`"),
        ('{"vectors":[0.3]}', f"{SHAPE}Expected `array`, got `float` - at `$.vectors[0]`"),
        ('{"vectors":[[[0.3]]]}', f"{SHAPE}Expected `float`, got `array` - at `$.vectors[0][0]`"),
        ('{"vector":[1e39,0.7]}', f"vector[0] is 1e+39, {FLOAT32}"),
        ('{"vector":[0.3,-1e300]}', f"vector[1] is -1e+300, {FLOAT32}"),
        ('{"vectors":[[0,0],[0,1e39]]}', f"vectors[1][1] is 1e+39, {FLOAT32}"),
        ('{"vectors":[]}', "vectors is empty: give at least one row"),
        (
            '{"vectors":[[1,2],[3]]}',
            "vectors[1] has 1 numbers and vectors[0] has 2: all rows must be alike",
        ),
        ('{"data":"AAAA"}', "data has 3 bytes: float32 numbers take a multiple of 4"),
        ('{"data":"*"}', "data has wrong format: it should be base64 of float32 numbers"),
        ('{"data":"é"}', "data has wrong format: it should be base64 of float32 numbers"),
        ('{"data":"AADAfwAAwH8="}', "data holds NaN or infinity: only finite numbers are allowed"),
        ('{"data":"AACAfwAAgP8="}', "data holds NaN or infinity: only finite numbers are allowed"),
    ],
)
def test_a_body_that_is_nonsense_is_400_in_clear_words(gateway, body, message):
    answer = post(gateway, body)
    assert (answer.status, answer.json) == (400, refusal(message))


@pytest.mark.parametrize("number", [HUGE, f"-{HUGE}", f"{HUGE}.5", "1e400", f"1e{HUGE}", f"0.{HUGE}e500"])
def test_a_number_beyond_every_float_is_400(gateway, number):
    for body in (f'{{"vector":[{number},1]}}', f'{{"vectors":[[{number},1]]}}'):
        answer = post(gateway, body)
        assert answer.status == 400
        assert answer.json["message"].startswith((SHAPE, "vector"))


def test_a_number_of_400_digits_that_a_float_can_hold_is_a_number(gateway):
    answer = post(gateway, f'{{"vector":[0.3{"0" * 400},0.7]}}')
    assert answer.body == post(gateway, '{"vector":[0.3,0.7]}').body


def test_a_million_rows_are_413(gateway):
    answer = post(gateway, '{"vectors":[' + ",".join(["[0,0]"] * 1_000_000) + "]}")
    assert answer.status == 413
    assert answer.json == refusal("1000000 rows in one request: at most 65536 are allowed")


def test_a_body_over_the_limit_is_413_before_it_is_sent(gateway):
    head = b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: 8388609\r\nexpect: 100-continue\r\n\r\n"
    said = ask_raw(gateway.port, head)
    assert said.startswith(b"HTTP/1.1 413 ")
    assert said.endswith(b'\r\n\r\n{"status":false,"message":"The body is larger than 8388608 bytes."}')


@pytest.mark.parametrize("timeout", ["0", "-5", "nan", "inf", "soon", "", "3600001"])
def test_a_timeout_that_is_none_is_400(gateway, timeout):
    answer = post(gateway, '{"vector":[0.3,0.7]}', x_timeout_ms=timeout)
    assert (answer.status, answer.json) == (400, refusal("X-Timeout-Ms should be a number from 1 to 3600000"))


def test_a_timeout_that_is_long_enough_changes_nothing(gateway):
    answer = post(gateway, '{"vector":[0.3,0.7]}', x_timeout_ms="10000.5")
    assert (answer.status, answer.json["status"]) == (200, True)


def test_every_answer_says_who_gave_it_and_where_its_time_went(gateway):
    row = (random.random(), random.random())
    first, second = gateway.predict(*row), gateway.predict(*row)
    for answer, cache in ((first, "miss"), (second, "hit")):
        assert answer.headers["x-worker"] in ("local-0", "local-1")
        assert answer.version == ONE
        assert answer.headers["x-cache"] == cache
        phases = [phase.split(";dur=") for phase in answer.headers["server-timing"].split(", ")]
        assert [name for name, _ in phases] == ["queue", "batch", "link", "infer"]
        assert all(0 <= float(milliseconds) < 30_000 for _, milliseconds in phases)
    assert second.headers["x-worker"] == first.headers["x-worker"]
    assert second.body == first.body


def test_equal_rows_are_answered_from_the_cache_whatever_else_is_asked(gateway):
    rows = [(random.random(), random.random()) for _ in range(50)]
    first = [gateway.predict(*row) for row in rows]
    again = [gateway.predict(*row) for row in reversed(rows)][::-1]
    assert {answer.headers["x-cache"] for answer in again} == {"hit"}
    assert [answer.body for answer in again] == [answer.body for answer in first]


def test_prediction_over_http2_with_prior_knowledge(gateway):
    with httpx.Client(http1=False, http2=True, base_url=gateway.url, timeout=30) as client:
        answer = client.post("/predict", content=b'{"vector":[0.3,0.7]}')
        assert (answer.http_version, answer.status_code) == ("HTTP/2", 200)
        assert answer.content == post(gateway, '{"vector":[0.3,0.7]}').body
        assert answer.headers["x-model-version"] == ONE
        assert answer.headers["x-cache"] in ("hit", "miss")
        assert answer.headers["x-worker"] in ("local-0", "local-1")
        assert "infer;dur=" in answer.headers["server-timing"]
        refused = client.post("/predict", content=b"{}")
        assert (refused.status_code, refused.json()) == (400, refusal("vector or data is required"))
        assert client.get("/status").json()["workers_count"] == 2
        assert client.get("/nothing").status_code == 404
        large = client.post("/predict", content=b" " * ((8 << 20) + 1))
        assert (large.status_code, large.json()["status"]) == (413, False)


# --- GET /status


def test_status_has_every_field_of_the_contract(gateway):
    post(gateway, '{"vector":[0.3,0.7]}')
    status = gateway.status()
    assert set(status) == {
        "status", "message", "queue_requests_current", "queue_requests_max", "queue_requests_peak",
        "requests_in_progress", "req_handling_time_avg_ms", "count_requests_handled", "bad_frames",
        "workers_count", "workers", "manager",
    }  # fmt: skip
    assert (status["status"], status["message"], status["workers_count"]) == (True, "OK", 2)
    assert (status["queue_requests_current"], status["queue_requests_max"]) == (0, 10_000)
    assert 0 < status["req_handling_time_avg_ms"] < 30_000
    assert len(status["workers"]) == 2
    for worker in status["workers"]:
        assert set(worker) == {
            "address", "nn_id", "req_handling_time_avg_ms", "count_requests_handled", "inference_time_avg_ms",
            "name", "id", "state", "trouble", "host", "pid", "device", "in_flight", "last_seen_s",
            "count_rows_handled", "p50", "p95", "p99", "rss_mb", "cache", "models_used_mb",
            "models_limit_mb", "versions", "cpu_percent",
        }  # fmt: skip
        assert "127.0.0.1" in worker["address"]
        assert worker["nn_id"] == ONE
        assert worker["name"] in ("local-0", "local-1")
        assert (worker["state"], worker["device"], worker["in_flight"]) == ("ready", "cpu", 0)
        assert list(worker["cache"]) == ["size", "capacity", "hits", "misses"]
        assert worker["cache"]["capacity"] >= 10_000
        assert isinstance(worker["count_requests_handled"], int)
        for name in ("req_handling_time_avg_ms", "inference_time_avg_ms"):
            assert 0 <= worker[name] < 30_000
        assert 0 <= worker["p50"] <= worker["p95"] <= worker["p99"] < 30_000
        assert 20 < worker["rss_mb"] < 2000
        assert 0 <= worker["cpu_percent"] < 10_000
        assert worker["versions"] == [{"model": "default", "version": ONE}]
        assert 0 <= worker["last_seen_s"] < 5
    handled = sum(worker["count_requests_handled"] for worker in status["workers"])
    assert 0 < handled <= status["count_requests_handled"]


def test_status_is_answered_fast(gateway):
    taken = []
    with gateway.client() as client:
        for _ in range(50):
            began = time.perf_counter()
            assert client.ask("GET", "/status").status == 200
            taken.append(time.perf_counter() - began)
    median = sorted(taken)[25]
    print(f"/status with 2 workers: median {median * 1000:.2f} ms, slowest {max(taken) * 1000:.2f} ms")
    assert median < 0.1


# --- everything else has the same shape


@pytest.mark.parametrize("path", ["/", "/Predict", "/predict/", "/status/x", "/set_weights.php", "/%00"])
def test_what_is_not_there_is_404(gateway, path):
    answer = gateway.ask("GET", path)
    assert answer.status == 404
    assert answer.json["status"] is False
    assert answer.json["message"].startswith("There is nothing at /")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/predict", "POST"),
        ("PUT", "/predict", "POST"),
        ("POST", "/set_weights", "PUT"),
        ("GET", "/set_weights", "PUT"),
        ("POST", "/status", "GET"),
        ("DELETE", "/status", "GET"),
    ],
)
def test_a_method_that_a_path_does_not_take_is_405(gateway, method, path, allowed):
    answer = gateway.ask(method, path)
    assert (answer.status, answer.json) == (405, refusal(f"{method} is not allowed at {path}"))
    assert allowed in answer.headers["allow"]


def test_headers_too_large_are_431(gateway):
    said = ask_raw(gateway.port, b"GET /status HTTP/1.1\r\nhost: x\r\nx: " + b"y" * 40_000 + b"\r\n\r\n")
    assert said.startswith(b"HTTP/1.1 431 ")
    assert said.endswith(b'\r\n\r\n{"status":false,"message":"The request\'s headers are too large."}')


def test_bytes_that_are_no_http_are_400(gateway):
    said = ask_raw(gateway.port, b"\x16\x03\x01 hello\r\n\r\n")
    assert said.startswith(b"HTTP/1.1 400 ")
    assert b'{"status":false,"message":' in said


# --- no weights, no worker, no room, no time


@pytest.fixture(scope="module")
def bare_site(tmp_path_factory) -> Iterator[Site]:
    with open_site(tmp_path_factory.mktemp("bare")) as site:
        yield site


@pytest.fixture(scope="module")
def bare(bare_site) -> Gateway:
    """A gateway without workers, with room for one request in its queue."""
    return bare_site.start_gateway("--queue_max", "1")


@pytest.fixture
def held(bare_site, bare, tmp_path) -> Iterator[tuple[Path, Worker]]:
    """The bare gateway's one worker, held: it answers once the file is removed."""
    hold = tmp_path / "hold"
    worker = spawn_held(bare_site, bare, hold)
    yield hold, worker
    hold.unlink(missing_ok=True)
    worker.kill()
    bare.wait_ready(0)


def test_without_weights_the_answer_says_so(bare):
    answer = post(bare, '{"vector":[0.3,0.7]}')
    assert answer.status == 200
    assert answer.body == b'{"status":false,"message":"No weights loaded","result":0.0}'
    answer = post(bare, '{"vectors":[[0.3,0.7]]}')
    assert answer.body == b'{"status":false,"message":"No weights loaded","results":[]}'


def test_weights_without_a_worker_are_kept_for_those_to_come(bare):
    answer = bare.set_weights(ONE, stored(ONE))
    assert answer.status == 200
    assert answer.body == b'{"status":true,"message":"OK","workers_count":0,"workers":[]}'


@pytest.mark.parametrize("timeout", [300, 60_000])
def test_without_a_live_worker_the_answer_is_503_within_the_deadline(bare, timeout):
    bare.set_weights(ONE, stored(ONE))
    began = time.monotonic()
    answer = post(bare, '{"vector":[0.3,0.7]}', x_timeout_ms=str(timeout))
    took = time.monotonic() - began
    assert (answer.status, answer.json) == (503, refusal("No live worker"))
    assert answer.headers["retry-after"] == "1"
    assert min(5, timeout / 1000) - 0.1 <= took < min(5, timeout / 1000) + 3


def test_a_full_queue_is_told_at_once_and_a_late_request_is_504(bare, held):
    hold, worker = held
    clients = [bare.client() for _ in range(4)]
    flying, next_batch, waiting, refused = clients
    flying.send_row(0.1, 0.1)
    bare.wait_status(lambda status: status["workers"][0]["in_flight"] == 1, "one in flight")
    next_batch.send_row(0.2, 0.2)
    bare.wait_status(lambda status: status["workers"][0]["in_flight"] == 2, "two in flight")
    waiting.send_row(0.3, 0.3, x_timeout_ms="1500")
    bare.wait_status(lambda status: status["queue_requests_current"] == 1, "one in the queue")

    answer = refused.predict(0.4, 0.4)
    assert answer.status == 503
    assert answer.body == b'{"status":false,"message":"Server is busy"}'
    assert answer.headers["retry-after"] == "1"

    late = waiting.receive()
    assert (late.status, late.json) == (504, refusal("Deadline exceeded"))

    hold.unlink()
    for client, x in ((flying, 0.1), (next_batch, 0.2)):
        answer = client.receive()
        assert answer.status == 200
        assert is_right(answer.json["result"], ONE, x, x)
    assert bare.worker(worker.pid)["count_rows_handled"] == 2  # the late row never ran
    for client in clients:
        client.close()


def test_a_request_in_flight_past_its_deadline_is_504_too(bare, held):
    began = time.monotonic()
    answer = post(bare, '{"vector":[0.5,0.5]}', x_timeout_ms="300")
    assert (answer.status, answer.json) == (504, refusal("Deadline exceeded"))
    assert 0.29 <= time.monotonic() - began < 3


def test_a_worker_that_dies_with_weights_set_comes_to_no_live_worker(bare, held):
    _, worker = held
    with bare.client() as client:
        client.send_row(0.6, 0.6, x_timeout_ms="2000")
        bare.wait_status(lambda status: status["workers"][0]["in_flight"] == 1, "in flight")
        worker.kill()
        answer = client.receive()
    assert (answer.status, answer.json) == (503, refusal("No live worker"))
    wait_for(lambda: bare.status()["requests_in_progress"] == 0, "nothing in progress")
