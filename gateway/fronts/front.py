"""The lane of a front: sockets, time limits and drain, as `http1.lane` has them, in one plain loop.

Nothing here waits but for the loop's epoll, and for room on the channel: a gateway that does not keep up
stops its fronts from reading, and these their clients.
"""

from __future__ import annotations

import logging
import select
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from itertools import chain
from typing import Any

import msgspec

from common.channel import Channel, Frame
from common.crowd import Crowd
from common.sockets import accept_waiting
from gateway.doors.paths import is_direct
from gateway.doors.shape import error_body
from gateway.fronts import rows
from gateway.fronts.messages import SPENT, Answered, Kind
from gateway.fronts.reader import FrontReader, OurHeads
from gateway.http1.connection import Connection
from gateway.http1.exchange import Exchange, Handler, Observer
from gateway.http1.heads import KnownHeads
from gateway.http1.limits import HttpLimits
from gateway.http1.request import Refused
from gateway.http1.responses import ResponseHeads

log = logging.getLogger("pipeline.http")

_BATCH = 256
"""Connections served before what they asked is sent."""
_INBOX = 256 * 1024
_LINGERING = 256
"""Connections above `max_connections` that are still told 503; above these they are closed without a word."""
_LINGERING_OF_ONE = 16
"""The same of one address."""


