"""One connection's socket, which never waits, and the requests in flight on it."""

from __future__ import annotations

import os
import select
import socket
from typing import NamedTuple

from bench.executor.codecs.codec import Answer, Codec

_READ = 1 << 18


class Request(NamedTuple):
    """One request of the schedule, and when it was due and taken up."""

    due: float
    taken: float
    model: str
    input: str


class Connection:
    """Invariant: `in_flight` has every request that was sent here and not answered, with when that was."""

    def __init__(self, host: str, port: int, codec: Codec) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.codec = codec
        self.is_open = False
        self.is_free = False
        """Whether the loop has it among those that take requests."""
        self.in_flight: dict[int, tuple[Request, float]] = {}
        self.wanted = select.EPOLLIN | select.EPOLLOUT
        """What it waits for, of epoll's events."""
        self._unsent = bytearray()
        self._number = 0
        self.given_up: set[int] = set()
        """Requests whose answers took too long, and may still come."""
        try:
            self.socket.connect((host, port))
        except BlockingIOError:
            pass
        except OSError:
            self.socket.close()
            raise

    def fileno(self) -> int:
        """The socket's."""
        return self.socket.fileno()

    @property
    def has_room(self) -> bool:
        """Whether it takes one more request now."""
        return self.is_open and not self.codec.is_over and len(self.in_flight) < self.codec.capacity

    @property
    def wants_to_write(self) -> bool:
        """Whether bytes wait that the socket did not take, or it is not connected yet."""
        return bool(self._unsent) or not self.is_open

    def connected(self) -> None:
        """It can be written to for the first time: say hello; `OSError` where it was refused."""
        error = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            raise OSError(error, os.strerror(error))
        self.is_open = True
        self.write(self.codec.hello())

    def send(self, request: Request, payload: bytes, now: float) -> None:
        """Put a request on its way; `OSError`."""
        self._number += 1
        self.in_flight[self._number] = (request, now)
        self.write(self.codec.request(self._number, payload))

    def write(self, data: bytes) -> None:
        """Send what the socket takes, and keep the rest; `OSError`."""
        if self._unsent:
            self._unsent += data
            data = bytes(self._unsent)
            self._unsent.clear()
        if not data:
            return
        try:
            sent = self.socket.send(data)
        except BlockingIOError:
            sent = 0
        if sent < len(data):
            self._unsent += data[sent:]

    def read(self) -> list[Answer]:
        """The answers that came; `OSError` when it ended, `Broken`."""
        data = self.socket.recv(_READ)
        if not data:
            raise OSError("connection closed")
        answers = self.codec.feed(data)
        replies = self.codec.replies()
        if replies:
            self.write(replies)
        return answers
