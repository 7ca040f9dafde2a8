"""collaboration: who watches the calls of a gRPC server is told of each once, however it ends."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import trio

from common.errors import NotFound
from common.grpc.call import Call, direct, stream, unary
from tests.common.grpc.client import METHOD, framed, open_client

pytestmark = pytest.mark.usefixtures("virtual_time")


def echo(call: Call, message: bytes) -> None:
    call.respond(message, [(b"x-worker", b"bob")])


def refuse(_call: Call, _message: bytes) -> None:
    raise NotFound("there is none")


async def late(_call: Call, message: bytes) -> bytes:
    await trio.sleep(2)
    return message


async def repeat(call: Call) -> None:
    while (message := await call.receive()) is not None:
        call.send(message)


class Told:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str, float]] = []

    def called(self, headers: Mapping[bytes, bytes], began: float, status: str) -> bytes:
        method = headers[b":path"].decode().removeprefix(METHOD)
        self.calls.append((method, status, round(trio.current_time() - began)))
        return headers.get(b"x-request-id", b"made-1")


METHODS = {"echo": direct(echo), "refuse": direct(refuse), "late": unary(late), "repeat": stream(repeat)}


async def test_every_call_is_told_once_with_its_status_and_answered_with_its_id():
    told = Told()
    async with open_client(METHODS, told) as (client, _):
        answered = await client.call("echo", b"one", **{"x-request-id": "mine"})
        assert (answered.headers["x-request-id"], answered.headers["x-worker"]) == ("mine", "bob")
        for method in ("refuse", "none"):
            assert (await client.call(method)).headers["x-request-id"] == "made-1"
        await client.call("late", grpc_timeout="1S")
        await client.call("late")
        number = await client.begin("repeat")
        await client.send(number, framed(b"a") + framed(b"b"), end=True)
        assert (await client.answer(number)).headers["x-request-id"] == "made-1"
    assert told.calls == [
        ("echo", "OK", 0), ("refuse", "NOT_FOUND", 0), ("none", "UNIMPLEMENTED", 0),
        ("late", "DEADLINE_EXCEEDED", 1), ("late", "OK", 2), ("repeat", "OK", 0),
    ]  # fmt: skip


async def test_calls_whose_client_goes_are_cancelled():
    told = Told()
    async with open_client(METHODS, told) as (client, _):
        number = await client.begin("late")
        await client.send(number, framed(b""), end=True)
        await trio.sleep(1)
        client.h2.reset_stream(number, 8)
        await client.begin("repeat")
        await trio.sleep(1)
    assert told.calls == [("late", "CANCELLED", 1), ("repeat", "CANCELLED", 1)]
