"""Who asks, where tokens say so: what a client may take, and what it has taken of it. Pure."""

from __future__ import annotations

import math

from common.errors import QueueFull, RateLimited, Unauthenticated
from common.tokens import RoleName, Token

BURST = 1.0  # seconds of its rate that a client may take at once


class Rate:
    """So many a second, counted as time: `_paid` is until when what was taken is paid for (the generic cell
    rate algorithm, ITU-T I.371). What is larger than `burst` seconds of it is let through and paid for
    afterwards, or it never would be."""

    __slots__ = ("_burst", "_paid", "per_second")

    def __init__(self, per_second: float | None, burst: float = BURST) -> None:
        self.per_second = math.inf if per_second is None else per_second
        self._burst = burst
        self._paid = 0.0

    def wait(self, now: float) -> float:
        """In how many seconds there may be more; 0 for now."""
        return max(0.0, self._paid - now - self._burst)

    def take(self, count: int, now: float) -> None:
        """So many more; `wait` was 0."""
        self._paid = max(self._paid, now) + count / self.per_second


class Client:
    """The holder of one token.

    Invariant: `waiting` of its requests are in queues, and `in_progress` are not over. A client whose token
    was revoked stays, as does what it asked before, and may ask no more.
    """

    __slots__ = (
        "_requests", "_rows", "ends", "id", "in_progress", "is_limited", "revoked", "role", "token",
        "waiting", "waiting_by_model",
    )  # fmt: skip

    def __init__(self, token: Token) -> None:
        self.id = token.id
        self.in_progress = 0
        self.waiting = 0
        self.waiting_by_model: dict[str, int] = {}
        self.revoked = False
        self.renew(token)

    def renew(self, token: Token) -> None:
        """Go by this entry from now on."""
        self.token = token
        self.role: RoleName = token.role
        self.is_limited = token.requests_per_second is not None
        self.ends = self.revoked or token.expires is not None  # then `check` has something to say
        self._requests = Rate(token.requests_per_second)
        self._rows = Rate(token.rows_per_second)

    def revoke(self) -> None:
        """Its token is known no more."""
        self.revoked = self.ends = True

    def check(self, wall: float) -> None:
        """`Unauthenticated` once its token is revoked or has expired; `wall` in seconds since the epoch."""
        if self.revoked:
            raise Unauthenticated("the token was revoked")
        if self.token.expires is not None and wall >= self.token.expires:
            raise Unauthenticated("the token has expired")

    def ask(self, now: float) -> None:
        """One request more; `RateLimited` if that is one too many."""
        wait = self._requests.wait(now)
        if wait:
            limit = self.token.requests_per_second
            raise RateLimited(f"this token may send {limit:g} requests a second, and sent more", wait)
        self._requests.take(1, now)

    def predict(self, rows: int, now: float) -> None:
        """A prediction of so many rows is about to be queued; `RateLimited` if that is too much."""
        most = self.token.concurrency
        if most is not None and self.in_progress >= most:
            raise RateLimited(f"this token may have {most} predictions in progress at once, and has them")
        wait = self._rows.wait(now)
        if wait:
            limit = self.token.rows_per_second
            raise RateLimited(f"this token may send {limit:g} rows a second, and sent more", wait)
        self._rows.take(rows, now)

    # --- what the scheduler tells

    def admit(self, model: str, room: int, room_of_model: int) -> None:
        """One of its requests is about to be queued; `QueueFull` if as many wait already as there is room
        left: so who comes next finds some, however much one client asks for (the dynamic thresholds of
        Choudhury and Hahne, 1998)."""
        if self.waiting >= room or self.waiting_by_model.get(model, 0) >= room_of_model:
            raise QueueFull("Server is busy: what is left of the queue is for others")
        self.in_progress += 1

    def ended(self) -> None:
        """One of its requests is over."""
        self.in_progress -= 1

    def queued(self, model: str) -> None:
        """One of its requests waits."""
        self.waiting += 1
        self.waiting_by_model[model] = self.waiting_by_model.get(model, 0) + 1

    def unqueued(self, model: str) -> None:
        """One waits no more."""
        self.waiting -= 1
        left = self.waiting_by_model[model] - 1
        if left:
            self.waiting_by_model[model] = left
        else:
            del self.waiting_by_model[model]
