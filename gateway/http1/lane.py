"""The HTTP lane: one epoll over all its sockets, a sweeper for all time limits, and the drain.

One task waits for the lane's own epoll (which trio's epoll watches like any file) and serves whatever is
ready; so a request costs at most one wake-up of one task, no call of epoll_ctl, and connections need no
task each. Only calls of the ASGI app and connections given to Hypercorn have tasks of their own.
"""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Callable
from typing import Any

import trio

from gateway.http1.asgi import App, AppCall
from gateway.http1.connection import Connection
from gateway.http1.exchange import Exchange, Guard, Handler, Observer
from gateway.http1.handover import Handover
from gateway.http1.limits import HttpLimits
from gateway.http1.polled import Client, PolledLane
from gateway.http1.responses import default_error_body

_BATCH = 64
"""Connections that are looked at together."""
_TURN_TIME = 0.0005
"""Seconds after which trio's other tasks get their turn, though more connections are ready."""


class Lane(PolledLane):
    """Serves HTTP/1.1 on plain TCP sockets.

    `find_direct(method, path)` names the direct handler of a request, or None for the ASGI `app`; `guard` is
    asked before a direct handler is, the app looks after itself.
    Invariant: every open client socket is in `connections`, or with Hypercorn.
    """

    def __init__(
        self,
        app: App,
        *,
        find_direct: Callable[[str, str], Handler | None] = lambda method, path: None,
        guard: Guard | None = None,
        limits: HttpLimits | None = None,
        error_body: Callable[[int, str, str], bytes] = default_error_body,
        observer: Observer | None = None,
        limited: Counter[str] | None = None,
    ) -> None:
        limits = limits or HttpLimits()
        limited = Counter() if limited is None else limited
        super().__init__(limits, error_body=error_body, observer=observer, limited=limited, now=0.0)
        self.feeders = 0  # others that may still have a connection for it to `adopt`
        self._find_direct = find_direct
        self._guard = guard
        self._app = app
        self._handover = Handover(app, limits, error_body, limited)
        self._closed = trio.lowlevel.ParkingLot()
        self._drain = trio.Event()
        self._is_over = False
        self._work: trio.Nursery | None = None

    async def run(
        self,
        sockets: list[socket.socket],
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Serve on the listening `sockets` (see `bind`), which are closed at the end, until drained or
        cancelled. Can run once."""
        self.now = trio.current_time()
        self._listeners = {sock.fileno(): sock for sock in sockets}
        try:
            async with trio.open_nursery() as loops:
                loops.start_soon(self._serve_ready)
                loops.start_soon(self._sweep)
                async with trio.open_nursery() as self._work:
                    self._watch_listeners(not self.draining)
                    self._work.start_soon(self._stay_until_drained)
                    task_status.started()
                loops.cancel_scope.cancel()
        finally:
            self._kill()
            self._epoll.close()

    def drain(self, grace: float) -> None:
        """Stop accepting, close what is idle, let requests in progress finish for up to `grace` seconds, then
        cut them; `run` returns when that is done. A second call can only shorten the grace."""
        if self._work is not None:
            scope = self._work.cancel_scope
            scope.deadline = min(scope.deadline, trio.current_time() + grace)
        self._stop_accepting()
        self._drain.set()

    def feeder_left(self) -> None:
        """One of `feeders` has none any more."""
        self.feeders -= 1
        self._closed.unpark_all()

    # What connections ask for.

    def forget(self, connection: Client) -> None:
        """The connection's socket is about to close or to change hands."""
        super().forget(connection)
        self._closed.unpark_all()

    def handler_of(self, exchange: Exchange) -> Handler | None:
        """What handles a request whose head is read; None: the app does. `Refused` for one that may not go
        on. There is no way to a handler around the guard."""
        handler = self._find_direct(exchange.method, exchange.path)
        return handler if handler is None or self._guard is None else self._guard(exchange, handler)

    def start_app(self, connection: Connection, exchange: Exchange) -> None:
        """Call the ASGI app for this request, in a task of its own."""
        assert self._work is not None
        self._work.start_soon(AppCall(connection, exchange).run, self._app)

    def hand_over(self, connection: Connection, exchange: Exchange | None, rest: bytes) -> None:
        """Give the connection to Hypercorn; `rest` was read after the head of `exchange`."""
        assert self._work is not None
        self._work.start_soon(self._serve_handed_over, connection.sock, connection.peer[0], exchange, rest)

    # The loops.

    async def _serve_handed_over(
        self, sock: socket.socket, address: str, upgrade: Exchange | None, rest: bytes
    ) -> None:
        self.crowd.enter(address)
        try:
            await self._handover.serve(sock, upgrade, rest)
        finally:
            self.crowd.leave(address)
        self._closed.unpark_all()

    async def _serve_ready(self) -> None:
        while True:
            await trio.lowlevel.wait_readable(self._epoll)
            self.now = trio.current_time()
            # What came meanwhile is served too: a turn of trio's loop costs as much as a request.
            while ready := self._epoll.poll(0, _BATCH):
                self._serve(ready)
                if trio.current_time() - self.now > _TURN_TIME:
                    break

    async def _sweep(self) -> None:
        pause = self.limits.sweep_time
        while True:
            await trio.sleep(pause)
            self.now = trio.current_time()
            self._sweep_all()

    async def _stay_until_drained(self) -> None:
        try:
            await self._drain.wait()
            await self._handover.shutdown()
            while self.connections or self._handover.open or self.feeders:
                await self._closed.park()
        finally:
            # Cancelled, or past the grace: Hypercorn's shielded writes end only when their socket does.
            self._kill()

    def adopt(self, sock: socket.socket, peer: Any, read: bytes = b"") -> None:
        """Serve a connected socket that does not block; `peer` is the address of its client, and `read` what
        another process has read of it, which is served in a drain, too."""
        if self._is_over or (self.draining and not read):
            sock.close()
            return
        self.now = trio.current_time()
        connection = self._take(sock, peer)
        if read and connection is not None and not connection.closing:
            connection.take(read)

    def _connect(self, sock: socket.socket, peer: Any) -> Connection:
        return Connection(sock, peer, self)

    def _kill(self) -> None:
        self.draining = self._is_over = True
        self._close_listeners()
        for connection in tuple(self.connections.values()):
            connection.kill()
        self._handover.kill()
