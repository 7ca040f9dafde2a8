"""pure, and at the end contract: each protocol's side of a connection, against other libraries' servers."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
import websockets.sync.server
from hypothesis import given, settings
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2

from bench.executor.codecs.codec import Answer, Broken
from bench.executor.codecs.grpc import Grpc
from bench.executor.codecs.http import Http
from bench.executor.codecs.websocket import WebSocket
from bench.executor.doors import open_door
from bench.executor.load import Limits, Load
from bench.executor.payloads import VECTOR, Tensor
from bench.executor.records import Records
from bench.schedule import Row
from common.grpc.frames import END_HEADERS, END_STREAM, Frame, frame, literal

SAID = b"X-Worker: w1\r\nX-Cache: miss\r\nServer-Timing: infer;dur=2\r\n"
OK = b"HTTP/1.1 200 OK\r\n" + SAID + b"Content-Length: 5\r\n\r\nhello"
GREETING = b'HTTP/1.1 101 Switching Protocols\r\n\r\n\x81\x0d{"window":64}'


def test_an_http_answer_may_come_byte_by_byte():
    codec = Http()
    assert codec.request(7, b"asked") == b"asked"
    assert [answer for byte in OK for answer in codec.feed(bytes([byte]))] == [
        Answer(7, "", b"w1", b"miss", b"infer;dur=2", b"hello")
    ]
    assert not codec.is_over


def test_an_http_answer_before_the_answer_is_none():
    codec = Http()
    codec.request(1, b"")
    assert codec.feed(b"HTTP/1.1 100 Continue\r\n\r\n") == []
    assert [answer.number for answer in codec.feed(OK)] == [1]


def test_a_chunked_answer_and_one_that_is_the_last_are_read():
    codec = Http()
    codec.request(1, b"")
    chunked = (
        b"HTTP/1.1 503 Busy\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n2\r\nno\r\n0\r\n\r\n"
    )
    assert codec.feed(chunked) == [Answer(1, "503", body=b"no")]
    assert codec.is_over


def test_a_200_whose_body_says_that_it_is_none_is_an_error():
    codec = Http(b'"status":false')
    codec.request(1, b"")
    assert codec.feed(b'HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\n{"status":false}') == [
        Answer(1, "refused", body=b'{"status":false}')
    ]


@pytest.mark.parametrize(
    "said", [b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"]
)
def test_what_is_no_answer_in_http_is_said_to_be_none(said: bytes):
    with pytest.raises(Broken, match="no answer in HTTP"):
        Http().feed(said)


def test_a_websocket_takes_requests_when_it_was_greeted():
    codec = WebSocket(b"hello")
    assert codec.hello() == b"hello"
    assert codec.feed(GREETING[:30]) == []
    assert codec.capacity == 0
    assert codec.feed(GREETING[30:]) == []
    assert codec.capacity == 64
    assert codec.request(5, b'{"vector":[1]}') == b'\x81\x95\0\0\0\0{"id":5,"vector":[1]}'


def test_a_websocket_answers_by_id_and_pongs():
    codec = WebSocket(b"")
    codec.feed(GREETING)
    good = b'{"id":2,"status":true,"worker":"w","cache":"hit","timings":{"infer":0.5}}'
    bad = b'{"id":1,"status":false,"code":"queue_full"}'
    data = b"".join(b"\x81" + bytes([len(each)]) + each for each in (good, bad)) + b"\x89\x01p"
    assert codec.feed(data) == [
        Answer(2, "", b"w", b"hit", b"infer;dur=0.500", good),
        Answer(1, "queue_full", body=bad),
    ]
    assert codec.replies() == b"\x8a\x81\0\0\0\0p"
    codec.feed(b"\x88\x02\x03\xe9")
    assert codec.is_over


@pytest.mark.parametrize("size", [200, 70_000])
def test_long_messages_go_and_come(size: int):
    codec = WebSocket(b"")
    codec.feed(GREETING)
    body = b'{"id":1,"x":"' + b"x" * size + b'"}'
    sent = codec.request(1, b'{"x":"' + b"x" * size + b'"}')
    assert sent.endswith(body)
    head = bytearray(sent[: len(sent) - len(body) - 4])
    head[1] &= 127  # as a server says it: without a mask
    assert codec.feed(bytes(head) + body[:-1]) == []
    assert codec.feed(body[-1:]) == [Answer(1, body=body)]


def test_a_websocket_that_is_refused_says_with_what():
    with pytest.raises(Broken, match=r"the WebSocket was refused: HTTP/1.1 403 Forbidden"):
        WebSocket(b"").feed(b"HTTP/1.1 403 Forbidden\r\n\r\n")


def test_a_grpc_call_that_is_reset_or_ends_badly_is_an_error():
    codec = Grpc(b"a:1", b"/m", 32)
    for number in (10, 11, 12):
        codec.request(number, b"x")
    status = literal(b"grpc-status", b"14")
    answers = codec.feed(
        frame(Frame.RST_STREAM, 0, 1, bytes(4))
        + frame(Frame.HEADERS, END_HEADERS | END_STREAM, 3, b"\x88" + status)
        + frame(Frame.HEADERS, END_HEADERS | END_STREAM, 5, b"\x8d")  # 404, and nothing of gRPC
    )
    assert answers == [Answer(10, "reset"), Answer(11, "UNAVAILABLE"), Answer(12, "HTTP 404")]


def test_grpc_data_waits_until_the_server_has_room():
    codec = Grpc(b"a:1", b"/m", 32)
    sent = codec.request(1, bytes(100_000))
    assert sum(len(each) for each in [sent]) < 66_000
    codec.feed(frame(Frame.WINDOW_UPDATE, 0, 0, (1 << 20).to_bytes(4, "big")))
    assert codec.replies() == b""
    codec.feed(frame(Frame.WINDOW_UPDATE, 0, 1, (1 << 20).to_bytes(4, "big")))
    rest = codec.replies()
    assert len(rest) > 34_000
    assert codec.replies() == b""


GOOD = {
    "http": (Http, OK),
    "ws": (lambda: WebSocket(b""), GREETING + b"\x81\x08" + b'{"id":1}' + b"\x89\x01p\x88\x02\x03\xe9"),
    "grpc": (
        lambda: Grpc(b"a:1", b"/m", 32),
        frame(Frame.SETTINGS, 0, 0, b"\0\x04\0\1\0\0")
        + frame(Frame.HEADERS, END_HEADERS, 1, b"\x88" + literal(b"x-worker", b"w"))
        + frame(Frame.DATA, 0, 1, bytes(7))
        + frame(Frame.HEADERS, END_HEADERS | END_STREAM, 1, literal(b"grpc-status", b"0"))
        + frame(Frame.GOAWAY, 0, 0, bytes(8)),
    ),
}


@pytest.mark.parametrize("name", GOOD)
@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_damaged_bytes_are_answers_or_broken(name: str, data: st.DataObject):
    make, good = GOOD[name]
    at, cut = data.draw(st.integers(0, len(good))), data.draw(st.integers(0, 12))
    damaged = good[:at] + data.draw(st.binary(max_size=12)) + good[at + cut :]
    split = data.draw(st.integers(0, len(damaged)))
    codec = make()
    codec.request(1, b'{"x":1}')
    with contextlib.suppress(Broken):
        for part in (damaged[:split], damaged[split:]):
            assert all(isinstance(answer, Answer) for answer in codec.feed(part))
            assert isinstance(codec.replies(), bytes)


@pytest.mark.parametrize("name", GOOD)
def test_whole_bytes_are_one_answer(name: str):
    make, good = GOOD[name]
    codec = make()
    codec.request(1, b'{"x":1}')
    (answer,) = codec.feed(good)
    assert (answer.number, answer.error) == (1, "")


def run(door_name: str, url: str, count: int, *, tensor: Tensor = VECTOR, closed: int = 0) -> Records:
    start = time.monotonic()
    door = open_door(door_name, url, tensor)
    load = Load(door, Limits(4, 10.0, closed), lambda: time.monotonic() - start)
    load.run([Row(n / 500, "mlp", str(n)) for n in range(count)], 0.5)
    return load.records


@contextlib.contextmanager
def grpc_server(seen: list[Any]) -> Iterator[str]:
    """gRPC's own, which answers every tenth call with an error."""

    def infer(request: Any, context: grpc.ServicerContext) -> Any:
        seen.append(request)
        context.send_initial_metadata([("x-worker", "w1")])
        if len(seen) % 10 == 0:
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "full")
        return service_pb2.ModelInferResponse(model_name=request.model_name)

    method = grpc.unary_unary_rpc_method_handler(
        infer,
        service_pb2.ModelInferRequest.FromString,
        service_pb2.ModelInferResponse.SerializeToString,
    )
    server = grpc.server(ThreadPoolExecutor(1))
    service = "inference.GRPCInferenceService"
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, {"ModelInfer": method})])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"grpc://127.0.0.1:{port}"
    server.stop(0).wait()


