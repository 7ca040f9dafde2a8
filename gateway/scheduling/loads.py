"""How busy each worker is, who holds which version, and so which worker a request goes to. Pure."""

from __future__ import annotations

from collections.abc import Collection

from gateway.scheduling.requests import ModelKey, Request
from gateway.scheduling.routing import Preferences, choose, least_busy


class Loads:
    """Rows waiting for or running at each worker that takes new ones, by its id; `total` is their sum."""

    def __init__(self) -> None:
        self.rows: dict[str, int] = {}
        self.total = 0
        self._preferences = Preferences()
        self._holders: dict[ModelKey, frozenset[str]] = {}  # where not every worker has the version

    def open(self, worker: str) -> None:
        """A worker takes new rows."""
        self.rows[worker] = 0
        self._preferences.set_workers(self.rows)

    def close(self, worker: str) -> bool:
        """A worker takes nothing new; whether it did before."""
        rows = self.rows.pop(worker, None)
        if rows is None:
            return False
        self.total -= rows
        self._preferences.set_workers(self.rows)
        return True

    def add(self, worker: str, rows: int) -> None:
        """So many rows more are at a worker, or fewer."""
        if worker in self.rows:
            self.rows[worker] += rows
            self.total += rows

    def place(self, key: ModelKey, workers: Collection[str] | None) -> bool:
        """Only these workers have a version from now on (None: every one has); whether one less does."""
        before = self._holders.get(key)
        if workers is None:
            self._holders.pop(key, None)
            return False
        self._holders[key] = frozenset(workers)
        return before is None or not before <= self._holders[key]

    def _choose_other(self, shunned: str, workers: Collection[str]) -> str | None:
        """The least busy of these workers, and the shunned one only where there is no other: one that answers
        nothing and comes back at once is the least busy of all, and would be the second to lose it."""
        own = [worker for worker in workers if worker in self.rows]
        others = [worker for worker in own if worker != shunned]
        return min(others or own, key=lambda worker: (self.rows[worker], worker), default=None)

    def choose(self, request: Request) -> str | None:
        """The worker to queue a request for; None where nobody has what it needs."""
        rows = self.rows
        holders = self._holders.get(request.key)
        if request.shunned is not None:
            return self._choose_other(request.shunned, rows if holders is None else holders)
        if holders is None:
            if not rows:
                return None
            if len(rows) == 1:
                return next(iter(rows))
            if request.route is None:
                return least_busy(rows, rows)
            return choose(self._preferences.order(request.route), rows, request.rows, self.total)
        own = [worker for worker in holders if worker in rows]
        if not own:
            return None
        if request.route is None:
            return min(own, key=lambda worker: (rows[worker], worker))
        order = tuple(w for w in self._preferences.order(request.route) if w in holders)
        return choose(order, rows, request.rows, sum(rows[w] for w in own))
