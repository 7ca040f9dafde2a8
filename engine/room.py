"""The memory that loaded models may take together, for the threads that load them and those that use them."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable, Iterator

from common.errors import LoadError
from engine.budget import Budget, Tenant

BUSY_TIME = 10.0  # how long a model that is loaded waits for others that are in use
KEPT = 1.0  # how long one that somebody waits for is kept for him
MIB = 1 << 20


class Room:
    """Thread-safe. `on_evicted` is told whom it sent away, by the thread that needed the room, before the
    room is used. Without a limit there is room for all."""

    def __init__(self, limit: int | None, on_evicted: Callable[[list[Tenant]], None]) -> None:
        self.limit = limit
        # One model at a time is loaded: what it costs could not be told otherwise.
        self.turn = contextlib.nullcontext() if limit is None else threading.Lock()
        self._budget = Budget(math.inf if limit is None else limit)
        self._on_evicted = on_evicted
        self._changed = threading.Condition()

    @property
    def used(self) -> int:
        """Bytes that are taken now."""
        return self._budget.used

    @contextlib.contextmanager
    def reserve(self, size: int, *, staged: bool = False, beside: Tenant | None = None) -> Iterator[Tenant]:
        """Room for a model while it is loaded, and afterwards if that goes well; `LoadError` as `resize`. One
        that is `staged` stays until it is settled or dropped, and so long what it may replace (`beside`)."""
        tenant = Tenant()
        if staged:
            tenant.keeps = (tenant,) if beside is None else (tenant, beside)
        try:
            self.resize(tenant, size)
            yield tenant
        except BaseException:
            self.drop(tenant)
            raise
        finally:
            self.give_back(tenant)

    def resize(self, tenant: Tenant, size: int) -> None:
        """Let a tenant take so many bytes from now on: `LoadError` where that is more than there is for all,
        or where those in use make no room in time."""
        beside = sum(each.size for each in tenant.keeps if each is not tenant)
        if self.limit is not None and size + beside > self.limit:
            as_held = f" beside the {_mib(beside)} that it takes as it is loaded now" if beside else ""
            raise LoadError(
                f"the model takes {_mib(size)}{as_held}, and --memory_mb allows {_mib(self.limit)} for all"
                " models of this worker together"
            )
        with self._changed:
            going = self._wait_for_room(tenant, size)
        if going:
            self._on_evicted(going)

    def _wait_for_room(self, tenant: Tenant, size: int) -> list[Tenant]:
        until = time.monotonic() + BUSY_TIME
        try:
            while (going := self._budget.make_room(tenant, size, time.monotonic())) is None:
                if (left := until - time.monotonic()) <= 0:
                    raise LoadError(
                        f"the model takes {_mib(size)}, and models in use leave no room for it: together they"
                        f" hold {_mib(self.used)} of the {_mib(self.limit or 0)} that --memory_mb allows"
                    )
                self._changed.wait(min(left, KEPT / 10))  # one that is kept for nobody gives no notice
            return going
        finally:
            self._budget.reopen()

    def keep(self, tenant: Tenant) -> None:
        """Somebody waits for this one, and is about to come."""
        with self._changed:
            tenant.kept_until = time.monotonic() + KEPT

    def take(self, tenant: Tenant) -> bool:
        """One more uses it, until `give_back`; False where it has gone, or has to go."""
        with self._changed:
            return self._budget.take(tenant)

    def give_back(self, tenant: Tenant) -> None:
        """One uses it no more."""
        with self._changed:
            self._budget.give_back(tenant)
            self._changed.notify_all()

    def settle(self, tenant: Tenant) -> None:
        """It was staged, and is one like the others now."""
        with self._changed:
            tenant.keeps = ()
            self._changed.notify_all()

    def drop(self, tenant: Tenant) -> None:
        """It is wanted no more; it takes room until its last user is done."""
        with self._changed:
            self._budget.drop(tenant)
            self._changed.notify_all()


def _mib(size: int) -> str:
    return f"{size / MIB:.1f} MiB"
