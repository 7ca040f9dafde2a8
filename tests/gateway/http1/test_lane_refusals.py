"""Collaboration: what the lane refuses, when it runs out of patience, and that no bytes bring it down."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from gateway.http1 import Exchange

ServeLane = Callable[..., Any]

GOOD = b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi"
HOST = b"Host: a\r\n"


def error(status: bytes, message: bytes, extra: bytes = b"") -> bytes:
    body = b'{"status":false,"message":"' + message + b'"}'
    head = (
        b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n%bconnection: close\r\n\r\n"
    )
    return head % (status, len(body), extra) + body


@pytest.mark.parametrize(
    ("request_bytes", "status", "message"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", b"400 Bad Request", b"The Host header is missing."),
        (
            b"GET /\x00 HTTP/1.1\r\n",
            b"400 Bad Request",
            b"This is not a valid HTTP/1.1 request: Invalid char in url path.",
        ),
        (
            b"POST /echo HTTP/1.1\r\n" + HOST + b"Content-Length: 101\r\n\r\n",
            b"413 Request Entity Too Large",
            b"The body is larger than 100 bytes.",
        ),
        (
            b"POST /echo HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n65\r\n" + b"x" * 101,
            b"413 Request Entity Too Large",
            b"The body is larger than 100 bytes.",
        ),
        (
            b"GET / HTTP/1.1\r\n" + HOST + b"x: " + b"y" * 2000 + b"\r\n\r\n",
            b"431 Request Header Fields Too Large",
            b"The request's headers are too large.",
        ),
        (
            b"GET /" + b"y" * 600 + b" HTTP/1.1\r\n",
            b"414 Request-URI Too Long",
            b"The request target is too long.",
        ),
        (
            b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: gzip\r\n\r\n",
            b"501 Not Implemented",
            b"No transfer encoding but chunked is implemented.",
        ),
        (
            b"CONNECT a:1 HTTP/1.1\r\n" + HOST + b"\r\n",
            b"501 Not Implemented",
            b"This method is not implemented.",
        ),
        (
            b"GET / HTTP/2.0\r\n" + HOST + b"\r\n",
            b"505 HTTP Version Not Supported",
            b"Only HTTP/1.1 and HTTP/1.0 are spoken here.",
        ),
    ],
)
async def test_a_refusal_is_exactly_these_bytes_after_the_answers_before_it(
    serve_lane: ServeLane, request_bytes: bytes, status: bytes, message: bytes
) -> None:
    async with serve_lane(max_body=100, max_head=1024, max_target=512) as served:
        assert _reason(await served.ask(request_bytes)) == _reason(error(status, message))
        client = await served.connect()
        await client.send(GOOD + request_bytes)
        assert (await client.answer())[2] == b"hi"
        assert _reason(await client.rest()) == _reason(error(status, message))


def _reason(answer: bytes) -> bytes:
    """413 and 414 were given new phrases in Python 3.13: only their numbers count."""
    line, rest = answer.split(b"\r\n", 1)
    return line[:12] + b"\r\n" + rest


async def test_an_answer_to_a_refused_upload_can_be_read_by_a_client_that_goes_on_sending(
    serve_lane: ServeLane,
) -> None:
    async with serve_lane(max_body=100) as served:
        client = await served.connect()
        await client.send(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 4000000\r\n\r\n")
        await client.send(b"x" * 4_000_000)
        assert (await client.answer())[0] == 413


async def test_a_connection_too_many_is_told_so(serve_lane: ServeLane) -> None:
    async with serve_lane(max_connections=1) as served:
        first = await served.connect()
        await first.send(GOOD)
        assert (await first.answer())[0] == 200
        second = await served.connect()
        message = b"The server has as many connections as it may."
        assert await second.rest() == error(b"503 Service Unavailable", message, b"retry-after: 1\r\n")
        await first.send(GOOD)
        assert (await first.answer())[0] == 200


async def test_an_address_with_a_connection_too_many_is_told_so(serve_lane: ServeLane) -> None:
    async with serve_lane(max_connections_per_address=1) as served:
        first = await served.connect()
        await first.send(GOOD)
        assert (await first.answer())[0] == 200
        second = await served.connect()
        message = b"This address has 1 connections, as many as it may."
        assert await second.rest() == error(b"503 Service Unavailable", message, b"retry-after: 1\r\n")
        assert served.lane.limited["connections_per_address"] == 1
        await first.aclose()
        await second.aclose()
        while served.lane.connections:  # noqa: ASYNC110 - the lane hears of it in its own time
            await trio.sleep(0.001)
        third = await served.connect()
        await third.send(GOOD)
        assert (await third.answer())[0] == 200


async def test_who_trickles_a_body_in_is_told_so_and_who_sends_it_slowly_is_not(
    serve_lane: ServeLane, autojump_clock: MockClock
) -> None:
    head = b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 60\r\n\r\n"
    async with serve_lane(body_time=10, min_body_rate=2) as served:
        slow, client = await served.connect(), await served.connect()
        async with trio.open_nursery() as nursery:
            await slow.send(head)
            await client.send(head)
            nursery.start_soon(_trickle, slow, b"x" * 50)
            nursery.start_soon(_trickle, client, [b"xxx"] * 20)
            began = trio.current_time()
            assert (await slow.answer())[0] == 408
            assert trio.current_time() - began < 15  # though it has not paused
            assert (await client.answer())[2] == b"x" * 60
            nursery.cancel_scope.cancel()
        assert served.lane.limited["body_time"] == 1


@pytest.mark.parametrize(
    ("request_bytes", "limit"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "syntax"),
        (b"POST /echo HTTP/1.1\r\n" + HOST + b"Content-Length: 101\r\n\r\n", "body"),
        (b"GET / HTTP/1.1\r\n" + HOST + b"x: " + b"y" * 2000 + b"\r\n\r\n", "head"),
        (b"GET /" + b"y" * 600 + b" HTTP/1.1\r\n", "target"),
    ],
)
async def test_what_is_refused_is_counted_by_its_limit(
    serve_lane: ServeLane, request_bytes: bytes, limit: str
) -> None:
    async with serve_lane(max_body=100, max_head=1024, max_target=512) as served:
        await served.ask(request_bytes)
        assert served.lane.limited == {limit: 1}


async def test_a_slow_head_is_a_408(serve_lane: ServeLane, autojump_clock: MockClock) -> None:
    async with serve_lane(head_time=10) as served:
        client = await served.connect()
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_trickle, client, b"POST /echo HTTP/1.1\r\nHost: abcdefghijkl")
            answer = await client.rest()
            nursery.cancel_scope.cancel()
        assert answer == error(b"408 Request Timeout", b"The request's head did not arrive in time.")
        assert 10 <= trio.current_time() - began < 13


async def _trickle(client: Any, data: bytes | list[bytes]) -> None:
    with suppress(trio.BrokenResourceError):  # it was cut
        for each in data:
            await client.send(each if isinstance(each, bytes) else bytes([each]))
            await trio.sleep(1)


async def test_a_connection_that_says_nothing_is_closed_without_a_word(
    serve_lane: ServeLane, autojump_clock: MockClock
) -> None:
    async with serve_lane(head_time=10, idle_time=75) as served:
        assert await (await served.connect()).rest() == b""
        assert 10 <= trio.current_time() < 13
        client = await served.connect()
        await client.send(GOOD)
        await client.answer()
        began = trio.current_time()
        assert await client.rest() == b""
        assert 75 <= trio.current_time() - began < 78


async def test_a_body_that_stops_is_a_408(serve_lane: ServeLane, autojump_clock: MockClock) -> None:
    async with serve_lane(body_time=30) as served:
        client = await served.connect()
        await client.send(GOOD[:-1])
        assert await client.rest() == error(b"408 Request Timeout", b"The body did not arrive in time.")


async def test_a_body_that_was_fast_and_stops_is_a_408_as_soon(
    serve_lane: ServeLane, autojump_clock: MockClock
) -> None:
    async with serve_lane(body_time=30, min_body_rate=500) as served:
        client = await served.connect()
        await client.send(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 60000\r\n\r\n")
        await trio.sleep(20)
        await client.send(bytes(40_000))  # more than 30 s take, on the average
        with trio.fail_after(35):
            assert await client.rest() == error(b"408 Request Timeout", b"The body did not arrive in time.")


async def test_a_client_that_does_not_read_is_cut(serve_lane: ServeLane, autojump_clock: MockClock) -> None:
    big = bytes(30_000_000)
    async with serve_lane({("POST", "/echo"): lambda e: e.respond(200, big)}, write_time=30) as served:
        client = await served.connect()
        await client.send(GOOD)
        await trio.sleep(40)
        assert served.lane.connections == {}
        assert served.lane.limited == {"write_time": 1}
        await client.aclose()


async def test_a_request_that_waits_for_its_answer_has_no_time_limit(
    serve_lane: ServeLane, autojump_clock: MockClock
) -> None:
    held: list[Exchange] = []
    async with serve_lane({("POST", "/echo"): held.append}) as served:
        client = await served.connect()
        await client.send(GOOD)
        await trio.sleep(1000)
        held[0].respond(200, b"at last")
        assert (await client.answer())[2] == b"at last"


async def test_a_client_that_never_closes_after_the_answer_is_cut(
    serve_lane: ServeLane, autojump_clock: MockClock
) -> None:
    async with serve_lane(linger_time=2) as served:
        client = await served.connect()
        await client.send(b"GET / HTTP/1.1\r\n\r\n")
        assert (await client.rest()).startswith(b"HTTP/1.1 400 ")
        assert len(served.lane.connections) == 1
        await trio.sleep(4)
        assert served.lane.connections == {}


async def test_random_and_damaged_bytes_never_bring_the_lane_down(
    serve_lane: ServeLane, caplog: pytest.LogCaptureFixture
) -> None:
    rng = random.Random(7)
    async with serve_lane() as served:
        for _ in range(300):
            data = bytearray(GOOD * 3 if rng.random() < 0.7 else rng.randbytes(200))
            for _ in range(rng.randrange(1, 4)):
                data[rng.randrange(len(data))] = rng.randrange(256)
            client = await served.connect()
            await client.send(bytes(data))
            await client.stream.send_eof()
            answer = await client.rest()
            assert answer == b"" or answer.startswith(b"HTTP/1.1 ")
            await client.aclose()
        assert (await served.ask(GOOD[:21] + b"Connection: close\r\n" + GOOD[21:])).endswith(b"hi")
    assert caplog.records == []
