"""Collaboration: WebSocket and HTTP/2 on the lane's port, served by Hypercorn from the bytes already read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest
import trio
from h2.connection import H2Connection
from h2.events import DataReceived, StreamEnded
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, CloseConnection, TextMessage
from wsproto.events import Request as Opening

from gateway.http1.reader import PREFACE

ServeLane = Callable[..., Any]


async def echo_socket(websocket: WebSocket) -> None:
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_text(text + "!")


async def describe(request: Request) -> JSONResponse:
    return JSONResponse({"version": request.scope["http_version"], "size": len(await request.body())})


APP = Starlette(
    routes=[WebSocketRoute("/ws", echo_socket), Route("/what", describe, methods=["GET", "POST"])],
)


async def send_large(request: Request) -> Response:
    return Response(bytes(int(request.query_params.get("size", 64 << 20))))


LARGE = Starlette(routes=[Route("/large", send_large)])


def h2_client() -> httpx.AsyncClient:
    return httpx.AsyncClient(http1=False, http2=True)


async def next_event(client: Any, ws: WSConnection) -> Any:
    while (event := next(ws.events(), None)) is None:
        ws.receive_data(await client.stream.receive_some())
    return event


@pytest.mark.parametrize("bytewise", [False, True])
async def test_a_websocket_echoes_on_a_connection_that_served_requests(
    serve_lane: ServeLane, bytewise: bool
) -> None:
    async with serve_lane(app=APP) as served:
        client = await served.connect()
        await client.send(b"GET /what HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await client.answer())[2] == b'{"version":"1.1","size":0}'
        ws = WSConnection(ConnectionType.CLIENT)
        opening = ws.send(Opening(host="a", target="/ws"))
        for piece in [bytes([byte]) for byte in opening] if bytewise else [opening]:
            await client.send(piece)
        assert isinstance(await next_event(client, ws), AcceptConnection)
        assert served.lane.connections == {}
        await client.send(ws.send(TextMessage("one")))
        assert (await next_event(client, ws)).data == "one!"
        await client.send(ws.send(CloseConnection(code=1000)))
        assert isinstance(await next_event(client, ws), CloseConnection)


async def test_http2_with_prior_knowledge(serve_lane: ServeLane) -> None:
    async with serve_lane(app=APP) as served, h2_client() as client:
        url = f"http://127.0.0.1:{served.port}/what"
        for size in (0, 100_000):
            answer = await client.post(url, content=bytes(size))
            assert answer.http_version == "HTTP/2"
            assert answer.json() == {"version": "2", "size": size}


async def test_a_preface_in_pieces_is_handed_over_too(serve_lane: ServeLane) -> None:
    async with serve_lane(app=APP) as served:
        client = await served.connect()
        for byte in PREFACE:
            await client.send(bytes([byte]))
        await client.send(b"\0\0\0\4\0\0\0\0\0")
        settings = await client.exactly(9)
        assert settings[3] == 4


async def test_a_body_over_the_limit_is_413_on_http2_too(
    serve_lane: ServeLane, caplog: pytest.LogCaptureFixture
) -> None:
    async with serve_lane(app=APP, max_body=1000) as served, h2_client() as client:
        url = f"http://127.0.0.1:{served.port}/what"
        answer = await client.post(url, content=bytes(2000))
        assert answer.status_code == 413
        assert answer.json() == {"status": False, "message": "The body is larger than 1000 bytes."}
    assert caplog.records[0].getMessage() == (
        "an HTTP/2 request was cut: The body is larger than 1000 bytes."
    )


@pytest.mark.parametrize("piece", [0, 10])
async def test_a_body_that_pauses_or_trickles_in_is_408_on_http2_and_costs_no_other_stream(
    serve_lane: ServeLane, piece: int
) -> None:
    async with serve_lane(app=APP, body_time=0.3, min_body_rate=1000) as served:
        client = await served.connect()
        http2 = H2Connection()
        http2.initiate_connection()
        http2.send_headers(1, request_head("POST", "/what"))
        await client.send(http2.data_to_send())
        async with trio.open_nursery() as nursery:

            async def trickle() -> None:
                while True:
                    http2.send_data(1, bytes(piece))
                    await client.send(http2.data_to_send())
                    await trio.sleep(0.05)

            if piece:
                nursery.start_soon(trickle)
            said = await until_ended(client, http2, 1)
            nursery.cancel_scope.cancel()
        assert said == b'{"status":false,"message":"The body did not arrive in time."}'
        assert served.lane.limited["body_time"] == 1
        http2.send_headers(3, request_head("GET", "/what"), end_stream=True)
        await client.send(http2.data_to_send())
        assert await until_ended(client, http2, 3) == b'{"version":"2","size":0}'


async def test_a_body_that_is_fast_enough_takes_its_time_on_http2(serve_lane: ServeLane) -> None:
    async with serve_lane(app=APP, body_time=0.3, min_body_rate=10) as served:
        client = await served.connect()
        http2 = H2Connection()
        http2.initiate_connection()
        http2.send_headers(1, request_head("POST", "/what"))
        for _ in range(10):
            http2.send_data(1, bytes(10))
            await client.send(http2.data_to_send())
            await trio.sleep(0.1)
        http2.end_stream(1)
        await client.send(http2.data_to_send())
        assert await until_ended(client, http2, 1) == b'{"version":"2","size":100}'


@pytest.mark.parametrize("makes_room", [False, True])
async def test_an_answer_that_nobody_takes_is_cut_on_http2_and_counted(
    serve_lane: ServeLane, makes_room: bool
) -> None:
    async with serve_lane(app=LARGE, write_time=0.3) as served:
        client = await served.connect()
        http2 = H2Connection()
        http2.initiate_connection()
        http2.send_headers(1, request_head("GET", "/large"), end_stream=True)
        if makes_room:  # and reads nothing
            http2.increment_flow_control_window(2**30)
            http2.increment_flow_control_window(2**30, 1)
        await client.send(http2.data_to_send())
        with trio.fail_after(20):
            while not served.lane.limited["write_time"]:  # noqa: ASYNC110 - what is waited for has no event
                await trio.sleep(0.01)


async def test_an_answer_that_is_taken_slowly_comes_whole_on_http2(serve_lane: ServeLane) -> None:
    async with serve_lane(app=LARGE, write_time=2.0) as served:
        client = await served.connect()
        http2 = H2Connection()
        http2.initiate_connection()
        http2.send_headers(1, request_head("GET", "/large?size=1000000"), end_stream=True)
        await client.send(http2.data_to_send())
        began, taken = trio.current_time(), 0
        while taken < 1_000_000:
            for event in http2.receive_data(await client.stream.receive_some()):
                if isinstance(event, DataReceived):
                    taken += len(event.data)
                    http2.acknowledge_received_data(event.flow_controlled_length, 1)
            await trio.sleep(0.1)
            await client.send(http2.data_to_send())
        assert taken == 1_000_000
        assert trio.current_time() - began > 2.0, "the whole of it took longer than a piece of it may"
        assert served.lane.limited["write_time"] == 0


async def test_of_an_answer_that_nobody_takes_little_is_made_on_http2(serve_lane: ServeLane) -> None:
    made = 0

    async def make(_scope: Scope, _receive: Receive, send: Send) -> None:
        nonlocal made
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for made in range(1, 1001):  # noqa: B007 - it is what is asked about
            await send({"type": "http.response.body", "body": bytes(64 << 10), "more_body": True})

    async with serve_lane(app=make) as served:
        client = await served.connect()
        http2 = H2Connection()
        http2.initiate_connection()
        http2.send_headers(1, request_head("GET", "/made"), end_stream=True)
        await client.send(http2.data_to_send())
        with trio.fail_after(10):
            while not made:  # noqa: ASYNC110 - what is waited for has no event
                await trio.sleep(0.01)
        await trio.testing.wait_all_tasks_blocked(0.1)
        assert made <= 4


async def test_a_body_that_goes_on_after_its_answer_costs_no_other_stream(
    serve_lane: ServeLane, caplog: pytest.LogCaptureFixture
) -> None:
    async with serve_lane(app=APP) as served:
        client = await served.connect()
        http2 = H2Connection()
        http2.initiate_connection()
        http2.send_headers(1, request_head("POST", "/nothing"))
        http2.send_data(1, bytes(10))
        await client.send(http2.data_to_send())
        await until_ended(client, http2, 1)
        for _ in range(2):
            # Sent before the answer came, as far as the server can tell.
            http2.send_data(1, bytes(10))
        http2.end_stream(1)
        http2.send_headers(3, request_head("GET", "/what"), end_stream=True)
        await client.send(http2.data_to_send())
        assert await until_ended(client, http2, 3) == b'{"version":"2","size":0}'
    assert caplog.records == []


def request_head(method: str, path: str) -> list[tuple[str, str]]:
    return [(":method", method), (":path", path), (":authority", "a"), (":scheme", "http")]


async def until_ended(client: Any, http2: H2Connection, stream: int) -> bytes:
    """The body of the stream's answer."""
    body = b""
    with trio.fail_after(20):
        while True:
            for event in http2.receive_data(await client.stream.receive_some()):
                if isinstance(event, DataReceived) and event.stream_id == stream:
                    body += event.data
                if isinstance(event, StreamEnded) and event.stream_id == stream:
                    return body


async def test_the_drain_closes_an_idle_websocket(serve_lane: ServeLane) -> None:
    async with serve_lane(app=APP) as served:
        client = await served.connect()
        ws = WSConnection(ConnectionType.CLIENT)
        await client.send(ws.send(Opening(host="a", target="/ws")))
        assert isinstance(await next_event(client, ws), AcceptConnection)
        with trio.fail_after(20):
            served.lane.drain(0.2)
            await client.rest()
