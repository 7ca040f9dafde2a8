"""Collaboration: ASGI apps behind the lane on real sockets; framing, streaming, disconnects, bad manners."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route

ServeLane = Callable[..., Any]
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
FAILED = b'{"status":false,"message":"The server failed on this request."}'


def start(status: int = 200, *headers: tuple[bytes, bytes]) -> dict[str, Any]:
    return {"type": "http.response.start", "status": status, "headers": list(headers)}


def body(data: bytes, more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": more}


def answers(*messages: dict[str, Any]) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in messages:
            await send(message)

    return app


async def test_the_scope_is_asgi_3(serve_lane: ServeLane) -> None:
    scopes: list[dict[str, Any]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scopes.append(scope)
        assert await receive() == {"type": "http.request", "body": b"", "more_body": False}
        await answers(start(204), body(b""))(scope, receive, send)
        assert await receive() == {"type": "http.disconnect"}

    async with serve_lane(app=app) as served:
        client = await served.connect()
        await client.send(b"GET /a%2Fb%C3%A9?q=%20 HTTP/1.1\r\nHost: a\r\nX-A: 1\r\n\r\n")
        assert (await client.answer())[1] == b"HTTP/1.1 204 No Content\r\n\r\n"
        mine = client.stream.socket.getsockname()
    assert scopes == [
        {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": "/a/bé",
            "raw_path": b"/a%2Fb%C3%A9",
            "query_string": b"q=%20",
            "root_path": "",
            "headers": [(b"host", b"a"), (b"x-a", b"1")],
            "client": mine,
            "server": ("127.0.0.1", served.port),
        }
    ]


@pytest.mark.parametrize(
    ("request_bytes", "messages", "answer"),
    [
        (GET, [start(), body(b"hi")], b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi"),
        (
            GET,
            [start(200, (b"Content-Length", b"4")), body(b"ab", True), body(b"cd")],
            b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nabcd",
        ),
        (
            GET,
            [start(), body(b"ab", True), body(b"", True), body(b"c" * 17, True), body(b"")],
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n11\r\n"
            + b"c" * 17
            + b"\r\n0\r\n\r\n",
        ),
        (GET, [start(304, (b"etag", b"x")), body(b"never")], b"HTTP/1.1 304 Not Modified\r\netag: x\r\n\r\n"),
        (
            b"HEAD" + GET[3:],
            [start(200, (b"content-length", b"9")), body(b"")],
            b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n",
        ),
        (b"HEAD" + GET[3:], [start(), body(b"four")], b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n"),
    ],
)
async def test_an_answer_is_framed_so_that_the_connection_can_go_on(
    serve_lane: ServeLane, request_bytes: bytes, messages: list[dict[str, Any]], answer: bytes
) -> None:
    closing = request_bytes[:-2] + b"Connection: close\r\n\r\n"
    async with serve_lane(app=answers(*messages)) as served:
        head, _, tail = answer.partition(b"\r\n\r\n")
        last = head + b"\r\nconnection: close\r\n\r\n" + tail
        assert await served.ask(request_bytes + closing) == answer + last


async def test_http10_gets_a_stream_by_close(serve_lane: ServeLane) -> None:
    async with serve_lane(app=answers(start(), body(b"ab", True), body(b"c"))) as served:
        answer = await served.ask(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        assert answer == b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nabc"


@pytest.mark.parametrize(
    ("messages", "logged"),
    [
        ([], "the app did not answer GET /"),
        ([start()], "the app did not answer GET /"),
        ([body(b"x")], "the app failed on GET /"),
        ([start(), start()], "the app failed on GET /"),
        ([start(200, (b"x", b"a\r\nset-cookie: b")), body(b"")], "the app failed on GET /"),
    ],
)
async def test_an_app_without_a_proper_answer_is_a_500_logged_once(
    serve_lane: ServeLane, caplog: pytest.LogCaptureFixture, messages: list[dict[str, Any]], logged: str
) -> None:
    async with serve_lane(app=answers(*messages)) as served:
        client = await served.connect()
        for _ in range(2):
            await client.send(GET)
            status, _, text = await client.answer()
            assert (status, text) == (500, FAILED)
    assert [record.getMessage() for record in caplog.records] == [logged] * 2


@pytest.mark.parametrize(
    ("messages", "sent"),
    [
        ([start(), body(b"ab", True), {"type": "nonsense"}], b"2\r\nab\r\n"),
        ([start(), body(b"ab", True)], b"2\r\nab\r\n"),
        ([start(200, (b"content-length", b"4")), body(b"ab", True), body(b"c")], b"ab"),
        ([start(200, (b"content-length", b"4")), body(b"ab", True), body(b"cdefg")], b"ab"),
    ],
)
async def test_an_app_that_fails_in_mid_answer_loses_the_connection(
    serve_lane: ServeLane, caplog: pytest.LogCaptureFixture, messages: list[dict[str, Any]], sent: bytes
) -> None:
    async with serve_lane(app=answers(*messages)) as served:
        assert (await served.ask(GET)).endswith(b"\r\n\r\n" + sent)
        assert (await served.ask(GET)).endswith(b"\r\n\r\n" + sent)
    assert len(caplog.records) == 2


async def test_an_upload_is_streamed_and_held_back_while_the_app_is_busy(serve_lane: ServeLane) -> None:
    go = trio.Event()
    total = 30_000_000
    taken = 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal taken
        await go.wait()
        more = True
        while more:
            message = await receive()
            taken += len(message["body"])
            assert len(message["body"]) <= 256 * 1024 + 64 * 1024
            more = message["more_body"]
        await answers(start(), body(b"%d" % taken))(scope, receive, send)

    async with serve_lane(app=app, max_body=total, max_unread=256 * 1024) as served:
        client = await served.connect()
        async with trio.open_nursery() as nursery:
            await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % total)
            nursery.start_soon(client.send, bytes(total))
            # Behind a front it is another's connection first.
            while not (held := [each for each in served.lane.connections.values() if not each.mask]):
                await trio.lowlevel.checkpoint()
            (connection,) = held
            assert 256 * 1024 <= len(connection.current.body) <= 256 * 1024 + 64 * 1024
            go.set()
            assert (await client.answer())[2] == b"%d" % total


async def flood(send: Any) -> None:
    for _ in range(50):
        await send(body(bytes(1_000_000), True))


async def test_a_disconnect_is_told_to_the_app_and_ends_its_writes(serve_lane: ServeLane) -> None:
    told = trio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(start())
        await send(body(b"x", True))
        assert await receive() == {"type": "http.disconnect"}
        with pytest.raises(OSError, match=r"^The client has left\.$"):
            await flood(send)
        told.set()

    async with serve_lane(app=app) as served:
        client = await served.connect()
        await client.send(GET)
        await client.until(b"x\r\n")
        await client.aclose()
        await told.wait()
        await served.emptied()


async def test_a_client_that_leaves_in_mid_upload_is_a_disconnect(serve_lane: ServeLane) -> None:
    told = trio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        told.set()

    async with serve_lane(app=app) as served:
        client = await served.connect()
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nabc")
        await client.aclose()
        await told.wait()


async def test_a_half_closed_client_is_still_answered(serve_lane: ServeLane) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        await answers(start(), body(b"bye"))(scope, receive, send)

    async with serve_lane(app=app) as served:
        client = await served.connect()
        await client.send(GET)
        await client.stream.send_eof()
        assert (await client.rest()).endswith(b"\r\n\r\nbye")


@pytest.mark.parametrize(("size", "kept"), [(200_000, True), (400_000, False)])
async def test_a_body_that_no_one_read_is_dropped_or_ends_the_connection(
    serve_lane: ServeLane, size: int, kept: bool
) -> None:
    async with serve_lane(app=answers(start(), body(b"no"))) as served:
        client = await served.connect()
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size)
        status, head, _ = await client.answer()
        assert (status, b"connection: close" in head) == (200, not kept)
        await client.send(bytes(size))
        if kept:
            await client.send(GET)
            assert (await client.answer())[0] == 200
        else:
            assert await client.rest() == b""


async def test_expect_continue_is_answered_when_the_app_asks_for_the_body(serve_lane: ServeLane) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/take":
            await receive()
        await answers(start(), body(b"ok"))(scope, receive, send)

    expect = b" HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
    async with serve_lane(app=app) as served:
        client = await served.connect()
        await client.send(b"POST /take" + expect)
        assert await client.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await client.send(b"hi")
        assert (await client.answer())[0] == 200
        await client.send(b"POST /leave" + expect)
        head = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok"
        assert await client.rest() == head


async def test_a_chunked_upload_over_its_limit_is_a_413_and_the_app_sees_a_disconnect(
    serve_lane: ServeLane,
) -> None:
    told = trio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        told.set()

    async with serve_lane(app=app, max_body=10) as served:
        client = await served.connect()
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n")
        await client.send(b"6\r\nabcdef\r\n0\r\n\r\n")
        assert (await client.answer())[0] == 413
        await told.wait()


async def test_a_starlette_app_streams_both_ways(serve_lane: ServeLane) -> None:
    async def double(request: Request) -> StreamingResponse:
        async def pieces() -> Any:
            async for piece in request.stream():
                yield piece * 2

        return StreamingResponse(pieces(), media_type="text/plain")

    async def total(request: Request) -> JSONResponse:
        return JSONResponse({"size": len(await request.body()), "q": request.query_params["q"]})

    app = Starlette(
        routes=[Route("/double", double, methods=["POST"]), Route("/total", total, methods=["POST"])]
    )
    async with serve_lane(app=app) as served:
        client = await served.connect()
        await client.send(b"POST /double HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc")
        await client.until(b"\r\n\r\n")
        assert await client.until(b"0\r\n\r\n") == b"6\r\nabcabc\r\n0\r\n\r\n"
        await client.send(b"POST /total?q=1 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc")
        assert (await client.answer())[2] == b'{"size":3,"q":"1"}'
