"""The channels of all fronts: one epoll and one task to read them, one more to answer.

A busy gateway finds what several fronts have sent at one wake-up, and answers them at another, so that what
a wake-up costs is shared by many requests.
"""

from __future__ import annotations

import logging
import select

import trio

from gateway.fronts.desk import Desk

log = logging.getLogger("pipeline.fronts")


class Hub:
    """Invariant: `_desks` has every desk that has joined and whose front has not ended."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._desks: dict[int, Desk] = {}
        self._unsaid: list[Desk] = []
        self._news = trio.lowlevel.ParkingLot()

    def join(self, desk: Desk) -> None:
        """Listen to a front from now on."""
        desk.on_news = self._tell
        self._desks[desk.fileno()] = desk
        self._epoll.register(desk, select.EPOLLIN)

    def leave(self, desk: Desk) -> None:
        """Listen to it no more; its requests are abandoned."""
        if self._desks.pop(desk.fileno(), None) is not None:
            if not self._epoll.closed:
                self._epoll.unregister(desk)
            desk.end()

    async def run(self) -> None:
        """Until cancelled; all desks have left by then."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._read)
                nursery.start_soon(self._write)
        finally:
            self._epoll.close()

    def _tell(self, desk: Desk) -> None:
        self._unsaid.append(desk)
        self._news.unpark()

    async def _read(self) -> None:
        while True:
            await trio.lowlevel.wait_readable(self._epoll)
            for fd, events in self._epoll.poll(0):
                desk = self._desks.get(fd)
                if desk is None:
                    continue
                if events & select.EPOLLOUT:
                    self._flush(desk)
                if events & ~select.EPOLLOUT and not self._listen(desk):
                    self.leave(desk)

    def _listen(self, desk: Desk) -> bool:
        try:
            return desk.listen()
        except Exception:
            log.exception("a front says what nobody understands")
            return False

    async def _write(self) -> None:
        """The answers of each turn of trio's loop. A front that reads nothing has at most one of them waiting
        for each of its clients."""
        while True:
            if not self._unsaid:
                await self._news.park()
            unsaid, self._unsaid = self._unsaid, []
            for desk in unsaid:
                self._flush(desk)

    def _flush(self, desk: Desk) -> None:
        """Write what there is; where there is no room, as soon as there is."""
        is_full = not desk.flush()
        if is_full != desk.is_full and desk.fileno() in self._desks:
            self._epoll.modify(desk, select.EPOLLIN | select.EPOLLOUT * is_full)
            desk.is_full = is_full
