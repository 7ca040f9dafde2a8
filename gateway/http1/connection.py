"""One client's connection: reads, starts requests in order, writes answers, closes politely.

Synchronous: the lane calls `on_events` when the socket is ready and `sweep` now and then; answers may be
written between two such calls, from any task. Who handles a request, and what an app is, is the lane's.
"""

from __future__ import annotations

import logging
import socket
from collections import Counter
from collections.abc import Callable, Sequence
from select import EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT, EPOLLRDHUP
from typing import Any, Protocol

from gateway.http1.exchange import Exchange, Handler, Observer
from gateway.http1.heads import KnownHeads
from gateway.http1.reader import RequestReader
from gateway.http1.request import Refused
from gateway.http1.responses import CONTINUE, ResponseHeads, may_have_body
from gateway.http1.transport import Buffer, Transport, TransportLane

log = logging.getLogger("pipeline.http")

_RECEIVE = 64 * 1024
_JOIN = 64 * 1024
"""Up to this size head and body are copied into one write."""
_TURN = 16
"""Pipelined requests started before other connections and tasks get their turn."""
_GONE = EPOLLERR | EPOLLHUP | EPOLLRDHUP


class LaneView(TransportLane, Protocol):
    """What a connection needs of its lane."""

    heads: ResponseHeads
    known_heads: KnownHeads
    inbox: memoryview
    draining: bool
    error_body: Callable[[int, str, str], bytes]
    observer: Observer | None
    limited: Counter[str]

    def handler_of(self, exchange: Exchange) -> Handler | None: ...
    def start_app(self, connection: Connection, exchange: Exchange) -> None: ...
    def hand_over(self, connection: Connection, exchange: Exchange | None, rest: bytes) -> None: ...


