"""The lane of a front: sockets, time limits and drain, as `http1.lane` has them, in one plain loop.

Nothing here waits but for the loop's epoll, and for room on the channel: a gateway that does not keep up
stops its fronts from reading, and these their clients.
"""

from __future__ import annotations

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
from gateway.doors.paths import is_direct
from gateway.doors.shape import error_body
from gateway.fronts import rows
from gateway.fronts.messages import SPENT, Answered, Kind
from gateway.fronts.reader import FrontReader, OurHeads
from gateway.http1.connection import Connection
from gateway.http1.exchange import Exchange, Handler
from gateway.http1.limits import HttpLimits
from gateway.http1.polled import PolledLane

_BATCH = 256
"""Connections served before what they asked is sent."""


class Front(PolledLane):
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
        # Who observes is the gateway, and `limited` is what it has not been told yet.
        super().__init__(
            limits, error_body=error_body, observer=None, limited=Counter(), now=time.monotonic()
        )
        self.known_heads = self.ours = OurHeads(is_ours)
        self.asked: dict[int, Exchange] = {}
        self._channel = channel
        self._listeners = {sock.fileno(): sock for sock in listeners}
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
        self._channel.send(Kind.ALIVE)
        pause = self.limits.sweep_time
        due = self.now + pause
        while not (self.draining and not self.connections) and self.now < self._end:
            ready = self._epoll.poll(max(0.0, min(due, self._end) - self.now), _BATCH)
            self.now = time.monotonic()
            self._serve(ready)
            if self.now >= due:
                due = self.now + pause
                self._sweep_all()
                self._channel.send(Kind.ALIVE)
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
        self._hand(connection.sock, connection.peer, rest)

    def _hand(self, sock: socket.socket, peer: Any, rest: bytes) -> None:
        with sock:
            self._channel.send(Kind.HANDED, self._encode((peer, rest)), [sock.fileno()])

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

    def _serve_other(self, fd: int, events: int) -> None:
        if fd == self._channel.fileno():
            self._listen()
        else:
            super()._serve_other(fd, events)

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

    def _drain(self, grace: float) -> None:
        """As `Lane.drain`."""
        self._end = min(self._end, self.now + grace)
        self._stop_accepting()

    def _connect(self, sock: socket.socket, peer: Any) -> Connection:
        return FrontConnection(sock, peer, self)


class FrontConnection(Connection):
    """One that reads until a request is not ours."""

    __slots__ = ()

    def __init__(self, sock: socket.socket, peer: Any, lane: Front) -> None:
        super().__init__(sock, peer, lane)
        self.reader = FrontReader(lane.limits, Exchange, lane.ours)
