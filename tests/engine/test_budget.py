"""Pure: engine/budget.py; then engine/room.py, with threads that wait for room."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from common.errors import LoadError
from engine import room as room_module
from engine.budget import Budget, Tenant
from engine.room import Room

MIB = 1 << 20


def loaded(budget: Budget, size: int) -> Tenant:
    """A model that is loaded and that nobody uses."""
    tenant = Tenant()
    assert budget.make_room(tenant, size, 0.0) == []
    budget.give_back(tenant)
    return tenant


def test_the_least_recently_used_ones_make_room_and_no_more_of_them_than_have_to():
    budget = Budget(10)
    first, second, third = [loaded(budget, 3) for _ in range(3)]
    assert budget.take(first)
    budget.give_back(first)
    assert budget.make_room(Tenant(), 5, 0.0) == [second, third]
    assert budget.used == 8


def test_what_is_in_use_is_closed_to_new_users_until_it_has_made_room():
    budget = Budget(10)
    busy = loaded(budget, 8)
    assert budget.take(busy)
    new = Tenant()
    assert budget.make_room(new, 5, 0.0) is None
    assert not budget.take(busy)
    budget.give_back(busy)
    assert budget.make_room(new, 5, 0.0) == [busy]
    assert not budget.take(busy)  # it has gone


def test_where_nobody_waits_for_room_any_more_what_was_closed_takes_new_users():
    budget = Budget(10)
    busy = loaded(budget, 8)
    assert budget.take(busy)
    assert budget.make_room(Tenant(), 5, 0.0) is None
    budget.reopen()
    assert budget.take(busy)


def test_what_is_kept_for_somebody_goes_once_he_was_there_or_does_not_come():
    budget = Budget(10)
    kept = loaded(budget, 8)
    kept.kept_until = 5.0
    assert budget.make_room(Tenant(), 5, 4.9) is None
    assert budget.take(kept)  # it was not closed for that
    budget.give_back(kept)
    assert budget.make_room(Tenant(), 5, 4.9) == [kept]


def test_what_is_staged_and_what_is_beside_it_neither_go_nor_are_closed_until_it_is_settled():
    budget = Budget(10)
    held, other = loaded(budget, 3), loaded(budget, 3)
    staged = Tenant()
    staged.keeps = (staged, held)
    assert budget.make_room(staged, 6, 0.0) == [other]
    budget.give_back(staged)
    assert budget.take(held)
    assert budget.make_room(Tenant(), 5, 0.0) is None
    assert budget.take(held)  # it was not closed
    budget.give_back(held)
    budget.give_back(held)
    assert budget.make_room(Tenant(), 5, 0.0) is None
    staged.keeps = ()
    assert budget.make_room(Tenant(), 5, 0.0) == [staged]


def test_what_is_dropped_takes_room_until_its_last_user_is_done():
    budget = Budget(10)
    tenant = loaded(budget, 8)
    assert budget.take(tenant)
    budget.drop(tenant)
    assert budget.used == 8
    assert not budget.take(tenant)
    budget.give_back(tenant)
    assert budget.used == 0
    budget.drop(tenant)
    assert budget.used == 0


def test_a_model_that_turns_out_bigger_makes_room_for_the_rest():
    budget = Budget(10)
    other, new = loaded(budget, 4), Tenant()
    assert budget.make_room(new, 5, 0.0) == []
    assert budget.make_room(new, 7, 0.0) == [other]
    assert budget.used == 7


class BudgetMachine(RuleBasedStateMachine):
    """Models come, are used, are kept and go; whoever is told to go was idle, and the sum stays within."""

    @initialize(limit=st.integers(1, 30))
    def begin(self, limit: int) -> None:
        self.budget, self.now = Budget(limit), 0.0
        self.tenants: list[Tenant] = []
        self.users: dict[Tenant, int] = {}

    @rule(size=st.integers(0, 30))
    def load(self, size: int) -> None:
        self._make_room(Tenant(), size)

    @precondition(lambda self: self.tenants)
    @rule(data=st.data(), size=st.integers(0, 30))
    def grow(self, data: st.DataObject, size: int) -> None:
        self._make_room(data.draw(st.sampled_from(self.tenants)), size)

    def _make_room(self, tenant: Tenant, size: int) -> None:
        if size > self.budget.limit:
            return
        before = self.budget.used
        going = self.budget.make_room(tenant, size, self.now)
        if going is None:
            assert self.budget.used == before
            return
        for each in going:
            assert each is not tenant
            assert self.users.pop(each) == 0
            assert each.kept_until <= self.now
            self.tenants.remove(each)
        if tenant not in self.users:
            self.users[tenant] = 1
            self.tenants.append(tenant)

    @precondition(lambda self: self.tenants)
    @rule(data=st.data())
    def take(self, data: st.DataObject) -> None:
        tenant = data.draw(st.sampled_from(self.tenants))
        if self.budget.take(tenant):
            self.users[tenant] += 1
        else:
            assert tenant.is_closing

    @precondition(lambda self: any(self.users.values()))
    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        tenant = data.draw(st.sampled_from([each for each in self.tenants if self.users[each]]))
        self.budget.give_back(tenant)
        self.users[tenant] -= 1

    @precondition(lambda self: self.tenants)
    @rule(data=st.data(), seconds=st.floats(0, 5))
    def keep(self, data: st.DataObject, seconds: float) -> None:
        data.draw(st.sampled_from(self.tenants)).kept_until = self.now + seconds

    @precondition(lambda self: self.tenants)
    @rule(data=st.data())
    def drop(self, data: st.DataObject) -> None:
        tenant = data.draw(st.sampled_from(self.tenants))
        while self.users[tenant]:
            self.give_back_one(tenant)
        self.budget.drop(tenant)
        self.tenants.remove(tenant)
        del self.users[tenant]

    def give_back_one(self, tenant: Tenant) -> None:
        self.budget.give_back(tenant)
        self.users[tenant] -= 1

    @rule(seconds=st.floats(0, 3))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def reopen(self) -> None:
        self.budget.reopen()

    @invariant()
    def the_sum_is_within_the_budget(self) -> None:
        if hasattr(self, "budget"):
            assert self.budget.used == sum(each.size for each in self.tenants) <= self.budget.limit


TestBudget = BudgetMachine.TestCase
TestBudget.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)


# --- threads


def test_a_load_waits_for_a_model_in_use_and_has_its_room_as_soon_as_it_is_given_back():
    evicted: list[Tenant] = []
    room = Room(10, evicted.extend)
    with room.reserve(8) as busy:
        pass
    assert room.take(busy)

    def load() -> None:
        with room.reserve(5):
            pass

    with ThreadPoolExecutor(1) as threads:
        loading = threads.submit(load)
        while room.take(busy):  # until the load has closed it
            room.give_back(busy)
        assert evicted == []
        room.give_back(busy)
        loading.result(10)
    assert evicted == [busy]
    assert room.used == 5


def test_a_load_that_finds_no_room_in_time_says_so_and_leaves_everything_as_it_was(monkeypatch):
    monkeypatch.setattr(room_module, "BUSY_TIME", 0.05)
    room = Room(10 * MIB, lambda evicted: None)
    with room.reserve(8 * MIB) as busy:
        sentence = (
            r"^the model takes 5\.0 MiB, and models in use leave no room for it: together they hold 8\.0 MiB"
            r" of the 10\.0 MiB that --memory_mb allows$"
        )
        with pytest.raises(LoadError, match=sentence), room.reserve(5 * MIB):
            pass
        assert room.take(busy)
        room.give_back(busy)
    assert room.used == 8 * MIB


def test_a_model_that_is_bigger_than_the_whole_budget_is_refused_at_once():
    room = Room(10 * MIB, lambda evicted: None)
    sentence = r"^the model takes 11\.5 MiB, and --memory_mb allows 10\.0 MiB for all models of this worker"
    with pytest.raises(LoadError, match=sentence), room.reserve(11 * MIB + MIB // 2):
        pass
    assert room.used == 0


def test_a_load_that_fails_gives_its_room_back():
    room = Room(10, lambda evicted: None)
    with pytest.raises(ZeroDivisionError), room.reserve(5):
        raise ZeroDivisionError
    assert room.used == 0


def test_without_a_limit_there_is_room_for_all_and_loads_do_not_wait_for_each_other():
    room = Room(None, lambda evicted: None)
    with room.turn, room.turn, room.reserve(1 << 60), room.reserve(1 << 60):
        assert room.used == 1 << 61
