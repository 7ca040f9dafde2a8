"""Serves gRPC on listening sockets: who owns each connection, the sweeper of time limits, and the drain."""

from __future__ import annotations

import logging
import socket
from collections import Counter
from typing import Any

import trio

from common.accepting import accept_all
from common.crowd import Crowd
from common.grpc.connection import Connection, Guard, Methods, Observer
from common.grpc.limits import GrpcLimits

log = logging.getLogger("pipeline.grpc")

SWEEP_TIME = 0.25


class GrpcServer:
    """Serves `methods`, by their paths. Invariant: every open connection is in `connections`."""

    def __init__(
        self,
        methods: Methods,
        limits: GrpcLimits | None = None,
        *,
        guard: Guard | None = None,
        limited: Counter[str] | None = None,
        observer: Observer | None = None,
    ) -> None:
        self.connections: set[Connection] = set()
        self.draining = False
        self._methods = methods
        self._guard = guard
        self._observer = observer
        self._limits = limits or GrpcLimits()
        self.limited: Counter[str] = Counter() if limited is None else limited
        self._crowd = Crowd(self._limits.max_connections_per_address)
        self._drain = trio.Event()
        self._accepting = trio.CancelScope()
        self._work: trio.Nursery | None = None

    async def run(
        self, sockets: list[socket.socket], *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Serve on the listening `sockets`, which are closed at the end, until drained or cancelled."""
        listeners = [trio.socket.from_stdlib_socket(each) for each in sockets]
        async with trio.open_nursery() as loops:
            loops.start_soon(self._sweep)
            async with trio.open_nursery() as self._work:
                self._work.start_soon(self._accept_all, listeners)
                task_status.started()
                await self._drain.wait()
            loops.cancel_scope.cancel()

    def drain(self, grace: float) -> None:
        """Stop accepting, let calls in progress finish for up to `grace` seconds, then cut them; `run`
        returns when that is done. A second call can only shorten the grace."""
        if self._work is not None:
            scope = self._work.cancel_scope
            scope.deadline = min(scope.deadline, trio.current_time() + grace)
        self.draining = True
        self._accepting.cancel()
        for connection in self.connections:
            connection.drain()
        self._drain.set()

    async def serve(self, stream: trio.abc.HalfCloseableStream, peer: str = "") -> None:
        """Serve one connection of a client at `peer`."""
        connection = Connection(
            stream, self._methods, self._limits,
            guard=self._guard, peer=peer, limited=self.limited, observer=self._observer,
        )  # fmt: skip
        self.connections.add(connection)
        try:
            if self.draining:
                connection.drain()
            await connection.run()
        except Exception:  # a fault in serving one client is not the next client's
            log.exception("serving a connection failed")
        finally:
            self.connections.discard(connection)

    async def _accept_all(self, listeners: list[trio.socket.SocketType]) -> None:
        with self._accepting:
            await accept_all(listeners, lambda client, address: self._take(client, address[0]), log)

    def adopt(self, sock: socket.socket, peer: Any) -> None:
        """Serve a connected socket that does not block; `peer` is the address of its client."""
        self._take(trio.socket.from_stdlib_socket(sock), peer[0])

    def _take(self, client: trio.socket.SocketType, address: str) -> None:
        if self._work is None or self.draining:
            client.close()
            return
        above = self._crowd.enter(address)
        if above or len(self.connections) >= self._limits.max_connections:
            self.limited["connections_per_address" if above else "connections"] += 1
            self._crowd.leave(address)
            client.close()
            return
        self._work.start_soon(self._serve_one, client, address)

    async def _serve_one(self, client: trio.socket.SocketType, address: str) -> None:
        try:
            await self.serve(trio.SocketStream(client), address)
        finally:
            self._crowd.leave(address)

    async def _sweep(self) -> None:
        while True:
            await trio.sleep(SWEEP_TIME)
            now = trio.current_time()
            for connection in list(self.connections):
                connection.sweep(now)
