"""The tokens that are in force, and the clients that hold them. Pure: time is told.

A check by scrypt takes 50 ms. So a token that passed it is remembered by a keyed digest, whose key nobody
has and no file keeps; what comes later costs a microsecond, and its time tells nobody how near a guess was.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence

from common.errors import Unauthenticated
from common.tokens import Presented, Token, make_own_token, parse_token
from gateway.auth.clients import Client

SCHEME = b"bearer "
UNKNOWN = "this token is not known here"
MISSING = "a token is needed: send it as Authorization: Bearer pl_…"


class Keyring:
    """Invariant: `_proven` has one digest at most of each token in force, those of `make_own` among them, and
    none of any other."""

    def __init__(self) -> None:
        self._empty = hashlib.blake2b(key=os.urandom(32), digest_size=32)
        self._clients: dict[str, Client] = {}
        self._proven: dict[bytes, Client] = {}

    def make_own(self) -> str:
        """A token that may do all, for this process's own requests to itself; no file has it."""
        token, shown = make_own_token()
        self.remember(shown.encode(), Client(token))
        return shown

    def __len__(self) -> int:
        return len(self._clients)

    def load(self, tokens: Sequence[Token]) -> None:
        """These are in force from now on, and no others. Who had one and has it still goes on as before."""
        before, self._clients = self._clients, {}
        for token in tokens:
            client = before.pop(token.id, None)
            if client is not None and client.token.hash != token.hash:
                client.revoke()  # another secret: whoever has the old one is not this one
                client = None
            if client is None:
                client = Client(token)
            elif client.token != token:
                client.renew(token)
            self._clients[token.id] = client
        for client in before.values():
            client.revoke()
        self._proven = {digest: each for digest, each in self._proven.items() if not each.revoked}

    def recall(self, token: bytes) -> Client | None:
        """Who holds a token that was proven before."""
        return self._proven.get(self._digest(token))

    def find(self, token: bytes) -> tuple[Presented, Client]:
        """(what is to be proven, whose it would be); `Unauthenticated` for what no proof could save."""
        presented = parse_token(token.decode("latin-1"))
        client = None if presented is None else self._clients.get(presented.id)
        if presented is None or client is None:
            raise Unauthenticated(UNKNOWN)
        return presented, client

    def remember(self, token: bytes, client: Client) -> None:
        """It was proven."""
        if not client.revoked:
            self._proven[self._digest(token)] = client

    def _digest(self, token: bytes) -> bytes:
        digest = self._empty.copy()
        digest.update(token)
        return digest.digest()


def read_bearer(header: bytes | None) -> bytes:
    """The token of an `Authorization` header; `Unauthenticated` if there is none."""
    if header is None or header[: len(SCHEME)].lower() != SCHEME:
        raise Unauthenticated(MISSING)
    return header[len(SCHEME) :].strip(b" ")
