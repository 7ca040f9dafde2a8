"""End to end: what a real gateway and its workers log, and the ids that requests go by."""

from __future__ import annotations

import json
import os
import re
import signal
from typing import Any

import grpc
import pytest
from websockets.sync.client import connect

from tests.e2e.processes import Gateway, Process, Site, wait_for
from tests.e2e.weights import ONE, stored

SECRET = 0.8414709848


def records(process: Process) -> list[dict[str, Any]]:
    """Everything it logged, each line a JSON object, the greeting apart."""
    lines = [line for line in process.output.splitlines() if not line.startswith("Pipeline serves on")]
    return [json.loads(line) for line in lines]


def requests(gateway: Gateway, count: int) -> list[dict[str, Any]]:
    """So many lines of the access log, waited for."""

    def look() -> list[dict[str, Any]]:
        return [each for each in records(gateway) if each["logger"] == "pipeline.access"]

    wait_for(lambda: len(look()) >= count, f"{count} requests logged")
    return look()


def test_every_line_of_a_gateway_and_its_worker_is_json_and_holds_no_payload(site: Site) -> None:
    gateway = site.start_gateway("--workers", "1", "--log_format", "json", "--access_log", "1")
    gateway.wait_ready(1)
    gateway.set_weights(ONE, stored(ONE))
    assert gateway.predict(SECRET, SECRET, x_request_id="mine-1").status == 200
    assert gateway.ask("GET", f"/status?token={SECRET}", x_request_id="mine-2").status == 200
    assert gateway.ask("POST", "/predict", b"{", authorization=f"Bearer {SECRET}").status == 400
    found = {each["request_id"]: each for each in requests(gateway, 5)}
    assert set(found["mine-1"]) == {
        "time", "level", "logger", "event", "door", "method", "path", "status", "bytes", "seconds",
        "request_id",
    }  # fmt: skip
    told = {name: found["mine-1"][name] for name in ("level", "event", "method", "path", "status")}
    assert told == {
        "level": "INFO", "event": "request", "method": "POST", "path": "/predict", "status": 200,
    }  # fmt: skip
    assert found["mine-1"]["seconds"] > 0
    assert found["mine-2"]["path"] == "/status"
    assert [each["status"] for each in found.values()].count(400) == 1
    assert {"worker joining", "worker ready"} <= {each["event"] for each in records(gateway)}
    assert "weights loaded" in {each["event"] for each in records(gateway)}  # the worker's: it logs here, too
    assert str(SECRET) not in gateway.output


def test_ids_come_back_and_those_that_are_none_are_replaced(site: Site) -> None:
    gateway = site.start_gateway()
    ours = re.compile(r"[0-9a-f]{8}-\d+")
    for path in ("/predict", "/status", "/v2/models/default/infer"):
        method = "GET" if path == "/status" else "POST"
        assert gateway.ask(method, path, b"", x_request_id="a.b-c/1").headers["x-request-id"] == "a.b-c/1"
        for given in ("", "two words", "x" * 129, 'quo"te'):
            answer = gateway.ask(method, path, b"", x_request_id=given)
            assert ours.fullmatch(answer.headers["x-request-id"]), given
        ids = [gateway.ask(method, path).headers["x-request-id"] for _ in range(3)]
        assert len(set(ids)) == 3
    assert not gateway.lines("pipeline.access")


def test_calls_over_grpc_and_messages_of_a_websocket_have_ids_and_lines_too(site: Site) -> None:
    address = f"127.0.0.1:{site.ports.take()}"
    flags = ("--addr_grpc", address, "--log_format", "json", "--access_log", "1")
    gateway = site.start_gateway("--workers", "1", *flags)
    gateway.wait_ready(1)
    gateway.set_weights(ONE, stored(ONE))
    with grpc.insecure_channel(address) as channel:
        for path, given in (("/ModelServer/Predict", "call-1"), ("/ModelServer/None", None)):
            told = [] if given is None else [("x-request-id", given)]
            future = channel.unary_unary(path).future(b"", metadata=told)
            name = dict(future.trailing_metadata())["x-request-id"]
            assert name == given or re.fullmatch(r"[0-9a-f]{8}-\d+", name)
    headers = {"X-Request-Id": "socket-1"}
    url = f"ws://127.0.0.1:{gateway.port}/ws"
    with connect(url, additional_headers=headers) as ws:
        assert ws.response.headers["x-request-id"] == "socket-1"
        ws.recv()
        for more in ({"request_id": "message-1"}, {}):
            ws.send(json.dumps({"id": 7, "vector": [SECRET, SECRET], **more}))
            assert json.loads(ws.recv()).get("request_id") == more.get("request_id")
    told = [each for each in requests(gateway, 6) if each["door"] != "http"]
    assert [(each["door"], each["path"], each["code"]) for each in told] == [
        ("grpc", "/ModelServer/Predict", "OK"), ("grpc", "/ModelServer/None", "UNIMPLEMENTED"),
        ("ws", "/ws", "ok"), ("ws", "/ws", "ok"),
    ]  # fmt: skip
    assert [told[n]["request_id"] for n in (0, 2, 3)] == ["call-1", "message-1", "socket-1/7"]
    assert str(SECRET) not in gateway.output


def test_a_share_of_the_requests_is_logged(site: Site) -> None:
    gateway = site.start_gateway("--access_log", "0.25")
    for n in range(40):
        gateway.ask("GET", "/health/live", x_request_id=f"r{n}")
    wait_for(lambda: len(gateway.lines("pipeline.access")) >= 10, "a quarter of them logged")
    assert len(gateway.lines("pipeline.access")) == 10


def test_a_workers_crash_is_one_line_with_its_signal_and_its_last_frame(site: Site) -> None:
    gateway = site.start_gateway("--workers", "1")
    [worker] = gateway.wait_ready(1)
    gateway.set_weights(ONE, stored(ONE))
    assert gateway.predict(1.0, 2.0).status == 200
    os.kill(worker["pid"], signal.SIGSEGV)
    line = gateway.wait_for_line("worker ended", "SIGSEGV")
    assert re.search(r'how="[^"]*SIGSEGV[^"]*" last_frame=[1-9]\d* ', line)
    assert len(gateway.lines("SIGSEGV")) == 1
    gateway.wait_ready(1)


@pytest.mark.parametrize("flags", [("--log_format", "xml"), ("--access_log", "2")])
def test_what_makes_no_sense_is_refused_with_a_sentence(site: Site, flags: tuple[str, str]) -> None:
    gateway = site.spawn_gateway(*flags)
    assert gateway.wait() == 2
    assert f"{flags[0]} must be " in gateway.output
