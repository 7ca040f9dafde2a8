"""What a door that is called by the HTTP lane needs of a request, also where that comes by ASGI (HTTP/2)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

import msgspec
import trio
from starlette.requests import Request
from starlette.responses import Response

from common.tensor import Buffer
from gateway.auth.asking import client_of
from gateway.auth.clients import Client
from gateway.doors.json import BODY, NO_JSON, JsonReader
from gateway.scheduling.requests import Answer

T = TypeVar("T")


class Asked(Protocol):
    """The lane's `Exchange`, or an ASGI request in its clothes."""

    query: bytes
    on_gone: Callable[[], None] | None
    client: Client | None

    @property
    def body(self) -> bytes | bytearray: ...

    def header(self, name: bytes) -> bytes | None: ...

    def respond(self, status: int, body: bytes, extra: bytes = b"", rest: Sequence[Buffer] = ()) -> None: ...


class AskedRow(Asked, Protocol):
    """A request of one row that is packed already, whose asker can put an answer into words."""

    vector: bytes

    def reply(self, answer: Answer, nn_id: str) -> None: ...


class _AsgiExchange:
    def __init__(self, request: Request, body: bytes) -> None:
        self.body: bytes | bytearray = body
        self.query: bytes = request.scope["query_string"]
        self.on_gone: Callable[[], None] | None = None
        self.client: Client | None = client_of(request.scope)
        self.answered = trio.Event()
        self.response: Response | None = None
        self._request = request

    def header(self, name: bytes) -> bytes | None:
        value = self._request.headers.get(name.decode())
        return None if value is None else value.encode("latin-1")

    def respond(self, status: int, body: bytes, extra: bytes = b"", rest: Sequence[Buffer] = ()) -> None:
        headers = {"content-type": "application/json"}
        headers |= dict(line.split(": ", 1) for line in extra.decode("latin-1").split("\r\n") if line)
        self.response = Response(b"".join([body, *rest]), status, headers)
        self.answered.set()

    async def watch(self, scope: trio.CancelScope) -> None:
        """Cancel `scope` when the client goes. (Starlette's `is_disconnected` never says so on trio.)"""
        while (await self._request.receive())["type"] != "http.disconnect":
            pass
        scope.cancel()


async def read_json(
    request: Request,
    decoder: msgspec.json.Decoder[T],
    *,
    empty: bytes = b"",
    what: str = BODY,
    wanted: str = "",
) -> T:
    """The body of a request to the app, or `empty` where there is none; as `JsonReader.read`. `wanted` is the
    sentence for all that it should not be, where the door has one of its own."""
    reader: JsonReader = request.app.state.json
    body = await request.body()
    return reader.read(body if body.strip() else empty, decoder, what, wanted or NO_JSON, wanted)


async def answer_over_asgi(door: Callable[[Asked], None], request: Request) -> Response:
    """What a door of the lane answers to a client that the lane has no part in."""
    exchange = _AsgiExchange(request, await request.body())
    door(exchange)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(exchange.watch, nursery.cancel_scope)
            await exchange.answered.wait()
            nursery.cancel_scope.cancel()
    finally:
        if exchange.response is None and exchange.on_gone is not None:
            exchange.on_gone()
    return exchange.response or Response(status_code=499)
