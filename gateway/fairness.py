"""A queue in which clients take turns, so that one who asks for much delays the others little. Pure.

Start-time fair queueing (Goyal, Vin and Cheng, 1996). Each request is stamped as it comes with the work that
its client had been given by then: S = max(v, F), F = S + rows, where F is of the client's request before it,
and v the stamp of what was taken last. The smallest stamp goes first. So a client who was silent is next but
for one request of each of the others, and of two who ask without end each is given half.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, MutableMapping

from gateway.clients import Client
from gateway.requests import Request

Stamp = tuple[float, int]  # and in which order they came, where stamps are equal


class FairQueue(MutableMapping[Request, None]):
    """In place of an `OrderedDict` of requests: iterating gives them in the order in which they go.

    Invariant: every request in `_stamps` is in `_heap` once; what else is in `_heap` was taken out.
    """

    __slots__ = ("_came", "_finish", "_heap", "_stamps", "_taken")

    def __init__(self) -> None:
        self._stamps: dict[Request, Stamp] = {}
        self._heap: list[tuple[Stamp, Request]] = []
        self._finish: dict[Client | None, float] = {}
        self._taken = 0.0
        self._came = 0

    def __setitem__(self, request: Request, _value: None) -> None:
        if request in self._stamps:
            return
        start = max(self._taken, self._finish.get(request.client, 0.0))
        self._finish[request.client] = start + request.rows
        self._came += 1
        stamp = self._stamps[request] = (start, self._came)
        heapq.heappush(self._heap, (stamp, request))

    def __delitem__(self, request: Request) -> None:
        start, _ = self._stamps.pop(request)
        if self._heap[0][1] is request:
            # Only what goes first moves the time; who takes a request back has paid for it nevertheless.
            self._taken = max(self._taken, start)
        while self._heap and self._stamps.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)

    def __getitem__(self, request: Request) -> None:
        if request not in self._stamps:
            raise KeyError(request)

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
