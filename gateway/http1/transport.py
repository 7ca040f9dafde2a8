"""The socket under a connection: writing without blocking, and the ways to close; no HTTP here."""

from __future__ import annotations

import socket
from collections import deque
from select import EPOLLIN, EPOLLOUT
from typing import Any, Protocol

from gateway.http1.limits import HttpLimits

_RECEIVE = 64 * 1024

Buffer = bytes | bytearray | memoryview


class TransportLane(Protocol):
    """What a transport needs of its lane."""

    now: float
    limits: HttpLimits

    def rearm(self, transport: Any) -> None: ...
    def forget(self, transport: Any) -> None: ...


class Transport:
    """Invariant: bytes leave in the order written; `out` holds what the kernel has not taken, and nothing
    is sent past it. `mask` is what epoll watches; `over` means that the socket is no longer ours;
    `closing`: linger once `out` is empty. A subclass says what it waits for and what it does when told.
    """

    __slots__ = (
        "again",
        "closing",
        "eof",
        "fd",
        "lane",
        "lingering",
        "mask",
        "out",
        "over",
        "sock",
        "touched",
        "wrote_at",
    )

    def __init__(self, sock: socket.socket, lane: TransportLane) -> None:
        self.sock = sock
        self.lane = lane
        self.fd = sock.fileno()
        self.out: deque[Buffer] = deque()
        self.mask = EPOLLIN
        self.touched = self.wrote_at = lane.now
        self.again = self.closing = self.lingering = self.over = self.eof = False

    # What a subclass adds.

    def _wants_input(self) -> int:
        """The mask while nothing is to be written."""
        raise NotImplementedError

    def _abandoned(self) -> None:
        """The socket is closed."""
        raise NotImplementedError

    def _drained(self) -> None:
        """`out` became empty, and the connection stays."""
        raise NotImplementedError

    # Writing.

    def write(self, data: Buffer) -> None:
        """Hand bytes to the kernel, or keep what it does not take for `_flush`."""
        if self.over:
            return
        if self.out:
            self.out.append(data)
            return
        try:
            sent = self.sock.send(data)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError:
            self.kill()
            return
        if sent < len(data):
            self.wrote_at = self.lane.now
            self.out.append(memoryview(data)[sent:])
            self.rearm()

    def _flush(self) -> None:
        while self.out:
            data = self.out[0]
            try:
                sent = self.sock.send(data)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                self.kill()
                return
            self.wrote_at = self.lane.now
            if sent < len(data):
                self.out[0] = memoryview(data)[sent:]
                return
            self.out.popleft()
        if self.closing:
            self._linger()
        else:
            self._drained()

    # Closing.

    def kill(self) -> None:
        """Close at once; whoever works on an answer is told."""
        if self.over:
            return
        self.over = True
        self.lane.forget(self)
        self.sock.close()
        self.out.clear()
        self._abandoned()

    def _linger(self) -> None:
        """Send FIN, then read and drop for a while: closing with unread input would reset the connection
        and take the answer from the client's hands (RFC 9112 §9.6)."""
        if self.over:
            return
        self.lingering = True
        self.touched = self.lane.now
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self.kill()
            return
        if self.eof:
            self.kill()
        else:
            self.rearm()

    def _discard(self) -> None:
        try:
            while self.sock.recv(_RECEIVE):
                return
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            pass
        self.kill()

    # Watching.

    def rearm(self) -> None:
        """Watch for what can be used now, and nothing else."""
        if self.over:
            return
        if self.lingering:
            mask = EPOLLIN
        elif self.out or self.again:
            mask = EPOLLOUT
        else:
            mask = 0 if self.eof else self._wants_input()
        if mask != self.mask:
            self.mask = mask
            self.lane.rearm(self)
