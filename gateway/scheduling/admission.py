"""Who is turned away: a request that could not be answered before its deadline. Pure.

A queue without a bound in time answers nobody once more comes than goes: whoever is taken from its front has
waited until just before the deadline, and is late at the worker. So a request is admitted only where what is
ahead of it, at the pace at which the queue was seen to go on, leaves it time. Pace is measured only while
something waited all along: else it would be that of the clients.
"""

from __future__ import annotations

from collections import OrderedDict

from gateway.scheduling.requests import ModelKey, Request

KEPT = 0.8  # of what was measured before, with each batch: some five batches count
MARGIN = 0.8  # of the time until the deadline may be taken, as no pace stays what it was
REMEMBERED = 20_000  # rows that a cache is thought to know


class Pace:
    """Rows a second that leave a queue for its worker, while there are more than it takes at once."""

    __slots__ = ("_rows", "_seconds", "_since")

    def __init__(self) -> None:
        self._rows = self._seconds = 0.0
        self._since: float | None = None  # when a batch went last, and others stayed behind

    def left(self, rows: int, now: float, *, is_more: bool) -> None:
        """A batch went; whether there is more."""
        if self._since is not None:
            self._rows = self._rows * KEPT + rows
            self._seconds = self._seconds * KEPT + now - self._since
        self._since = now if is_more else None

    def time_for(self, rows: int) -> float:
        """Seconds for so many rows; 0 where there was never a queue."""
        return rows * self._seconds / self._rows if self._rows else 0.0

    def is_enough(self, ahead: int, request: Request) -> bool:
        """Whether a request that comes behind so many rows is likely to be answered in time."""
        return self.time_for(ahead + request.rows) <= MARGIN * (request.deadline - request.admitted)


class KnownRows:
    """Rows that were answered lately, and so are likely to be in a cache: their answer costs next to nothing,
    and need not be refused. By their routes, the last ones only."""

    def __init__(self) -> None:
        self._routes: OrderedDict[tuple[ModelKey, int], None] = OrderedDict()

    def note(self, request: Request) -> None:
        """It was answered."""
        if request.route is None:
            return
        name = (request.key, request.route)
        self._routes[name] = None
        self._routes.move_to_end(name)
        if len(self._routes) > REMEMBERED:
            self._routes.popitem(last=False)

    def __contains__(self, request: Request) -> bool:
        return request.route is not None and (request.key, request.route) in self._routes
