"""pure: the plan of an overload and its figures, of requests that are made up."""

from __future__ import annotations

import pytest

from bench.figures import Figure
from bench.overloading import CALM, Asked, Plan, figures

PLAN = Plan(capacity=100.0, times=4.0, seconds=10.0, deadline=0.5)


def asked(due: float, took: float, error: str = "", *, is_hot: bool = False) -> Asked:
    return Asked(due, due, due + took, error, is_hot, is_hot)


def well_served() -> list[Asked]:
    """A hundred a second are answered, three hundred told 503, and hot ones answered."""
    found = [asked(n / 100, 0.01) for n in range(0, int(CALM * 100), 2)]
    found += [asked(CALM + n / 100, 0.4) for n in range(1000)]
    found += [asked(CALM + n / 300, 0.002, "503") for n in range(3000)]
    found += [asked(CALM + n / 10, 0.1, is_hot=True) for n in range(100)]
    return found + [asked(PLAN.over + n / 50, 0.01) for n in range(int(CALM * 50))]


def missed(found: list[Asked], memory: list[tuple[float, float]] | None = None) -> list[str]:
    return [each.name.strip() for each in figures(PLAN, found, memory or []) if each.verdict == "missed"]


def test_rows_come_at_half_then_at_four_times_then_at_half_of_the_capacity_with_hot_ones_beside_them():
    rows = PLAN.rows("m", "hot", 5)
    fresh = [row for row in rows if not row.input.startswith("hot")]
    calm = int(CALM * 50)
    assert len(fresh) == calm + 4000 + calm
    assert len([row for row in fresh if CALM <= row.at < PLAN.over]) == 4000
    assert len({row.input for row in fresh}) == len(fresh)
    assert len({row.input for row in rows if row.input.startswith("hot")}) == 5
    assert rows == sorted(rows)
    assert rows[-1].at < PLAN.end


def test_a_server_that_does_all_that_is_asked_reaches_every_bound():
    found = figures(PLAN, well_served(), [(CALM + n, 50.0) for n in range(10)])
    assert [each.name for each in found if each.verdict == "missed"] == []
    assert found[2] == Figure("goodput, of what it can", 1.0, "", at_least=0.95, note="100 rows/s")


def late(each: Asked) -> Asked:
    return each._replace(done=each.sent + 0.6) if not each.error and each.due < 7 else each


def failed(each: Asked) -> Asked:
    return each._replace(error="504") if not each.error and each.due < 7 else each


def told_slowly(each: Asked) -> Asked:
    return each._replace(done=each.sent + 0.03) if each.error else each


def hot_turned_away(each: Asked) -> Asked:
    return each._replace(error="503") if each.is_hot and each.due < 7 else each


def turned_away_afterwards(each: Asked) -> Asked:
    return each._replace(error="503") if 16.5 < each.due < 16.6 else each


def slow_afterwards(each: Asked) -> Asked:
    return each._replace(done=each.sent + 0.1) if 15 <= each.due < 16.6 else each


@pytest.mark.parametrize(
    ("replaced", "name"),
    [
        (late, "goodput"),
        (failed, "goodput"),
        (told_slowly, "told 503, p99"),
        (hot_turned_away, "hot rows served"),
        (turned_away_afterwards, "back to normal after"),
        (slow_afterwards, "back to normal after"),
    ],
)
def test_what_is_not_so_is_missed(replaced, name: str):
    assert any(each.startswith(name) for each in missed([replaced(each) for each in well_served()]))


def test_memory_may_grow_while_the_overload_begins_and_not_later():
    assert missed(well_served(), [(CALM + n, 50.0 + 10 * (n > 1)) for n in range(10)]) == []
    assert "the gateway's memory grew by" in missed(
        well_served(), [(CALM + n, 50.0 + 4 * n) for n in range(10)]
    )
