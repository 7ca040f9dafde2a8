"""The fronts of a gateway, kept at their number: started, listened to, started again, drained.

Each front has listening sockets of its own on the one address (SO_REUSEPORT has the kernel deal clients out
to them). They are the gateway's: while a front is being replaced, its clients wait in the kernel's queue.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Sequence
from pathlib import Path

import msgspec
import trio

from common import children
from common.channel import Channel, pair
from common.log import event, set_up
from gateway.fronts.desk import Desk
from gateway.fronts.hub import Hub
from gateway.fronts.messages import Options, plain
from gateway.fronts.shared_crowd import SharedCrowd, make_table
from gateway.http1.lane import Lane
from gateway.tls import Certificate

log = logging.getLogger("pipeline.fronts")

ROOT = Path(__file__).resolve().parents[2]
BACKOFF_MIN, BACKOFF_MAX = 0.1, 5.0
STEADY = 10.0  # a front that lived so long did not fail at start: its successor comes at once
CLOSE_TIME = 2.0  # for a front whose channel is closed
LOOK_EVERY, LOOKS = 1.0, 5  # a front says twice a second that it is there
LATE = 1.0  # a drained front has so much longer than it was told


class Fronts:
    """A listener like the lane, whose sockets others accept from. What is not for them, `lane` serves."""

    def __init__(
        self,
        lane: Lane,
        shares: Sequence[list[socket.socket]],
        certificate: Certificate | None = None,
        *,
        with_rows: bool,
    ) -> None:
        self._lane = lane
        self._shares = shares
        self._with_rows = with_rows
        # Those of the gateway itself are in row 0, and of front n in row n + 1.
        self._table = make_table(1 + len(shares))
        self._crowd = lane.crowd = SharedCrowd(lane.limits.max_connections_per_address, self._table, 0)
        self._certificate = certificate
        if certificate is not None:
            certificate.on_change = self._show
        self._hub = Hub()
        self._desks: set[Desk] = set()
        self._scope = trio.CancelScope()
        self._drain = trio.Event()

    async def run(
        self,
        sockets: list[socket.socket],
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Keep a front for each share of the sockets, until all have drained or until cancelled. `sockets`
        is empty: nobody accepts here."""
        self._lane.feeders = 1
        try:
            async with trio.open_nursery() as reading:
                reading.start_soon(self._hub.run)
                async with trio.open_nursery() as serving:
                    await serving.start(self._lane.run, sockets)
                    with self._scope:
                        async with trio.open_nursery() as fronts:
                            for number, share in enumerate(self._shares):
                                fronts.start_soon(self._keep, number, share)
                            task_status.started()  # their sockets listen, whether they are there yet or not
                    self._lane.feeder_left()
                reading.cancel_scope.cancel()
        finally:
            self._close_listeners()
            os.close(self._table)

    def drain(self, grace: float) -> None:
        """As `Lane.drain`, for every front and for the lane."""
        self._drain.set()
        self._scope.deadline = min(self._scope.deadline, trio.current_time() + grace + LATE)
        for desk in self._desks:
            desk.drain(grace)
        self._close_listeners()
        self._lane.drain(grace)

    def _show(self) -> None:
        for desk in self._desks:
            self._certify(desk)

    def _certify(self, desk: Desk) -> None:
        if self._certificate is not None:
            desk.show(self._certificate.identity)

    def _close_listeners(self) -> None:
        for share in self._shares:
            for sock in share:
                sock.close()

    async def _keep(self, number: int, share: list[socket.socket]) -> None:
        backoff = 0.0
        while not self._drain.is_set():
            began = trio.current_time()
            try:
                how = await self._run_front(number, share)
            except OSError as error:  # no memory or no process number left: there may be one later
                how = f"could not start: {error}"
            if self._drain.is_set():
                return
            lived = trio.current_time() - began
            backoff = 0.0 if lived > STEADY else min(max(BACKOFF_MIN, 2 * backoff), BACKOFF_MAX)
            event(log, logging.ERROR, "front ended", front=number, how=how, again_in=backoff)
            with trio.move_on_after(backoff):
                await self._drain.wait()

    async def _run_front(self, number: int, share: list[socket.socket]) -> str:
        """Run a front until it ends; how it did. `OSError` where it could not start."""
        ours, theirs = pair()
        channel = Channel(ours)
        try:
            with theirs:
                process = await self._start(number, theirs, share)
        except BaseException:
            channel.close()
            raise
        event(log, logging.INFO, "front started", front=number, pid=process.pid)
        desk = Desk(channel, self._lane, with_rows=self._with_rows)
        try:
            if not self._drain.is_set():  # which may have begun meanwhile
                self._desks.add(desk)
                self._hub.join(desk)
                self._certify(desk)
                if not await _hear_to_its_end(desk):
                    process.kill()
        finally:
            self._desks.discard(desk)
            self._hub.leave(desk)
            channel.close()
            how = await children.finish(process, CLOSE_TIME)
            self._crowd.wipe(number + 1)
        return how

    async def _start(self, number: int, channel: socket.socket, share: list[socket.socket]) -> trio.Process:
        fds = [channel.fileno(), self._table, *(sock.fileno() for sock in share)]
        options = Options(plain(self._lane.limits), number + 1, self._certificate is not None, *set_up())
        arguments = [str(fds[0]), msgspec.json.encode(options).decode(), *map(str, fds[1:])]
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        return await children.start(["-m", "gateway.fronts", *arguments], fds, PYTHONPATH=path)


async def _hear_to_its_end(desk: Desk) -> bool:
    """Whether a front has ended by itself; False once it has been silent for too long, as one that is stopped
    is. Counted are looks, not seconds: a gateway that was held up itself has not listened meanwhile."""
    silent = 0
    while silent < LOOKS:
        heard = desk.heard
        with trio.move_on_after(LOOK_EVERY):
            await desk.ended.wait()
            return True
        silent = silent + 1 if desk.heard == heard > 0 else 0  # until it says something it is starting
    return False
