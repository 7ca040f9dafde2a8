"""What every protocol's side of a connection is to the loop that moves its bytes. Pure."""

from __future__ import annotations

from typing import NamedTuple, Protocol


class Answer(NamedTuple):
    """What became of the request of this number. `error` is its kind, empty where it was answered; the rest
    is what the server said of it, where it said so, and the answer itself as it came."""

    number: int
    error: str = ""
    worker: bytes = b""
    cache: bytes = b""
    timing: bytes = b""
    body: bytes = b""


class Broken(Exception):
    """Raised when a server says what the protocol does not allow; the connection is over."""


class Codec(Protocol):
    """Invariant: no more requests are in flight than `capacity` says, which is 0 before the greeting."""

    @property
    def capacity(self) -> int:
        """Requests that may be in flight now."""

    @property
    def is_over(self) -> bool:
        """Whether the server takes no more requests on this connection."""

    def hello(self) -> bytes:
        """What a client says first."""

    def request(self, number: int, payload: bytes) -> bytes:
        """One request, as bytes to be sent."""

    def feed(self, data: bytes) -> list[Answer]:
        """The answers that these bytes complete; `Broken`."""

    def replies(self) -> bytes:
        """What the protocol itself has to say now, beside requests."""
