"""What is the same of every lane, whatever its loop is: one epoll over its listeners and its connections, who
may come in, and who has to go. Synchronous; a lane says when, and how it waits.
"""

from __future__ import annotations

import logging
import select
import socket
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, Protocol

from common.crowd import Crowd
from common.sockets import accept_waiting
from gateway.http1.connection import Connection
from gateway.http1.exchange import Observer
from gateway.http1.heads import KnownHeads
from gateway.http1.limits import HttpLimits
from gateway.http1.request import Refused
from gateway.http1.responses import ResponseHeads

log = logging.getLogger("pipeline.http")

_INBOX = 256 * 1024
_LINGERING = 256
"""Connections above `max_connections` that are still told 503; above these they are closed without a word."""
_LINGERING_OF_ONE = 16
"""The same of one address."""


class Counts(Protocol):
    """`Crowd`, or one that other processes share."""

    most: int

    @property
    def count(self) -> int: ...

    def enter(self, address: str) -> int: ...

    def leave(self, address: str) -> None: ...


class Client(Protocol):
    """A connected client, of which a lane polls the socket `fd` for the events of `mask`."""

    fd: int
    mask: int
    peer: Any

    def on_events(self, events: int) -> None: ...
    def sweep(self, now: float) -> None: ...
    def shutdown_if_idle(self) -> None: ...
    def kill(self) -> None: ...


class PolledLane:
    """Invariant: `connections` has every client that is served here, and the epoll watches each. `crowd`, has
    those that were handed over to others, too; it may be replaced before anybody is served."""

    def __init__(
        self,
        limits: HttpLimits,
        *,
        error_body: Callable[[int, str, str], bytes],
        observer: Observer | None,
        limited: Counter[str],
        now: float,
    ) -> None:
        self.limits = limits
        self.error_body = error_body
        self.observer = observer
        self.limited = limited
        self.now = now
        self.heads = ResponseHeads(time.time())
        self.known_heads = KnownHeads()
        self.inbox = memoryview(bytearray(_INBOX))  # where each connection's next bytes go, for a moment
        self.connections: dict[int, Client] = {}
        self.draining = False
        self.crowd: Counts = Crowd(limits.max_connections_per_address)
        self._listeners: dict[int, socket.socket] = {}
        self._accepting = False
        self._epoll = select.epoll()

    # What a lane adds.

    def _connect(self, sock: socket.socket, peer: Any) -> Connection:
        """A connection of its kind."""
        raise NotImplementedError

    # What connections ask for.

    def rearm(self, connection: Client) -> None:
        """Watch the connection for its (new) mask."""
        self._epoll.modify(connection.fd, connection.mask)

    def forget(self, connection: Client) -> None:
        """The connection's socket is about to close or to change hands."""
        if self.connections.pop(connection.fd, None) is not None:
            self._epoll.unregister(connection.fd)
            self.crowd.leave(connection.peer[0])

    # What a lane's loop does.

    def _serve(self, ready: list[tuple[int, int]]) -> None:
        """Connections and listeners by what they are ready for, as epoll says it."""
        waiting = []
        for fd, events in ready:
            connection = self.connections.get(fd)
            if connection is None:
                # A listener, served last: a socket accepted now may get the number of one closed in this
                # batch, whose event would then be taken for its own.
                waiting.append((fd, events))
                continue
            try:
                connection.on_events(events)
            except Exception:
                log.exception("serving a connection failed")
                connection.kill()
        for fd, events in waiting:
            self._serve_other(fd, events)

    def _serve_other(self, fd: int, events: int) -> None:
        if fd in self._listeners:
            accepted, room = accept_waiting(self._listeners[fd])
            if not room:
                self._watch_listeners(False)  # the sweep tries again
            for sock, peer in accepted:
                self._take(sock, peer)

    def _take(self, sock: socket.socket, peer: Any) -> Connection | None:
        """Serve a connected socket that does not block, if only to say that there is no room for it; None
        where there is none for that either."""
        count = self.crowd.count
        above = self.crowd.enter(peer[0])
        if count >= self.limits.max_connections + _LINGERING or above > _LINGERING_OF_ONE:
            self.crowd.leave(peer[0])
            self.limited["connections_per_address" if above else "connections"] += 1
            sock.close()
            return None
        connection = self._connect(sock, peer)
        self.connections[connection.fd] = connection
        self._epoll.register(connection.fd, connection.mask)
        if count >= self.limits.max_connections:
            connection.refuse(Refused(503, "The server has as many connections as it may."))
        elif above:
            sentence = f"This address has {self.crowd.most} connections, as many as it may."
            connection.refuse(Refused(503, sentence, limit="connections_per_address"))
        return connection

    def _sweep_all(self) -> None:
        self.heads.set_time(time.time())
        for connection in tuple(self.connections.values()):
            connection.sweep(self.now)
        self._watch_listeners(not self.draining)

    def _watch_listeners(self, accepting: bool) -> None:
        if accepting == self._accepting:
            return
        self._accepting = accepting
        for fd in self._listeners:
            if accepting:
                self._epoll.register(fd, select.EPOLLIN)
            else:
                self._epoll.unregister(fd)

    def _stop_accepting(self) -> None:
        """For good; connections that wait for a request are closed."""
        self.draining = True
        self._close_listeners()
        for connection in tuple(self.connections.values()):
            connection.shutdown_if_idle()

    def _close_listeners(self) -> None:
        if not self._epoll.closed:
            self._watch_listeners(False)
        while self._listeners:
            self._listeners.popitem()[1].close()
