"""A TLS connection that the gateway serves: its bytes, decrypted, carried over a socket pair and back.

    client ══ Relay ── Inner ── (the gateway)

What one side reads the other writes, and it reads no more while that has not taken all: whoever is slow is so
for the gateway, too, whose time limits hold. Only who takes nothing of what it said last is cut here.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from select import EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT
from typing import Any, Protocol

from gateway.http1.transport import Transport, TransportLane

_GONE = EPOLLERR | EPOLLHUP


class RelayLane(TransportLane, Protocol):
    """What a relay needs of its lane."""

    inbox: memoryview


class _Side(Transport):
    """One of the two. Unlike other transports it reads while it has something to write."""

    __slots__ = ("other",)

    lane: RelayLane
    other: _Side

    def rearm(self) -> None:
        if self.over:
            return
        if self.lingering:
            mask = EPOLLIN
        else:
            mask = EPOLLOUT if self.out else 0
            if not (self.eof or self.closing or self.other.out):
                mask |= EPOLLIN
        if mask != self.mask:
            self.mask = mask
            self.lane.rearm(self)

    def _drained(self) -> None:
        self.other.rearm()

    def _carry(self) -> int | None:
        """Have the other side write what there is to read, and how much that was: 0 at the end, None where
        there may be more later."""
        inbox = self.lane.inbox
        try:
            size = self.sock.recv_into(inbox)
        except (BlockingIOError, InterruptedError):
            return None
        except OSError:
            return 0
        if size:
            self.touched = self.lane.now
            self.other.write(bytes(inbox[:size]))
        return size


class Relay(_Side):
    """The client's side."""

    __slots__ = ("inner", "peer")

    def __init__(self, sock: socket.socket, peer: Any, lane: RelayLane, plain: socket.socket) -> None:
        super().__init__(sock, lane)
        self.peer = peer
        self.inner = self.other = Inner(plain, lane, self)

    def on_events(self, events: int) -> None:
        """As `Connection.on_events`."""
        if self.lingering:
            self._discard()
            return
        if events & _GONE:
            self.kill()
            return
        if events & EPOLLOUT:
            self._flush()
        if events & EPOLLIN and not (self.over or self.closing) and self._carry() == 0:
            self.eof = True
            self.inner.end_input()
        self.rearm()

    def sweep(self, now: float) -> None:
        """Enforce the time limits that are left once the gateway has closed."""
        limits = self.lane.limits
        if self.lingering:
            if now - self.touched > limits.linger_time:
                self.kill()
        elif self.closing and now - self.wrote_at > limits.write_time:
            self.kill()

    def shutdown_if_idle(self) -> None:
        """When that is, the gateway knows."""

    def finish(self) -> None:
        """Close once the client has all that the gateway has said."""
        self.closing = True
        if not self.out:
            self._linger()

    def _abandoned(self) -> None:
        self.inner.kill()


class Inner(_Side):
    """The gateway's side. It is not closed before the gateway has, or the client's side is."""

    __slots__ = ()

    other: Relay

    def __init__(self, sock: socket.socket, lane: RelayLane, relay: Relay) -> None:
        super().__init__(sock, lane)
        self.other = relay

    def on_events(self, events: int) -> None:
        """As `Connection.on_events`."""
        if events & EPOLLOUT:
            self._flush()
        if events & (EPOLLIN | _GONE):
            size = self._carry()
            while size and events & _GONE:  # which epoll tells of again and again, so it is heard to its end
                size = self._carry()
            if size == 0:
                self.kill()
        self.rearm()

    def end_input(self) -> None:
        """The client says nothing more; it may still be answered."""
        if not self.out:
            with suppress(OSError):
                self.sock.shutdown(socket.SHUT_WR)

    def kill(self) -> None:
        """Close; what the gateway has said before it closed still goes to the client."""
        if not (self.over or self.other.over):
            while self._carry():
                pass
            self.other.finish()
        super().kill()

    def _drained(self) -> None:
        super()._drained()
        if self.other.eof:
            self.end_input()

    def _abandoned(self) -> None:
        """The client's side knows."""
