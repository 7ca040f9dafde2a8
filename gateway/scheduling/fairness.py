"""A queue in which clients take turns, so that one who asks for much delays the others little. Pure.

Start-time fair queueing (Goyal, Vin and Cheng, 1996). Each request is stamped as it comes with the work that
its client had been given by then: S = max(v, F), F = S + rows, where F is of the client's request before it,
and v the stamp of what was taken last. The smallest stamp goes first. So a client who was silent is next but
for one request of each of the others, and of two who ask without end each is given half.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Collection, Iterator

from gateway.auth.clients import Client
from gateway.scheduling.requests import Request

Stamp = tuple[float, int]  # and in which order they came, where stamps are equal
FIRST = -1.0


class FairQueue(Collection[Request]):
    """Iterating gives the requests in the order in which they go.

    Invariant: every request in `_stamps` is in `_heap` once; what else is in `_heap` was taken out. `rows` is
    how many they have.
    """

    __slots__ = ("_came", "_finish", "_heap", "_stamps", "_taken", "_waiting", "rows")

    def __init__(self) -> None:
        self.rows = 0
        self._waiting: Counter[Client | None] = Counter()  # rows, by client; none is 0
        self._stamps: dict[Request, Stamp] = {}
        self._heap: list[tuple[Stamp, Request]] = []
        self._finish: dict[Client | None, float] = {}
        self._taken = 0.0
        self._came = 0

    def put(self, request: Request, *, first: bool = False) -> None:
        """It waits, in its client's turn or before all others."""
        start = FIRST
        if not first:
            start = max(self._taken, self._finish.get(request.client, 0.0))
            self._finish[request.client] = start + request.rows
        self._came += 1
        stamp = self._stamps[request] = (start, self._came)
        heapq.heappush(self._heap, (stamp, request))
        self.rows += request.rows
        self._waiting[request.client] += request.rows

    def take_out(self, request: Request) -> None:
        """It waits no more."""
        start, _ = self._stamps.pop(request)
        if self._heap[0][1] is request:
            # Only what goes first moves the time; who takes a request back has paid for it nevertheless.
            self._taken = max(self._taken, start)
        while self._heap and self._stamps.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        self.rows -= request.rows
        self._waiting[request.client] -= request.rows
        if not self._waiting[request.client]:
            del self._waiting[request.client]

    def ahead_of(self, request: Request) -> int:
        """About the rows that go before those of a request that would be put here now: its client's own, and
        as many of each of the others."""
        own = self._waiting[request.client]
        others = len(self._waiting) - (own > 0)
        return min(self.rows, own + (own + request.rows) * others)

    def __contains__(self, request: object) -> bool:
        return request in self._stamps

    def __len__(self) -> int:
        return len(self._stamps)

    def __iter__(self) -> Iterator[Request]:
        if self._heap:
            yield self._heap[0][1]  # mostly nobody wants more than that
        first = True
        for request in sorted(self._stamps, key=self._stamps.__getitem__):
            if not first:
                yield request
            first = False

    def __reversed__(self) -> Iterator[Request]:
        return iter(sorted(self._stamps, key=self._stamps.__getitem__, reverse=True))