class Connection(Transport):
    """Invariant: at most one request, `current`, is being served; later ones wait parsed in
    `reader.requests` or unparsed in `backlog`; the next starts once the answer before it lies in the kernel.

    `again` asks for a turn though no byte may come (by watching for EPOLLOUT, which is there at once).
    """

    __slots__ = (
        "backlog", "body_mark", "body_since", "current", "head_since", "in_turn", "local", "peer", "reader",
    )  # fmt: skip

    lane: LaneView

    def __init__(self, sock: socket.socket, peer: Any, lane: LaneView) -> None:
        super().__init__(sock, lane)
        self.peer = peer
        self.local: Any = None
        self.reader = RequestReader(lane.limits, Exchange, lane.known_heads)
        self.current: Exchange | None = None
        self.backlog = bytearray()
        self.head_since: float | None = lane.now
        self.in_turn = False
        self.body_since, self.body_mark = lane.now, 0  # so much of the body was there then

    # Called by the lane.

    def on_events(self, events: int) -> None:
        """The socket is ready for `events` (epoll's bits)."""
        if self.lingering:
            self._discard()
            return
        if events & EPOLLOUT:
            self.again = False
            self._flush()
            if self.over or self.lingering:
                return
        if events & EPOLLIN:
            self._receive()
        elif events & _GONE:
            self._left(events)
        if not (self.over or self.lingering):
            self._advance()
            self.rearm()

    def take(self, read: bytes) -> None:
        """Bytes of this connection that were read before it was made."""
        self.reader.feed(read)
        self._advance()
        self.rearm()

    def local_address(self) -> Any:
        """Host and port that the client reached us on."""
        if self.local is None:
            self.local = self.sock.getsockname()[:2]
        return self.local

    def sweep(self, now: float) -> None:
        """Enforce the time limits."""
        limits = self.lane.limits
        current = self.current
        if self.lingering:
            if now - self.touched > limits.linger_time:
                self.kill()
        elif self.out:
            if now - self.wrote_at > limits.write_time:
                self.lane.limited["write_time"] += 1
                self.kill()
        elif current is not None:
            if not current.complete and self._is_slow(current, now):
                self.refuse(Refused(408, "The body did not arrive in time.", current.path))
        elif self.head_since is not None:
            if now - self.head_since > limits.head_time:
                if self.reader.in_head:
                    self.refuse(Refused(408, "The request's head did not arrive in time."))
                else:
                    self.kill()
        elif not self.again and now - self.touched > limits.idle_time:
            self.kill()

    def _is_slow(self, current: Exchange, now: float) -> bool:
        """Whether the body pauses for too long, or trickles in."""
        limits, waited = self.lane.limits, now - self.body_since
        if self.mask & EPOLLIN:
            if now - self.touched > limits.body_time:
                return True
            if waited < limits.body_time:
                return False
            if current.received - self.body_mark < limits.min_body_rate * waited:
                return True
        # A paused socket (mask without EPOLLIN) waits for us, not for the client.
        self.body_since, self.body_mark = now, current.received
        return False

    def shutdown_if_idle(self) -> None:
        """Close now unless something is being read, served or written."""
        if self.current is None and not (self.out or self.reader.in_head or self.again):
            self.kill()

    # Reading.

    def _receive(self) -> None:
        inbox = self.lane.inbox
        try:
            size = self.sock.recv_into(inbox, 0 if self.current is None else self._room())
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.kill()
            return
        if not size:
            self._left(EPOLLRDHUP)
            return
        data = inbox[:size]
        self.touched = self.lane.now
        current = self.current
        if current is not None and current.complete:
            self.backlog += data
            return
        self.reader.feed(data)
        if current is not None and current.on_news is not None:
            current.on_news()

    def _room(self) -> int:
        """How much to read at once while a request is served, within what the app may leave unread."""
        current = self.current
        assert current is not None
        if current.complete:
            return _RECEIVE
        return max(_RECEIVE, min(len(self.lane.inbox), self.lane.limits.max_unread - len(current.body)))

    def _left(self, events: int) -> None:
        """The client closed its sending side, or is gone for good.

        Both look alike until something is written. As nginx and Go do, a request whose handler wants to know
        (`on_gone`) counts as abandoned; any other may still be answered to a client that half-closed.
        """
        current = self.current
        if events & (EPOLLERR | EPOLLHUP):
            self.kill()
        elif current is None:
            self.eof = True
            if not self.reader.requests:
                self.kill()
        elif not current.complete or current.on_gone is not None:
            self.kill()
        else:
            self.eof = True
            if current.on_news is not None:
                current.on_news()

    # Serving in order.

    def _advance(self) -> None:
        self.in_turn = True
        for _ in range(_TURN):
            if self.out or self.over or self.lingering:
                break
            if self.current is None and not self._begin_next():
                break
            if self._waits():
                break
        else:
            self.again = True
        self.in_turn = False

    def _begin_next(self) -> bool:
        """Make the next request current; False when there is none."""
        reader = self.reader
        if not reader.requests:
            if self.backlog:
                data, self.backlog = bytes(self.backlog), bytearray()
                reader.feed(data)
            if not reader.requests:
                self._settle()
                return False
        exchange = reader.requests.popleft()
        assert type(exchange) is Exchange
        self.current = exchange
        self.head_since = None
        exchange.began = self.body_since = self.lane.now
        self.body_mark = 0
        if exchange.websocket:
            self._hand_over(exchange)
            return False
        exchange.connection = self
        try:
            exchange.handler = handler = self.lane.handler_of(exchange)
        except Refused as refusal:
            self.refuse(refusal)
            return False
        if handler is None:
            self.lane.start_app(self, exchange)
        elif exchange.expects and not exchange.complete:
            self.write(CONTINUE)
        return True

    def _waits(self) -> bool:
        """Do what can be done for the current request; True when it waits for something."""
        current = self.current
        if current is None:
            return False
        if current.discard and current.complete:
            self.current = None
            return False
        if not current.complete:
            if self.reader.refusal is not None:
                self.refuse(self.reader.refusal)
            return True
        if current.handler is None or current.started:
            return True
        current.started = True
        try:
            current.handler(current)
        except Exception:
            log.exception("the handler of %s %s failed", current.method, current.path)
            if not current.answered:
                message = "The server failed on this request."
                current.respond(500, self.lane.error_body(500, message, current.path))
        return self.current is current

    def _settle(self) -> None:
        """Everything read so far is answered."""
        reader = self.reader
        if reader.refusal is not None:
            self.refuse(reader.refusal)
        elif reader.preface:
            self._hand_over(None)
        elif self.eof or (self.lane.draining and not reader.in_head):
            self.kill()
        elif reader.in_head and self.head_since is None:
            self.head_since = self.lane.now

    def _hand_over(self, exchange: Exchange | None) -> None:
        self.over = True
        self.lane.forget(self)
        self.lane.hand_over(self, exchange, self.reader.rest + bytes(self.backlog))

    # Answering.

    def answer(
        self, exchange: Exchange, status: int, body: bytes, extra: bytes, rest: Sequence[Buffer]
    ) -> None:
        """Write a direct handler's whole answer (see `Exchange.respond`)."""
        size = len(body)
        if rest:
            size += sum(map(len, rest))
            if size <= _JOIN:
                body, rest = b"".join((body, *rest)), ()
        lane = self.lane
        if lane.observer is not None:
            extra += lane.observer.answering(exchange, status, size)
        keep = exchange.keep_alive and not lane.draining
        plain = status == 200 and not exchange.http10 and exchange.method != "HEAD"
        if keep and plain and size <= _JOIN and not extra.startswith(b"content-type:"):
            self.write(lane.heads.json(status, body, extra))
            self.finish(True)
            return
        head = lane.heads.direct(status, size, extra, keep=keep, http10=exchange.http10)
        if exchange.method == "HEAD" or not may_have_body(status):
            self.write(head)
        elif size <= _JOIN:
            self.write(head + body)
        else:
            for piece in (head, body, *rest):
                self.write(piece)
        self.finish(keep)

    def finish(self, keep: bool) -> None:
        """The current request's answer is written (or queued) to its end."""
        current = self.current
        if self.over or current is None:
            return
        self.touched = self.lane.now
        self.closing = not keep or self.lane.draining  # which may have begun since the head was written
        current.on_news = None
        if current.complete:
            self.current = None
        else:
            # A little more is read and dropped to keep the connection; the reader refuses the rest.
            current.discard, current.body = True, b""
            current.max_body = min(current.max_body, current.received + self.lane.limits.max_discarded)
        if self.out:
            return
        if self.closing:
            self._linger()
        elif not self.in_turn:
            # Another task answered: what comes next starts in the lane's own turn, never inside respond().
            reader = self.reader
            self.again = bool(reader.requests or self.backlog or reader.ended or self.eof or current.discard)
            if self.again or self.mask != EPOLLIN:  # else it is watched as it should be
                self.rearm()

    def refuse(self, refusal: Refused) -> None:
        """Answer with an error, unless an answer has begun, and close."""
        current, self.current = self.current, None
        if limit := self.lane.limits.name_of(refusal.status, in_body=current is not None):
            self.lane.limited[refusal.limit or limit] += 1
        if current is not None:
            if current.discard:
                self._linger()
                return
            current.vanish()
            if current.answered:
                self.kill()
                return
        body = self.lane.error_body(refusal.status, refusal.message, refusal.path)
        extra = b"retry-after: 1\r\n" if refusal.status == 503 else refusal.extra
        head = self.lane.heads.direct(refusal.status, len(body), extra, keep=False, http10=False)
        self.closing = True
        self.write(head + body)
        if not self.out:
            self._linger()

    # What the transport asks.

    def _wants_input(self) -> int:
        current = self.current
        if current is None:
            return EPOLLIN
        limits = self.lane.limits
        if current.complete:
            return EPOLLIN if len(self.backlog) < limits.max_pipelined else EPOLLRDHUP
        if current.handler is None and len(current.body) >= limits.max_unread:
            return 0
        return EPOLLIN

    def _drained(self) -> None:
        if self.current is not None and self.current.on_news is not None:
            self.current.on_news()

    def _abandoned(self) -> None:
        current, self.current = self.current, None
        if current is not None:
            current.vanish()
