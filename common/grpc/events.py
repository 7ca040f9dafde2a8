"""What comes of a client's bytes in HTTP/2. Pure."""

from __future__ import annotations

from typing import NamedTuple

from common.grpc.frames import Code


class ProtocolError(Exception):
    """Raised when the client does what HTTP/2 does not allow: the connection is over."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code


class Headers(NamedTuple):
    """A request has begun."""

    stream: int
    headers: dict[bytes, bytes]


class Data(NamedTuple):
    """Bytes of a request; `size` is what they count for flow control."""

    stream: int
    data: bytes
    size: int


class Ended(NamedTuple):
    """The client sends no more on a stream."""

    stream: int


class Reset(NamedTuple):
    """The client has given a stream up."""

    stream: int


class Room(NamedTuple):
    """The client takes bytes again, of one stream or (0) of all."""

    stream: int


Event = Headers | Data | Ended | Reset | Room
