"""Where doors ask who somebody is and whether that one may: the file of tokens, and proofs in a thread.

Who was proven before passes without waiting. Who was not is proven one at a time, as each proof takes 50 ms
of a core and 16 MiB; an address from which secrets are guessed has to wait before any of that.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import trio

from common.errors import Forbidden, PipelineError, RateLimited, TokenError, Unauthenticated
from common.log import event
from common.tokens import is_secret_of, read_tokens
from gateway.auth.clients import Client
from gateway.auth.guesses import Guesses
from gateway.auth.keyring import UNKNOWN, Keyring, read_bearer
from gateway.auth.roles import Role, holds

log = logging.getLogger("pipeline.tokens")

LOOK_EVERY = 1.0  # at the file
REFUSALS = (Unauthenticated, Forbidden, RateLimited)
PROOFS = 64  # that may wait for their turn


class Proof(NamedTuple):
    """A token that has to be proven to be the client's."""

    token: bytes
    secret: str
    client: Client
    address: str


def check(client: Client, role: Role, wall: float) -> None:
    """`Unauthenticated` or `Forbidden` for a client that may not do what needs `role`; `wall` in seconds
    since the epoch."""
    if client.ends:
        client.check(wall)
    if not holds(client.role, role):
        raise Forbidden(f"a token of role {client.role} may not do that: it takes {role.value}")


class Gate:
    """`refused` counts who was turned away, by the error's wire word."""

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.time) -> None:
        """Raises `TokenError`."""
        self.keyring = Keyring()
        self.refused = {kind.code: 0 for kind in REFUSALS}
        self._path = path
        self._clock = clock
        self._guesses = Guesses()
        self._turn = trio.CapacityLimiter(1)
        self._proofs = 0
        self._nursery: trio.Nursery
        self.own_token = self.keyring.make_own()
        self._seen = self._look()
        self.keyring.load(read_tokens(path))

    # --- what doors ask

    def recall(self, header: bytes | None, role: Role) -> Client | None:
        """Who asks for what needs `role`, by an `Authorization` header; None if that takes a proof. Counts
        the request. `Unauthenticated`, `Forbidden` or `RateLimited` for who may not."""
        try:  # and no context manager: this is on every request's way
            client = self.keyring.recall(read_bearer(header))
            return client if client is None else self._check(client, role)
        except REFUSALS as error:
            self.refused[error.code] += 1
            raise

    def begin(self, header: bytes | None, address: str) -> Proof:
        """What is to be proven; `Unauthenticated` or `RateLimited` at once where that is no use."""
        with self._counting():
            token = read_bearer(header)
            presented, client = self.keyring.find(token)
            self._guesses.guess(address, trio.current_time())
            return Proof(token, presented.secret, client, address)

    async def prove(self, proof: Proof, role: Role) -> Client:
        """Who asks, proven; raises as `recall`."""
        with self._counting():
            await self._prove(proof)
            self._guesses.right(proof.address)
            return self._check(proof.client, role)

    def prove_soon(self, proof: Proof, role: Role, then: Callable[[Client | PipelineError], None]) -> None:
        """The same for who cannot wait; `then` is told what came of it, once, while the gate runs."""
        self._nursery.start_soon(self._prove_then, proof, role, then)

    async def admit(self, header: bytes | None, role: Role, address: str) -> Client:
        """Who asks; as `recall`, with whatever proof it takes."""
        client = self.recall(header, role)
        return client if client is not None else await self.prove(self.begin(header, address), role)

    # --- the file

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Follow the file, until cancelled."""
        async with trio.open_nursery() as self._nursery:
            task_status.started()
            while True:
                await trio.sleep(LOOK_EVERY)
                if self._look() != self._seen:
                    self.reload()

    def reload(self) -> None:
        """Go by what the file says now; as before, if that makes no sense."""
        self._seen = self._look()
        try:
            self.keyring.load(read_tokens(self._path))
        except TokenError as error:
            event(log, logging.ERROR, "tokens stay as they are", because=error)
        else:
            event(log, logging.INFO, "tokens read again", count=len(self.keyring))

    def _look(self) -> tuple[int, int, int] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_ino, found.st_size

    # --- inside

    def _check(self, client: Client, role: Role) -> Client:
        check(client, role, self._clock())
        if client.is_limited:
            client.ask(trio.current_time())
        return client

    async def _prove(self, proof: Proof) -> None:
        if self._proofs >= PROOFS:
            raise RateLimited("too many tokens are being checked: try again in a moment")
        self._proofs += 1
        try:
            async with self._turn:
                if self.keyring.recall(proof.token) is None:  # nobody has proven it meanwhile
                    stored = proof.client.token
                    if not await trio.to_thread.run_sync(is_secret_of, stored, proof.secret):
                        raise Unauthenticated(UNKNOWN)
                    self.keyring.remember(proof.token, proof.client)
        finally:
            self._proofs -= 1

    async def _prove_then(
        self, proof: Proof, role: Role, then: Callable[[Client | PipelineError], None]
    ) -> None:
        try:
            outcome: Client | PipelineError = await self.prove(proof, role)
        except PipelineError as error:
            outcome = error
        try:
            then(outcome)
        except Exception:
            log.exception("a request failed after its token was proven")

    @contextmanager
    def _counting(self) -> Iterator[None]:
        try:
            yield
        except REFUSALS as error:
            self.refused[error.code] += 1
            raise
