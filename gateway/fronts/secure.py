"""A front whose clients speak TLS, which ends here; what the gateway serves itself is relayed to it.

The loop is that of a plain front, which asks epoll alone whether there is something to read. So nothing may
be left in OpenSSL: it reads one record at a time and none ahead, and there is always room for a whole one.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from select import EPOLLIN, EPOLLOUT
from typing import Any

import msgspec

from common.channel import Channel, Frame
from common.credentials import HTTP, Identity, server_context
from gateway.doors.paths import is_direct
from gateway.fronts.front import Front, FrontConnection
from gateway.fronts.messages import Kind
from gateway.fronts.relay import Inner, Relay
from gateway.http1.connection import Connection
from gateway.http1.exchange import Exchange
from gateway.http1.limits import HttpLimits
from gateway.http1.polled import Client
from gateway.http1.request import Refused
from gateway.http1.transport import Buffer

_RECORD = 16 * 1024


class SecureFront(Front):
    """Invariant: `_inner` has the gateway's side of each client that is relayed."""

    def __init__(
        self,
        channel: Channel,
        listeners: list[socket.socket],
        limits: HttpLimits,
        is_ours: Callable[[str, str], bool] = is_direct,
    ) -> None:
        super().__init__(channel, listeners, limits, is_ours)
        self._context: ssl.SSLContext | None = None
        self._inner: dict[int, Inner] = {}

    def run(self) -> None:
        """As `Front.run`; nobody is accepted before there is a certificate to show."""
        while self._context is None:
            frame = self._channel.receive()
            if frame is None:
                raise BrokenPipeError("the gateway has gone")
            self._hear(frame)
        super().run()

    def _hear(self, frame: Frame) -> None:
        if frame.kind != Kind.CERTIFICATE:
            super()._hear(frame)
            return
        self._context = server_context(msgspec.msgpack.decode(frame.body, type=Identity), HTTP)
        self._context.sslsocket_class = _TlsSocket

    def _take(self, sock: socket.socket, peer: Any) -> Connection | None:
        assert self._context is not None
        secure = self._context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
        return super()._take(secure, peer)

    def _connect(self, sock: socket.socket, peer: Any) -> Connection:
        return _Connection(sock, peer, self)

    # What the gateway serves.

    def hand_over(self, connection: Connection, exchange: Exchange | None, rest: bytes) -> None:
        """Give the gateway a plain connection in the client's place, and what was read but not served."""
        try:
            ours, theirs = socket.socketpair()
        except OSError:
            connection.sock.close()  # there is no room for one
            return
        for end in (ours, theirs):
            end.setblocking(False)
        relay = Relay(connection.sock, connection.peer, self, ours)
        self.connections[relay.fd], self._inner[relay.inner.fd] = relay, relay.inner
        for side in (relay, relay.inner):
            self._epoll.register(side.fd, side.mask)
        self._hand(theirs, relay.peer, rest)

    def forget(self, connection: Client) -> None:
        """As the lane's; who is relayed counts as the gateway's."""
        if isinstance(connection, Relay | Inner):
            self.connections.pop(connection.fd, None)
            self._inner.pop(connection.fd, None)
            self._epoll.unregister(connection.fd)
        else:
            super().forget(connection)

    def _serve_other(self, fd: int, events: int) -> None:
        inner = self._inner.get(fd)
        if inner is None:
            super()._serve_other(fd, events)
        else:
            inner.on_events(events)


class _Connection(FrontConnection):
    """One that shakes hands first, within the time that a head may take."""

    __slots__ = ("is_shaking", "refusal")

    sock: _TlsSocket

    def __init__(self, sock: socket.socket, peer: Any, lane: SecureFront) -> None:
        super().__init__(sock, peer, lane)
        self.is_shaking = True
        self.refusal: Refused | None = None

    def on_events(self, events: int) -> None:
        """As `Connection.on_events`."""
        if not self.is_shaking:
            super().on_events(events)
            return
        try:
            self.sock.do_handshake()
        except ssl.SSLWantReadError:
            self._watch(EPOLLIN)
        except ssl.SSLWantWriteError:
            self._watch(EPOLLOUT)
        except OSError:
            self.kill()
        else:
            self._begin()

    def refuse(self, refusal: Refused) -> None:
        """As `Connection.refuse`; who shakes hands is told so afterwards."""
        if self.is_shaking:
            self.refusal = refusal
        else:
            super().refuse(refusal)

    def _begin(self) -> None:
        self.is_shaking = False
        self.head_since = self.lane.now
        if self.refusal is not None:
            self.refuse(self.refusal)
        elif self.sock.selected_alpn_protocol() == "h2":
            self._hand_over(None)
        self.rearm()

    def _watch(self, mask: int) -> None:
        if mask != self.mask:
            self.mask = mask
            self.lane.rearm(self)


class _TlsSocket(ssl.SSLSocket):
    """One that does not block, and says so as sockets of TCP do; it tells the client when it closes."""

    def getpeername(self) -> None:
        """Only `ssl` asks, and would leave a socket open whose client has gone; to shake hands tells, too."""

    def send(self, data: Buffer, flags: int = 0) -> int:  # type: ignore[override]
        """How much of it was taken; what was refused has to come again as it was."""
        left, sent = memoryview(data), 0
        try:
            while sent < len(left):
                sent += super().send(left[sent : sent + _RECORD])
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            if not sent:
                raise BlockingIOError from None
        return sent

    def recv_into(self, buffer: Any, nbytes: int | None = None, flags: int = 0) -> int:
        """As a socket's of TCP."""
        try:
            return super().recv_into(buffer, nbytes, flags)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise BlockingIOError from None

    def shutdown(self, how: int) -> None:
        """The same, after saying so in TLS."""
        with suppress(OSError, ValueError):
            self.unwrap()
        super().shutdown(how)

    def close(self) -> None:
        """The same."""
        with suppress(OSError, ValueError):
            self.unwrap()
        super().close()
