"""End to end: spans of a real gateway and its worker, as a collector receives them."""

from __future__ import annotations

import gzip
import json
import signal
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from websockets.sync.client import connect

from tests.e2e.processes import Site, wait_for
from tests.e2e.weights import ONE, stored

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


class Collector:
    """Takes OTLP over HTTP, as the OpenTelemetry Collector does, and keeps the spans by their service."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, Any]] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                assert self.path == "/v1/traces"
                collector.take(ExportTraceServiceRequest.FromString(body))
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def take(self, request: Any) -> None:
        for resource in request.resource_spans:
            told = {each.key: each.value.string_value for each in resource.resource.attributes}
            for scope in resource.scope_spans:
                self.spans += [(told["service.name"], span) for span in scope.spans]

    def of(self, trace: str) -> dict[str, Any]:
        """The spans of one trace, by service and name."""
        return {f"{who} {span.name}": span for who, span in self.spans if span.trace_id.hex() == trace}


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    thread = threading.Thread(target=made.server.serve_forever, args=(0.05,))
    thread.start()
    yield made
    made.server.shutdown()
    thread.join()
    made.server.server_close()


def attributes(span: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in span.attributes}


def test_a_request_is_one_trace_from_its_client_through_the_gateway_to_its_worker(
    site: Site, collector: Collector
) -> None:
    gateway = site.start_gateway("--workers", "1", "--otel", collector.url, "--otel_sample", "0")
    [worker] = gateway.wait_ready(1)
    gateway.set_weights(ONE, stored(ONE))
    began = time.time_ns()
    assert gateway.predict(1.0, 2.0, traceparent=f"00-{TRACE}-{SPAN}-01").status == 200
    over = time.time_ns()
    assert gateway.predict(1.0, 2.0, traceparent=f"00-{TRACE[::-1]}-{SPAN}-00").status == 200
    assert gateway.predict(1.0, 2.0).status == 200
    wait_for(lambda: len(collector.of(TRACE)) == 3, "three spans")
    found = collector.of(TRACE)
    whole, flight = found["pipeline-gateway predict"], found["pipeline-gateway flight"]
    batch = found["pipeline-worker batch"]
    assert whole.parent_span_id.hex() == SPAN
    assert flight.parent_span_id == whole.span_id
    assert batch.parent_span_id == flight.span_id
    times = [whole.start_time_unix_nano, flight.start_time_unix_nano, flight.end_time_unix_nano]
    assert [began, *times, whole.end_time_unix_nano, over] == sorted(
        [began, *times, whole.end_time_unix_nano, over]
    )
    assert batch.start_time_unix_nano < batch.end_time_unix_nano
    told = attributes(whole)
    assert (told["pipeline.door"], told["pipeline.worker"], told["pipeline.rows"]) == (
        "rest", worker["name"], 1,
    )  # fmt: skip
    assert attributes(batch)["pipeline.batch_rows"] == 1
    assert {span.trace_id.hex() for _, span in collector.spans} == {TRACE}


def test_a_call_over_grpc_and_each_message_of_a_websocket_belong_to_their_own_traces(
    site: Site, collector: Collector
) -> None:
    address = f"127.0.0.1:{site.ports.take()}"
    flags = ("--addr_grpc", address, "--otel", collector.url, "--otel_sample", "0")
    gateway = site.start_gateway("--workers", "1", *flags)
    gateway.wait_ready(1)
    gateway.set_weights(ONE, stored(ONE))
    traces = [f"{n}{TRACE[1:]}" for n in range(1, 4)]
    call, connection, message = (f"00-{trace}-{SPAN}-01" for trace in traces)
    with triton.InferenceServerClient(address) as client:
        tensor = triton.InferInput("vector", [1, 2], "FP32")
        tensor.set_data_from_numpy(np.ones((1, 2), np.float32))
        client.infer("default", [tensor], headers={"traceparent": call})
    url = f"ws://127.0.0.1:{gateway.port}/ws"
    with connect(url, additional_headers={"traceparent": connection}) as ws:
        ws.recv()
        for more in ({}, {"traceparent": message}):
            ws.send(json.dumps({"id": 1, "vector": [1.0, 2.0], **more}))
            assert json.loads(ws.recv())["status"]
    for trace, door in zip(traces, ("grpc", "ws", "ws"), strict=True):
        wait_for(lambda trace=trace: len(collector.of(trace)) == 3, "three spans")
        assert attributes(collector.of(trace)["pipeline-gateway predict"])["pipeline.door"] == door


def test_a_share_of_the_others_is_traced_and_what_fails_is_an_error(site: Site, collector: Collector) -> None:
    gateway = site.start_gateway("--otel", collector.url, "--otel_sample", "1")
    site.spawn_worker("--otel", collector.url)
    gateway.wait_ready(1)
    gateway.set_weights(ONE, stored(ONE))
    assert gateway.predict(1.0).json["status"] is False  # it takes two numbers
    wait_for(lambda: len(collector.spans) == 3, "three spans")
    found = {f"{who} {span.name}": span for who, span in collector.spans}
    assert not found["pipeline-gateway predict"].parent_span_id
    assert found["pipeline-gateway predict"].status.code == 2
    assert attributes(found["pipeline-gateway predict"])["error.type"] == "model_error"


def test_a_collector_that_is_away_holds_nobody_up(site: Site) -> None:
    nobody = f"http://127.0.0.1:{site.ports.take()}"
    gateway = site.start_gateway("--workers", "1", "--otel", nobody, "--otel_sample", "1")
    gateway.wait_ready(1)
    gateway.set_weights(ONE, stored(ONE))
    for _ in range(10):
        assert gateway.predict(1.0, 2.0).status == 200
    gateway.send(signal.SIGTERM)
    assert gateway.wait() == 0
