"""How an ASGI route asks who its client is. What is known of it is in the scope for whoever needs it."""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from typing import Any

import trio
from starlette.types import Message, Receive

from common.errors import Forbidden, NotFound, Unauthenticated
from common.log import event
from gateway.auth.clients import Client
from gateway.auth.gate import Gate, check
from gateway.auth.origins import is_foreign, refusal
from gateway.auth.roles import Role

log = logging.getLogger("pipeline.tokens")

LOOK_EVERY = 0.25  # at the tokens of those who are being told something all the time
CLIENT, PUBLIC = "pipeline.client", "pipeline.public"
ELSEWHERE = "this gateway is administered at another address: see --addr_admin"


def client_of(scope: Any) -> Client | None:
    """Who asks, where tokens say so."""
    client: Client | None = scope.get(CLIENT)
    return client


async def until_refused(client: Client | None, role: Role) -> None:
    """Return once a client may do no more what needs `role`, as its token was revoked, has expired or was
    given another role: what goes on without asking again ends then."""
    if client is None:
        await trio.sleep_forever()
    else:
        with suppress(Unauthenticated, Forbidden):
            while True:
                check(client, role, time.time())
                await trio.sleep(LOOK_EVERY)


def while_allowed(client: Client, role: Role, receive: Receive) -> Receive:
    """The body of a request of a client's, which comes for as long as it may send what needs `role`: then
    `Unauthenticated` or `Forbidden`."""

    async def received() -> Message:
        message = await receive()
        if message["type"] == "http.request":
            check(client, role, time.time())
        return message

    return received


def public(app: Any) -> Any:
    """The app for an address at which nothing is administered."""

    async def served(scope: Any, receive: Any, send: Any) -> None:
        await app({**scope, PUBLIC: True}, receive, send)

    return served


async def admit(scope: Any, role: Role) -> None:
    """Let a request through to what needs `role`; `PipelineError` if it may not be. `NotFound` for what is
    served at another address alone."""
    if role is Role.OPEN:
        return
    if role is Role.ADMIN and scope.get(PUBLIC):
        raise NotFound(ELSEWHERE)
    headers, state = dict(scope["headers"]), scope["app"].state
    if role is Role.ADMIN:
        # A page needs no leave to send a request without a body, which is all that some of these take.
        origin = headers.get(b"origin")
        is_own = (
            headers.get(b"sec-fetch-site") == b"same-origin"
        )  # so says the browser, whatever a proxy does
        if not is_own and is_foreign(origin, headers.get(b"host", b""), getattr(state, "origins", ())):
            raise Forbidden(refusal(origin, "change anything here: see --cors_origins"))
    gate: Gate | None = getattr(state, "gate", None)
    if gate is not None:
        header = headers.get(b"authorization")
        client = await gate.admit(header, role, (scope.get("client") or ("",))[0])
        scope[CLIENT] = client
        if role is Role.ADMIN:
            event(
                log, logging.INFO, "administration",
                client=client.id, holder=client.token.name, method=scope["method"], path=scope["path"],
            )  # fmt: skip
