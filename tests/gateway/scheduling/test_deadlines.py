"""Pure: gateway/scheduling/deadlines.py; time is a number that the test says."""

import math

from hypothesis import example, given
from hypothesis import strategies as st

from gateway.scheduling.deadlines import TICK, DeadlineWheel


def test_what_is_due_is_said_once_earliest_first() -> None:
    wheel: DeadlineWheel[str] = DeadlineWheel()
    wheel.add("third", 3.0)
    wheel.add("first", 1.0)
    wheel.add("second", 2.0)
    assert wheel.expire(0.99) == []
    assert wheel.expire(2.0) == ["first", "second"]
    assert wheel.expire(2.0) == []
    assert wheel.expire(100.0) == ["third"]


def test_a_deadline_that_is_long_past_is_due_at_once() -> None:
    wheel: DeadlineWheel[str] = DeadlineWheel()
    wheel.add("late", -5.0)
    assert wheel.expire(0.0) == ["late"]


def test_deadlines_within_a_tick_are_due_together_at_its_end() -> None:
    wheel: DeadlineWheel[str] = DeadlineWheel()
    wheel.add("b", 1.008)
    wheel.add("a", 1.002)
    assert wheel.expire(1.009) == []
    assert wheel.expire(1.01) == ["b", "a"]


def test_what_was_removed_is_never_due_and_nothing_of_it_is_left() -> None:
    wheel: DeadlineWheel[str] = DeadlineWheel()
    wheel.add("stays", 1.0)
    wheel.add("goes", 1.0)
    wheel.remove("goes", 1.0)
    wheel.remove("goes", 1.0)
    wheel.remove("never came", 7.0)
    assert wheel.earliest() == 1.0
    assert wheel.expire(1.0) == ["stays"]
    assert wheel.earliest() == math.inf
    wheel.remove("stays", 1.0)
    assert wheel.earliest() == math.inf


def test_it_is_empty_once_the_last_item_is_removed() -> None:
    wheel: DeadlineWheel[str] = DeadlineWheel()
    assert wheel.earliest() == math.inf
    wheel.add("only", 1.0)
    wheel.remove("only", 1.0)
    assert wheel.earliest() == math.inf


@given(
    st.dictionaries(st.integers(), st.floats(-10, 1e6), max_size=30),
    st.sets(st.integers(0, 29)),
    st.lists(st.floats(-10, 1e6), max_size=5),
)
@example({1: 0.07, 2: 0.29, 3: 0.57}, set(), [0.07, 0.29, 0.57])
def test_nothing_is_due_early_or_more_than_a_tick_late(
    deadlines: dict[int, float], removed: set[int], times: list[float]
) -> None:
    wheel: DeadlineWheel[int] = DeadlineWheel()
    for item, deadline in deadlines.items():
        wheel.add(item, deadline)
    for item in [item for n, item in enumerate(deadlines) if n in removed]:
        wheel.remove(item, deadlines.pop(item))
    for now in sorted(times):
        is_due = wheel.earliest() <= now
        due = wheel.expire(now)
        assert bool(due) is is_due
        assert len(set(due)) == len(due)
        for item in due:
            assert deadlines.pop(item) <= now
        assert all(deadline > now - TICK for deadline in deadlines.values())
    assert set(wheel.expire(2e6)) == set(deadlines)
    assert wheel.earliest() == math.inf
