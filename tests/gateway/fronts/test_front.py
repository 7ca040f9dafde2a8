"""Collaboration: what a front and its gateway say to each other, and what a front is made of."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from gateway.http1 import Exchange
from gateway.http1.request import Refused
from tests.gateway.fronts.conftest import until

ROOT = Path(__file__).resolve().parents[3]
POST = b"POST /echo HTTP/1.1\r\nHost: a\r\n%bContent-Length: 1\r\n\r\nx"


@pytest.mark.parametrize(
    ("sent", "limits", "counted"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", {}, {"syntax": 1}),
        (b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 101\r\n\r\n", {"max_body": 100}, {"body": 1}),
        (b"POST /echo HTTP/1.1\r\nHost: a\r\nX: %b\r\n\r\n" % (b"y" * 2000), {"max_head": 1024}, {"head": 1}),
        (b"POST /echo", {"head_time": 0.2}, {"head_time": 1}),
        (POST % b"" + b"PUT /other HTTP/1.1\r\n\r\n", {}, {"syntax": 1}),
    ],
)
async def test_a_limit_that_is_met_in_front_is_counted_once(serve_lane, sent, limits, counted):
    async with serve_lane(**limits) as served:
        assert b"HTTP/1.1 4" in await served.ask(sent)
        await until(lambda: served.lane.lane.limited == Counter(counted))


async def test_an_address_may_have_so_many_connections_at_a_front_and_is_told_so(serve_lane):
    async with serve_lane(max_connections_per_address=1) as served:
        first = await served.connect()
        await first.send(POST % b"")
        assert (await first.answer())[0] == 200
        assert b"This address has 1 connections, as many as it may." in await (await served.connect()).rest()
        await until(lambda: served.lane.lane.limited == Counter({"connections_per_address": 1}))


async def test_a_guard_is_asked_and_told_whom_it_guards_from(serve_lane):
    seen: list[Exchange] = []

    def guard(exchange: Exchange, handler: Any) -> Any:
        seen.append(exchange)
        if exchange.header(b"authorization") is None:
            raise Refused(401, "Who are you?", exchange.path, b"www-authenticate: Bearer\r\n")
        return handler

    async with serve_lane() as served:
        served.lane.lane._guard = guard
        client = await served.connect()
        await client.send(POST % b"")
        status, head, body = await client.answer()
        assert (status, body) == (401, b'{"status":false,"message":"Who are you?"}')
        assert b"www-authenticate: Bearer\r\n" in head
        await client.send(POST % b"Authorization: Bearer me\r\n")
        assert (await client.answer())[0] == 200
    assert [(it.address, it.path) for it in seen] == [("127.0.0.1", "/echo")] * 2


async def test_what_the_gateway_does_not_answer_directly_after_all_is_not_there(serve_lane):
    async with serve_lane({}, is_ours=lambda method, path: True) as served:
        client = await served.connect()
        await client.send(POST % b"")
        assert (await client.answer())[::2] == (
            404,
            b'{"status":false,"message":"There is nothing at /echo"}',
        )


async def test_nonsense_from_a_front_ends_that_front_and_nothing_else(serve_lane, caplog):
    async with serve_lane() as served:
        client = await served.connect()
        await client.send(POST % b"")
        assert (await client.answer())[0] == 200
        served.lane.front._channel.send(1, b"nonsense")
        await served.lane.desk.ended.wait()
    assert [record.getMessage() for record in caplog.records] == ["a front says what nobody understands"]


def test_a_front_is_made_of_little():
    heavy = ("trio", "starlette", "hypercorn", "pynng", "numpy", "torch", "ssl")
    program = f"import gateway.fronts.process, sys; print([name for name in {heavy} if name in sys.modules])"
    said = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert said.stdout == "[]\n"
