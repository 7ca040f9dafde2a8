"""What a front and its gateway say to each other, in frames of `common.channel`. Pure."""

from __future__ import annotations

import enum
from typing import Any

import msgspec

from gateway.http1.limits import HttpLimits


class Kind(enum.IntEnum):
    """What a frame is about. The first five come from a front, the others from the gateway."""

    REQUESTS = 1  # those that came in one turn of its loop: tuples of `Carried`'s fields
    GONE = 2  # ids of requests whose clients have left
    LIMITED = 3  # how often a limit was met, by the limits' names
    HANDED = 4  # a client's connection, and the fields of `Handed`
    ALIVE = 5  # that it is, now and then
    ANSWERS = 6  # tuples of `Answered`'s fields
    ROWS = 7  # tuples of the fields of `rows.Rows`: answers that the front renders
    DRAIN = 8  # take nothing new, and end within so many seconds
    CERTIFICATE = 9  # the fields of `credentials.Identity`, for whoever comes next


class Answered(msgspec.Struct, array_like=True, frozen=True):
    """A whole answer, as `Exchange.respond` is given it."""

    id: int
    status: int
    extra: bytes
    body: bytes


class Handed(msgspec.Struct, array_like=True, frozen=True):
    """Whose connection it is, and what was read of it and not served."""

    peer: tuple[Any, ...]
    read: bytes


class Options(msgspec.Struct, frozen=True):
    """What a front is told as it starts; `limits` are the fields of `HttpLimits` that are numbers, and `row`
    is its own in the table of connections."""

    limits: dict[str, Any]
    row: int
    is_secure: bool
    log_level: str
    log_format: str


# Headers that are the connection's, or already understood: nobody behind the parser asks for them.
SPENT = frozenset(
    (b"host", b"content-length", b"connection", b"keep-alive", b"transfer-encoding", b"expect", b"te")
)


def plain(limits: HttpLimits) -> dict[str, Any]:
    """The limits as a front is told them."""
    return {name: getattr(limits, name) for name in limits.__dataclass_fields__ if name != "max_body_of"}
