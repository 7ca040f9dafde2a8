"""Pure: gateway/jobs/pace.py: how much of the fleet jobs take."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.jobs.pace import CHUNK_TIME, LONG, MAX_ROWS, QUIET, SHARE, SHORT, Pace, chunk_rows


def taught(row_time: float) -> Pace:
    pace = Pace()
    for _ in range(20):
        pace.learn(100, 100 * row_time)
    return pace


def test_while_nobody_asks_slices_are_long_and_follow_each_other():
    pace = taught(1e-4)
    pace.look(5, 0.0)
    assert pace.is_quiet(0.0)
    assert pace.rows(0.0) == pytest.approx(LONG / 1e-4, abs=1)
    assert pace.pause(0.02, 0.0) == 0.0


def test_while_somebody_asks_slices_are_short_and_leave_the_worker_alone():
    pace = taught(1e-4)
    pace.look(5, 0.0)
    pace.look(6, 1.0)
    assert pace.rows(1.5) == pytest.approx(SHORT / 1e-4, abs=1)
    assert pace.pause(0.002, 1.5) == pytest.approx(0.002 / SHARE - 0.002)
    pace.look(6, 1.0 + QUIET)
    assert pace.is_quiet(1.0 + QUIET)


def test_a_slice_that_took_long_makes_the_next_one_short_at_once_and_the_other_way_slowly():
    pace = taught(1e-5)
    assert pace.rows(0.0) == MAX_ROWS
    pace.learn(100, 1.0)
    assert pace.rows(0.0) == 2
    pace.learn(100, 100 * 1e-5)
    assert pace.rows(0.0) == 4


def test_a_row_that_takes_longer_than_a_slice_may_still_goes():
    assert taught(5.0).rows(0.0) == 1


@given(rows=st.integers(1, 10_000), seconds=st.floats(0, 1e4), most=st.integers(1, 10_000))
def test_a_chunk_has_rows_and_never_too_many(rows, seconds, most):
    assert 1 <= chunk_rows(rows, seconds, most=most) <= most


def test_a_chunk_is_about_as_much_as_a_crash_may_cost():
    assert chunk_rows(100, CHUNK_TIME / 2, most=10_000) == 200
    assert chunk_rows(100, 1e-6, most=10_000) == 400  # step by step
    assert chunk_rows(100, 50.0, most=10_000) == 25
