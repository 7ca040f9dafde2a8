"""Which loaded models make room for another. Pure: no clock, no locks.

1. Those that nobody uses go first, the least recently used one before the others.
2. Where they are not enough, the least recently used of those in use are closed: they take no new users,
   and go once the last one is done. Without that, models that are always busy would keep all others out.
3. One that is staged stays, and the one beside it too, until it is settled which of the two does.
4. One that was loaded for somebody is kept for a moment until that somebody comes. Else two models that do
   not fit together, and are both waited for, would drive each other out before either answered.
"""

from __future__ import annotations

import math
from collections import OrderedDict


class Tenant:
    """One model that is loaded, or is being loaded by the one user that it has then. `keeps` are those that
    neither go nor are closed while it is there: where it is staged, itself and the one it may replace."""

    __slots__ = ("is_closing", "is_gone", "keeps", "kept_until", "size", "users")

    def __init__(self) -> None:
        self.size = 0
        self.users = 1
        self.keeps: tuple[Tenant, ...] = ()
        self.kept_until = -math.inf
        self.is_closing = False
        self.is_gone = False

    def is_idle(self, now: float) -> bool:
        """Whether nobody uses it, or is about to."""
        return not self.users and now >= self.kept_until


class Budget:
    """Invariant: all tenants together take no more than `limit`, and only idle ones are told to go."""

    def __init__(self, limit: float = math.inf) -> None:
        self.limit = limit
        self.used = 0
        self._tenants: OrderedDict[Tenant, None] = OrderedDict()  # the least recently used one first

    def make_room(self, tenant: Tenant, size: int, now: float) -> list[Tenant] | None:
        """Let a tenant, perhaps a new one, take so many bytes: who has to go for that and is counted no more.

        None where those that are not idle leave no room yet: ask again when one of them is given back.
        """
        over = self.used - tenant.size + size - self.limit
        staying = {tenant}.union(*(each.keeps for each in (tenant, *self._tenants)))
        others = [each for each in self._tenants if each not in staying]
        going = _least(over, [each for each in others if each.is_idle(now)])
        over -= sum(each.size for each in going)
        if over > 0:
            leaving = [each for each in others if each.is_gone]
            busy = [each for each in others if each.users and not each.is_gone]
            for each in _least(over, leaving + busy):
                each.is_closing = True
            return None
        for each in going:
            self._remove(each)
        self.used += size - tenant.size
        tenant.size = size
        self._tenants[tenant] = None
        return going

    def take(self, tenant: Tenant) -> bool:
        """One more uses it; False where it takes no new users."""
        if tenant.is_closing or tenant.is_gone:
            return False
        tenant.users += 1
        self._tenants.move_to_end(tenant)
        return True

    def give_back(self, tenant: Tenant) -> None:
        """One uses it no more."""
        tenant.users -= 1
        tenant.kept_until = -math.inf
        if tenant.is_gone and not tenant.users:
            self._remove(tenant)

    def drop(self, tenant: Tenant) -> None:
        """It is wanted no more: it takes room until its last user is done."""
        tenant.is_gone = True
        if not tenant.users:
            self._remove(tenant)

    def reopen(self) -> None:
        """Nobody waits for room any more."""
        for each in self._tenants:
            each.is_closing = False

    def _remove(self, tenant: Tenant) -> None:
        tenant.is_gone = True
        if self._tenants.pop(tenant, tenant) is None:
            self.used -= tenant.size


def _least(over: float, tenants: list[Tenant]) -> list[Tenant]:
    """As many of them as take so much, from the first on; all, where they take less."""
    chosen = []
    for each in tenants:
        if over <= 0:
            break
        chosen.append(each)
        over -= each.size
    return chosen
