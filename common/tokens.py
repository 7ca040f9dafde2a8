"""Tokens by which clients prove who they are, and the file that holds them: never a secret, only what
scrypt makes of it. Who may do what with one, the gateway says.

    pl_<id>_<secret>      an id of 12 hex digits, by which it is found; a secret of 48, by which it is known
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import os
import re
import secrets
import tempfile
from base64 import b64decode, b64encode
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from common.errors import TokenError

RoleName = Literal["predict", "read", "admin"]
ROLES: tuple[RoleName, ...] = ("predict", "read", "admin")

_TOKEN = re.compile(r"pl_([0-9a-f]{12})_([0-9a-f]{48})", re.ASCII)
_ID = re.compile(r"[0-9a-f]{12}", re.ASCII)
# 16 MiB and about 50 ms of one core: RFC 7914 §2, and what OWASP asks at least.
_COST, _BLOCK, _LANES = 1 << 14, 8, 1
_MEMORY = 64 << 20
_MAX_FILE = 16 << 20
_WRITABLE_BY_OTHERS = 0o022


class Presented(NamedTuple):
    """What somebody shows."""

    id: str
    secret: str


class Token(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One entry of the file. Times in seconds since the epoch; a limit of None is none.

    `hash` is `scrypt$cost$block$lanes$salt$digest`, the last two in base64.
    """

    id: str
    role: RoleName
    hash: str
    created: float
    name: str = ""
    expires: float | None = None
    requests_per_second: float | None = None
    rows_per_second: float | None = None
    concurrency: int | None = None


def make_token(role: RoleName, now: float, **more: object) -> tuple[Token, str]:
    """A new entry, and the token itself, which nobody can find out any more afterwards."""
    shown = Presented(secrets.token_hex(6), secrets.token_hex(24))
    salt = os.urandom(16)
    digest = _scrypt(shown.secret, salt, _COST, _BLOCK, _LANES)
    stored = f"scrypt${_COST}${_BLOCK}${_LANES}${b64encode(salt).decode()}${b64encode(digest).decode()}"
    fields = {"id": shown.id, "role": role, "hash": stored, "created": now, **more}
    return msgspec.convert(fields, Token), f"pl_{shown.id}_{shown.secret}"


def make_own_token() -> tuple[Token, str]:
    """The same for who keeps it in no file, and so needs no hash."""
    shown = Presented(secrets.token_hex(6), secrets.token_hex(24))
    return Token(id=shown.id, role="admin", hash="", created=0.0), f"pl_{shown.id}_{shown.secret}"


def parse_token(text: str) -> Presented | None:
    """What a token consists of; None if that is none."""
    match = _TOKEN.fullmatch(text)
    return None if match is None else Presented(match[1], match[2])


def is_secret_of(token: Token, secret: str) -> bool:
    """Whether this is the token's secret; takes 50 ms, and as long for one that is not."""
    cost, block, lanes, salt, digest = _parts(token.hash)
    return hmac.compare_digest(_scrypt(secret, salt, cost, block, lanes), digest)


def read_tokens(path: Path) -> list[Token]:
    """The entries of a file; `TokenError`, with a sentence, if that is none or others may write it."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            raw = file.read(_MAX_FILE + 1)
    except OSError as error:
        raise TokenError(f"the tokens in {path} cannot be read: {error.strerror}") from None
    if mode & _WRITABLE_BY_OTHERS:
        raise TokenError(f"others may write {path}, and so make tokens of their own: chmod go-w {path}")
    if len(raw) > _MAX_FILE:
        raise TokenError(f"{path} has more than {_MAX_FILE} bytes: that is no file of tokens")
    try:
        tokens = msgspec.json.decode(raw, type=_File).tokens
        for token in tokens:
            _check(token)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise TokenError(f"{path} is no file of tokens: {error}. pipeline token create makes one") from None
    if len({token.id for token in tokens}) < len(tokens):
        raise TokenError(f"{path} has two tokens of one id")
    return tokens


@contextmanager
def changing(path: Path) -> Iterator[None]:
    """While nobody else changes files of tokens in that folder; `TokenError` if there is none."""
    try:
        folder = os.open(path.parent, os.O_RDONLY)
    except OSError as error:
        raise TokenError(f"the tokens in {path} cannot be written: {error.strerror}") from None
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def write_tokens(path: Path, tokens: Sequence[Token]) -> None:
    """Have the file hold these, at once or not at all, for its owner's eyes; `TokenError`."""
    try:
        file, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # which only we may read
        try:
            with open(file, "wb") as out:
                out.write(msgspec.json.format(msgspec.json.encode(_File(list(tokens))), indent=2) + b"\n")
                out.flush()
                os.fsync(out.fileno())
            os.replace(name, path)
        except BaseException:
            os.unlink(name)
            raise
    except OSError as error:
        raise TokenError(f"the tokens in {path} cannot be written: {error.strerror}") from None


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    tokens: list[Token]


def _check(token: Token) -> None:
    if not _ID.fullmatch(token.id):
        raise ValueError(f"an id is 12 hex digits, not {token.id[:40]!r}")
    cost, block, lanes, salt, digest = _parts(token.hash)
    if not (1 < cost <= 1 << 16 and not cost & (cost - 1) and 0 < block <= 8 and 0 < lanes <= 4):
        raise ValueError(f"the hash of {token.id} takes more time or memory than one may")
    if len(salt) < 16 or len(digest) != 32:
        raise ValueError(f"the hash of {token.id} is too short")
    limits = (token.requests_per_second, token.rows_per_second, token.concurrency)
    if any(limit is not None and not limit > 0 for limit in limits):
        raise ValueError(f"the limits of {token.id} have to be above 0")


def _parts(stored: str) -> tuple[int, int, int, bytes, bytes]:
    kind, *parts = stored.split("$")
    if kind != "scrypt" or len(parts) != 5:
        raise ValueError("a hash is scrypt$cost$block$lanes$salt$digest")
    cost, block, lanes = map(int, parts[:3])
    return cost, block, lanes, b64decode(parts[3], validate=True), b64decode(parts[4], validate=True)


def _scrypt(secret: str, salt: bytes, cost: int, block: int, lanes: int) -> bytes:
    # maxmem is what OpenSSL may take, which is a little more than 128 * cost * block.
    return hashlib.scrypt(secret.encode(), salt=salt, n=cost, r=block, p=lanes, maxmem=2 * _MEMORY, dklen=32)