class Front:
    """Serves the clients of `listeners` until drained, or until the gateway has gone.

    Invariant: `asked` has every request that the gateway was sent and has not answered, by its id.
    """

    def __init__(
        self,
        channel: Channel,
        listeners: list[socket.socket],
        limits: HttpLimits,
        is_ours: Callable[[str, str], bool] = is_direct,
    ) -> None:
        self.ours = OurHeads(is_ours)
        self.known_heads: KnownHeads = self.ours
        self.limits = limits
        self.heads = ResponseHeads(time.time())
        self.inbox = memoryview(bytearray(_INBOX))
        self.connections: dict[int, Connection] = {}
        self.draining = False
        self.now = time.monotonic()
        self.error_body: Callable[[int, str, str], bytes] = error_body
        self.observer: Observer | None = None  # that is the gateway's
        self.limited: Counter[str] = Counter()  # since the gateway was told
        self.asked: dict[int, Exchange] = {}
        self._channel = channel
        self._crowd = Crowd(limits.max_connections_per_address)
        self._listeners = {sock.fileno(): sock for sock in listeners}
        self._accepting = False
        self._epoll = select.epoll()
        self._end = float("inf")
        self._last = 0  # the id of the last request
        self._requests: list[tuple[Any, ...]] = []
        self._gone: list[int] = []
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(list[Answered]).decode
        self._decode_rows = msgspec.msgpack.Decoder(list[rows.Rows]).decode

    def run(self) -> None:
        """Serve. `OSError` where the gateway went away."""
        self._epoll.register(self._channel, select.EPOLLIN)
        self._watch_listeners(True)
        pause = self.limits.sweep_time
        due = self.now + pause
        while not (self.draining and not self.connections) and self.now < self._end:
            ready = self._epoll.poll(max(0.0, min(due, self._end) - self.now), _BATCH)
            self.now = time.monotonic()
            self._serve(ready)
            if self.now >= due:
                due = self.now + pause
                self._sweep()
            self._tell()
        self._tell()

    # What connections ask for.

    def handler_of(self, exchange: Exchange) -> Handler:
        """The gateway: what it would not answer directly is never read to its end here."""
        return self._ask

    def start_app(self, connection: Connection, exchange: Exchange) -> None:
        """There is none."""
        raise NotImplementedError

    def hand_over(self, connection: Connection, exchange: Exchange | None, rest: bytes) -> None:
        """Give the gateway the client's connection, with what was read of it and not served."""
        with connection.sock as sock:
            self._channel.send(Kind.HANDED, rest, [sock.fileno()])

    def rearm(self, connection: Connection) -> None:
        """Watch the connection for its (new) mask."""
        self._epoll.modify(connection.fd, connection.mask)

    def forget(self, connection: Connection) -> None:
        """The connection's socket is about to close or to change hands."""
        if self.connections.pop(connection.fd, None) is not None:
            self._epoll.unregister(connection.fd)
            self._crowd.leave(connection.peer[0])

    def _ask(self, exchange: Exchange) -> None:
        id = self._last = self._last + 1
        self.asked[id] = exchange
        exchange.on_gone = partial(self._leave, id)
        headers = [header for header in exchange.headers if header[0] not in SPENT]
        path, query, body = exchange.path, exchange.query, exchange.body
        row = rows.pack(path, query, body)
        self._requests.append((id, exchange.method, path, query, headers, body, row, exchange.address))
        exchange.body = b""

    def _leave(self, id: int) -> None:
        del self.asked[id]
        self._gone.append(id)

    # What the loop does.

    def _serve(self, ready: list[tuple[int, int]]) -> None:
        waiting = []
        channel = self._channel.fileno()
        for fd, events in ready:
            connection = self.connections.get(fd)
            if connection is None:
                waiting.append(fd)  # served last: see `Lane`
                continue
            try:
                connection.on_events(events)
            except Exception:
                log.exception("serving a connection failed")
                connection.kill()
        for fd in waiting:
            if fd == channel:
                self._listen()
            elif fd in self._listeners:
                self._accept(self._listeners[fd])

    def _listen(self) -> None:
        frames, is_open = self._channel.receive_ready()
        for frame in frames:
            self._hear(frame)
        if not is_open:
            raise BrokenPipeError("the gateway has gone")

    def _hear(self, frame: Frame) -> None:
        if frame.kind == Kind.DRAIN:
            self._drain(msgspec.msgpack.decode(frame.body, type=float))
            return
        answers: Iterable[Answered | rows.Rendered]
        if frame.kind == Kind.ROWS:
            answers = chain.from_iterable(map(rows.render, self._decode_rows(frame.body)))
        else:
            answers = self._decode(frame.body)
        for answer in answers:
            exchange = self.asked.pop(answer.id, None)
            if exchange is not None:
                exchange.respond(answer.status, answer.body, answer.extra)

    def _tell(self) -> None:
        """Send what this turn brought."""
        if self._requests:
            requests, self._requests = self._requests, []
            self._channel.send(Kind.REQUESTS, self._encode(requests))
        if self._gone:
            gone, self._gone = self._gone, []
            self._channel.send(Kind.GONE, self._encode(gone))
        if self.limited:
            self._channel.send(Kind.LIMITED, self._encode(dict(self.limited)))
            self.limited.clear()

    def _sweep(self) -> None:
        self.heads.set_time(time.time())
        for connection in tuple(self.connections.values()):
            connection.sweep(self.now)
        self._watch_listeners(not self.draining)

    def _drain(self, grace: float) -> None:
        """As `Lane.drain`."""
        self._end = min(self._end, self.now + grace)
        self.draining = True
        self._watch_listeners(False)
        while self._listeners:
            self._listeners.popitem()[1].close()
        for connection in tuple(self.connections.values()):
            connection.shutdown_if_idle()

    def _accept(self, listener: socket.socket) -> None:
        accepted, room = accept_waiting(listener)
        if not room:
            self._watch_listeners(False)  # the sweep tries again
        for sock, peer in accepted:
            count = len(self.connections)
            above = self._crowd.enter(peer[0])
            if count >= self.limits.max_connections + _LINGERING or above > _LINGERING_OF_ONE:
                self._crowd.leave(peer[0])
                self.limited["connections_per_address" if above else "connections"] += 1
                sock.close()
                continue
            connection = _Connection(sock, peer, self)
            self.connections[connection.fd] = connection
            self._epoll.register(connection.fd, connection.mask)
            if count >= self.limits.max_connections:
                connection.refuse(Refused(503, "The server has as many connections as it may."))
            elif above:
                sentence = f"This address has {self._crowd.most} connections, as many as it may."
                connection.refuse(Refused(503, sentence, limit="connections_per_address"))

    def _watch_listeners(self, accepting: bool) -> None:
        if accepting == self._accepting:
            return
        self._accepting = accepting
        for fd in self._listeners:
            if accepting:
                self._epoll.register(fd, select.EPOLLIN)
            else:
                self._epoll.unregister(fd)


class _Connection(Connection):
    """One that reads until a request is not ours."""

    __slots__ = ()

    def __init__(self, sock: socket.socket, peer: Any, lane: Front) -> None:
        super().__init__(sock, peer, lane)
        self.reader = FrontReader(lane.limits, Exchange, lane.ours)