def test_grpcs_own_server_understands_every_call():
    seen: list[Any] = []
    with grpc_server(seen) as url:
        records = run("grpc", url, 100)
    assert [records.kinds[each] for each in records.outcome].count("") == 90
    assert records.kinds == ["", "RESOURCE_EXHAUSTED"]
    assert records.workers == {b"w1": 90}
    assert {request.model_name for request in seen} == {"mlp"}


def test_large_grpc_messages_of_many_clients_arrive_whole():
    seen: list[Any] = []
    tensor = Tensor("x", "FP32", (20_000,))
    with grpc_server(seen) as url:
        records = run("grpc", url, 10, tensor=tensor, closed=3)
    assert len(records) == len(seen)
    assert {len(request.raw_input_contents[0]) for request in seen} == {80_000}


def test_a_websocket_library_understands_every_message():
    def handle(socket: websockets.sync.server.ServerConnection) -> None:
        socket.send('{"window":8,"max_bytes":1000}')
        for message in socket:
            asked = json.loads(message)
            assert asked["model"] == "mlp"
            socket.send(json.dumps({"id": asked["id"], "status": True, "result": 1, "worker": "w1"}))

    with websockets.sync.server.serve(handle, "127.0.0.1", 0, compression=None) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        records = run("ws", f"ws://127.0.0.1:{server.socket.getsockname()[1]}", 100)
        server.shutdown()
        thread.join()
    assert len(records) == 100
    assert set(records.outcome) == {0}
    assert records.workers == {b"w1": 100}
