"""Pure: the last hour, in steps."""

from __future__ import annotations

import pytest

from common.stats import Latency
from gateway.observing.history import LENGTH, STEP, History, Now, Totals

IDLE = Now(0, 0, 0, 0)


def test_a_step_holds_what_happened_in_it_and_nothing_of_before():
    handling = Latency()
    handling.record(3.0, 50)
    history = History(Totals(50, 50, handling), 100.0)
    handling.record(0.010, 98)
    handling.record(0.500, 2)
    history.add(Totals(150, 60, handling), Now(3, 4, 1, 2), 105.0, 1e9)
    [sample] = history.newest()
    assert (sample.at, sample.requests, sample.failures, sample.now) == (1e9, 20.0, 2.0, Now(3, 4, 1, 2))
    assert sample.p50 == pytest.approx(0.010, rel=0.02)
    assert sample.p99 == pytest.approx(0.500, rel=0.02)


def test_a_step_without_answers_has_no_latency():
    handling = Latency()
    history = History(Totals(0, 0, handling), 0.0)
    handling.record(1.0)
    history.add(Totals(1, 0, handling), IDLE, 5.0, 5.0)
    history.add(Totals(1, 0, handling), IDLE, 10.0, 10.0)
    assert [sample.p99 is None for sample in history.newest()] == [False, True]
    assert history.newest()[1].requests == 0


def test_rates_are_of_the_seconds_that_a_step_really_took():
    history = History(Totals(0, 0, Latency()), 0.0)
    history.add(Totals(100, 0, Latency()), IDLE, 20.0, 0.0)
    assert history.newest()[0].requests == 5.0


def test_an_hour_is_kept_and_the_newest_are_given():
    history = History(Totals(0, 0, Latency()), 0.0)
    for n in range(LENGTH + 3):
        history.add(Totals(n, 0, Latency()), IDLE, n * STEP, float(n))
    assert LENGTH * STEP == 3600
    assert [sample.at for sample in history.newest()] == list(range(3, LENGTH + 3))
    assert [sample.at for sample in history.newest(2)] == [LENGTH + 1, LENGTH + 2]
    assert history.newest(0) == []
    assert history.count == LENGTH + 3
