"""`/ws`: who may open a WebSocket, and which are open. What is said on one is the session's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from starlette.requests import Request as AsgiRequest
from starlette.responses import Response
from starlette.routing import BaseRoute, WebSocketRoute

from common.errors import PipelineError
from gateway.auth.asking import admit, client_of
from gateway.auth.clients import Client
from gateway.auth.origins import is_foreign, refusal
from gateway.auth.roles import Role
from gateway.doors.answers import json_response
from gateway.doors.json import JsonReader
from gateway.doors.shape import RETRY_AFTER, encode, failure, lines_of, pairs_of
from gateway.doors.ws.session import Receive, Send, Session, SocketLimits
from gateway.doors.ws.ws_api import SOCKET
from gateway.models.catalog import Catalog
from gateway.observing.access import HEADER, Access
from gateway.openapi.operation import Described
from gateway.scheduling.predictions import Predictions

PROTOCOL = b"pipeline"  # what a page asks for beside its token, and what is agreed on
BEARER = b"bearer."  # of the protocol that is a token


class SocketDoor:
    """Opens a session for every client that comes to `/ws`. Pages of other origins are refused unless
    they are among `origins`: a browser would lend them its user's network and cookies."""

    def __init__(
        self,
        predictions: Predictions,
        catalog: Catalog,
        limits: SocketLimits,
        access: Access,
        origins: Sequence[str] = (),
        json: JsonReader | None = None,
    ) -> None:
        self._predictions = predictions
        self._catalog = catalog
        self._limits = limits
        self._access = access
        self._json = json or JsonReader()
        self._origins = frozenset(each.encode() for each in origins)
        self._sessions: set[Session] = set()
        self._draining = False

    def routes(self) -> list[BaseRoute]:
        """For the app."""
        return [WebSocketRoute("/ws", self), Described("/ws", self.explain, get=SOCKET)]

    async def explain(self, _request: AsgiRequest) -> Response:
        """What a plain GET is told."""
        message = "There is a WebSocket here: ask for it with Upgrade: websocket"
        return json_response(failure(message), 426, {"upgrade": "websocket", "connection": "upgrade"})

    def drain(self) -> None:
        """Every session ends when it has answered what is in flight; there are no new ones."""
        self._draining = True
        for session in self._sessions:
            session.drain()

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        origin, host = headers.get(b"origin"), headers.get(b"host", b"")
        name = self._access.name(headers.get(HEADER))
        await receive()  # websocket.connect
        named = b"x-request-id: %b\r\n" % name
        if is_foreign(origin, host, self._origins):
            shown = host.decode("latin-1")
            await _refuse(send, 403, refusal(origin, f"open a WebSocket to {shown}"), named)
        elif self._draining:
            await _refuse(send, 503, "Server is shutting down", named + RETRY_AFTER)
        else:
            try:
                client, protocol = await self._admit(scope, headers)
            except PipelineError as error:
                await _refuse(send, error.status, str(error), named + lines_of(error, error.status))
                return
            session = Session(
                self._predictions, self._catalog, self._limits, self._access, name, headers, receive, send,
                json=self._json, client=client, protocol=protocol,
            )  # fmt: skip
            self._sessions.add(session)
            try:
                await session.run()
            finally:
                self._sessions.discard(session)

    async def _admit(
        self, scope: dict[str, Any], headers: dict[bytes, bytes]
    ) -> tuple[Client | None, str | None]:
        """(who asks, which protocol is agreed on). A page of a browser can give no header but the protocols
        it speaks, so the token may be one of these: the other is what is agreed on."""
        offered = [each.strip() for each in headers.get(b"sec-websocket-protocol", b"").split(b",")]
        protocol = PROTOCOL.decode() if PROTOCOL in offered else None
        shown = next((each for each in offered if each.startswith(BEARER)), None)
        if shown is not None and b"authorization" not in headers:
            bearer = (b"authorization", b"Bearer " + shown.removeprefix(BEARER))
            scope["headers"] = [*scope["headers"], bearer]
        await admit(scope, Role.PREDICT)
        return client_of(scope), protocol


async def _refuse(send: Send, status: int, message: str, lines: bytes = b"") -> None:
    body = encode(failure(message))
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    headers += pairs_of(lines)
    await send({"type": "websocket.http.response.start", "status": status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": body})
