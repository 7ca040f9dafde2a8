"""`/ws`: who may open a WebSocket, and which are open. What is said on one is the session's."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request as AsgiRequest
from starlette.responses import Response
from starlette.routing import BaseRoute, WebSocketRoute

from gateway.catalog import Catalog
from gateway.doors.answers import json_response
from gateway.doors.live_api import SOCKET
from gateway.doors.shape import encode, failure
from gateway.doors.ws_session import Receive, Send, Session, SocketLimits
from gateway.openapi.operation import Described
from gateway.predictions import Predictions


class SocketDoor:
    """Opens a session for every client that comes to `/ws`. Pages of other origins are refused: a browser
    would lend them its user's network and cookies."""

    def __init__(self, predictions: Predictions, catalog: Catalog, limits: SocketLimits) -> None:
        self._predictions = predictions
        self._catalog = catalog
        self._limits = limits
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
        await receive()  # websocket.connect
        if origin is not None and not _is_same(origin, host):
            shown = origin[:100].decode("latin-1")
            await _refuse(
                send, 403, f"A page of {shown} may not open a WebSocket to {host.decode('latin-1')}"
            )
        elif self._draining:
            await _refuse(send, 503, "Server is shutting down")
        else:
            session = Session(self._predictions, self._catalog, self._limits, headers, receive, send)
            self._sessions.add(session)
            try:
                await session.run()
            finally:
                self._sessions.discard(session)


def _is_same(origin: bytes, host: bytes) -> bool:
    """Whether a page is of this server. Its scheme is not compared: a proxy may have taken the TLS off."""
    scheme, _, place = origin.lower().partition(b"://")
    default = {b"http": b":80", b"https": b":443"}.get(scheme, b"")
    return bool(place) and place.removesuffix(default) == host.lower().removesuffix(default)


async def _refuse(send: Send, status: int, message: str) -> None:
    body = encode(failure(message))
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    if status == 503:
        headers.append((b"retry-after", b"1"))
    await send({"type": "websocket.http.response.start", "status": status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": body})
