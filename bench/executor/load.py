"""The loop that sends a schedule's requests at their times, whatever came back, and takes the answers.

One thread, one epoll and nothing that waits. It sleeps in `select`, which is exact to some 50 µs, where epoll
itself rounds to a millisecond: as long as many a request.
"""

from __future__ import annotations

import collections
import math
import select
from collections.abc import Callable, Iterator
from typing import NamedTuple

from bench.executor.codecs.codec import Answer, Broken
from bench.executor.connection import Connection, Request
from bench.executor.doors import Door
from bench.executor.records import Records
from bench.schedule import Row

_AT_ONCE = 16  # requests that are sent before answers are looked at again
_SWEEP_TIME = 0.1  # seconds between two looks for requests that take too long
_LONGEST_SLEEP = 0.05
_PAUSE = 0.1  # seconds until a client of a closed loop tries again, where no connection can be opened


class Limits(NamedTuple):
    """How many connections there may be, how long an answer may take, and how many clients of a closed loop
    there are: 0 for an open one."""

    connections: int = 512
    timeout: float = 30.0
    closed: int = 0


class Load:
    """Invariant: a request is in `waiting`, in flight on one connection, or in the records; never in two."""

    def __init__(self, door: Door, limits: Limits, clock: Callable[[], float]) -> None:
        self.records = Records()
        self.waiting: collections.deque[Request] = collections.deque()
        self.connections: dict[int, Connection] = {}
        self.in_flight = 0
        self._door = door
        self._limits = limits
        self._clock = clock  # seconds after the start; before it they are negative
        self._free: list[Connection] = []
        self._opening: set[Connection] = set()  # not greeted yet: nothing can be sent there
        self._epoll = select.epoll()
        self._swept = 0.0
        self._pause_until = -math.inf
        self._is_stopped = False

    def stop(self) -> None:
        """Send nothing more, and wait for nothing."""
        self._is_stopped = True

    def run(self, rows: list[Row], end: float, look: Callable[[], None] = lambda: None) -> None:
        """Send them all and take their answers. `look` is called now and then. A closed loop goes through
        them again and again, until `end`."""
        try:
            source = self._closed(rows, end) if self._limits.closed else self._open(rows)
            for wake in source:
                look()
                if self._is_stopped:
                    break
                self._turn(wake)
            if not self._is_stopped:
                self.records.missed += sum(request.due >= 0 for request in self.waiting)
                self.waiting.clear()
                self._give_up(before=math.inf)
        finally:
            for connection in self.connections.values():
                connection.socket.close()
            self._epoll.close()

    def _open(self, rows: list[Row]) -> Iterator[float]:
        """Take up what is due; when the next one is. Ends with the last answer, or the time for it."""
        for n, row in enumerate(rows):
            now = self._clock()
            while now < row.at:
                yield row.at
                now = self._clock()
            self._take_up(Request(row.at, now, row.model, row.input))
            if n % _AT_ONCE == 0:
                yield now
        last = self._clock() + self._limits.timeout
        while (self.in_flight or self.waiting) and self._clock() < last:
            yield last

    def _closed(self, rows: list[Row], end: float) -> Iterator[float]:
        """As many requests as there are clients, each followed by another."""
        turn = 0
        while (now := self._clock()) < end:
            idle = self._limits.closed - self.in_flight - len(self.waiting)
            for _ in range(idle if now >= self._pause_until else 0):
                row = rows[turn % len(rows)]
                turn += 1
                self._take_up(Request(now, now, row.model, row.input))
            yield end
        last = self._clock() + self._limits.timeout
        while (self.in_flight or self.waiting) and self._clock() < last:
            yield last

    def _take_up(self, request: Request) -> None:
        if self._free:
            self._send(request)
            return
        self.waiting.append(request)
        if len(self.connections) >= self._limits.connections and request.due >= 0:
            self.records.waited += 1
        self._grow()

    def _grow(self) -> None:
        """Open connections for what waits, as far as they are not being opened already."""
        streams, most = self._door.streams, self._limits.connections
        while len(self.waiting) > len(self._opening) * streams and len(self.connections) < most:
            try:
                connection = Connection(self._door.host, self._door.port, self._door.connect())
            except OSError as error:
                self._fail_one(_kind(error))
                continue
            self._opening.add(connection)
            self.connections[connection.fileno()] = connection
            self._epoll.register(connection.fileno(), connection.wanted)

    def _send(self, request: Request) -> None:
        connection = self._free[-1]
        payload = self._door.payloads.get(request.model, request.input)
        now = self._clock()
        self.in_flight += 1
        try:
            connection.send(request, payload, now)
        except OSError as error:
            self._drop(connection, _kind(error))
            return
        self._settle(connection)

    def _turn(self, wake: float) -> None:
        """Sleep until then or until something comes, and see to it."""
        now = self._clock()
        if now - self._swept > _SWEEP_TIME:
            self._swept = now
            self._give_up(before=now - self._limits.timeout)
        pause = min(wake - now, _LONGEST_SLEEP)
        if pause > 0 and not select.select([self._epoll], [], [], pause)[0]:
            return
        for fd, events in self._epoll.poll(0):
            connection = self.connections.get(fd)
            if connection is not None:
                self._serve(connection, events)
        while self.waiting and self._free:
            self._send(self.waiting.popleft())

    def _serve(self, connection: Connection, events: int) -> None:
        try:
            if not connection.is_open:
                connection.connected()
            elif events & select.EPOLLOUT:
                connection.write(b"")
            if events & ~select.EPOLLOUT:
                answers = connection.read()
                now = self._clock()
                for answer in answers:
                    self._answered(connection, answer, now)
        except BlockingIOError:
            pass
        except Broken as error:
            self._drop(connection, str(error))
            return
        except OSError as error:
            self._drop(connection, _kind(error))
            return
        self._settle(connection)

    def _answered(self, connection: Connection, answer: Answer, now: float) -> None:
        found = connection.in_flight.pop(answer.number, None)
        if found is None:
            if answer.number not in connection.given_up:
                raise Broken("an answer to nothing")
            connection.given_up.discard(answer.number)
            return
        request, sent = found
        self.in_flight -= 1
        self.records.add(request, sent, now, answer)

    def _settle(self, connection: Connection) -> None:
        """Say whether it takes requests, and whether it waits to write."""
        if connection.codec.is_over and not connection.in_flight:
            self._drop(connection, "connection closed")
            return
        if connection.has_room != connection.is_free:
            self._opening.discard(connection)
            self._set_free(connection, not connection.is_free)
        wanted = select.EPOLLIN | (select.EPOLLOUT if connection.wants_to_write else 0)
        if wanted != connection.wanted:
            connection.wanted = wanted
            self._epoll.modify(connection.fileno(), wanted)

    def _set_free(self, connection: Connection, is_free: bool) -> None:
        connection.is_free = is_free
        if is_free:
            self._free.append(connection)
        elif self._free[-1] is connection:
            self._free.pop()
        else:
            self._free.remove(connection)

    def _drop(self, connection: Connection, error: str) -> None:
        """It is over, and so is what was in flight on it. One that never took a request takes one along that
        waits, so that a server that is not there is said to be so."""
        now = self._clock()
        for request, sent in connection.in_flight.values():
            self.in_flight -= 1
            self.records.add(request, sent, now, Answer(0, error))
        connection.in_flight.clear()
        if connection.is_free:
            self._set_free(connection, False)
        del self.connections[connection.fileno()]
        connection.socket.close()
        if connection in self._opening:
            self._opening.discard(connection)
            self._fail_one(error)
        self._grow()

    def _fail_one(self, error: str) -> None:
        if self.waiting:
            request, now = self.waiting.popleft(), self._clock()
            self.records.add(request, now, now, Answer(0, error))
            self._pause_until = now + _PAUSE

    def _give_up(self, before: float) -> None:
        """Count what was sent before then, and not answered, as an error. Where requests are answered one
        after the other, the connection is of no use any more."""
        now = self._clock()
        for connection in list(self.connections.values()):
            late = [number for number, (_, sent) in connection.in_flight.items() if sent < before]
            for number in late:
                connection.given_up.add(number)
                self._answered(connection, Answer(number, "timeout"), now)
            if late and self._door.streams == 1:
                self._drop(connection, "timeout")
            elif late:
                self._settle(connection)


def _kind(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
