"""Pure: gateway/experiments/guard.py. A canary that is worse goes back, and chance convicts none."""

from __future__ import annotations

import random

import pytest

from gateway.experiments.guard import Guard, Watch

GUARD = Guard(factor=2, requests=100)


def watch_over(guard: Guard = GUARD) -> Watch:
    return Watch(guard, canary="v2", control="v1")


def feed(watch: Watch, arm: str, count: int, *, failing: int = 0, seconds: float = 0.01) -> str | None:
    told = [watch.record(arm, seconds, failed=number < failing) for number in range(count)]
    assert all(each is None for each in told[:-1])
    return told[-1]


def test_a_canary_that_fails_more_often_goes_back_with_a_sentence() -> None:
    watch = watch_over()
    assert feed(watch, "v1", 900, failing=45) is None
    assert feed(watch, "v2", 100, failing=15) == (
        "15 of 100 requests to v2 failed, 45 of 900 to v1: more than 2 times the rate"
    )


def test_a_canary_that_is_slower_goes_back_with_a_sentence() -> None:
    watch = watch_over()
    feed(watch, "v1", 100, seconds=0.01)
    assert feed(watch, "v2", 100, seconds=0.03) == (
        "the 95th percentile of v2 is 30.0 ms over 100 requests, that of v1 10.0 ms:"
        " more than 2 times as long"
    )


def test_up_to_the_factor_a_canary_stays() -> None:
    watch = watch_over()
    feed(watch, "v1", 100, failing=10, seconds=0.01)
    assert feed(watch, "v2", 100, failing=20, seconds=0.0195) is None


def test_nothing_is_decided_before_there_are_enough_requests_of_both() -> None:
    watch = watch_over()
    assert feed(watch, "v2", 5000, failing=5000) is None
    assert feed(watch, "v1", 99) is None
    assert feed(watch, "v1", 1) is not None


def test_an_error_where_the_control_has_none_may_be_chance_and_three_are_not() -> None:
    for failing, goes_back in ((1, False), (2, True), (3, True)):
        watch = watch_over()
        feed(watch, "v1", 900)
        assert (feed(watch, "v2", 100, failing=failing) is not None) is goes_back


def test_a_long_good_past_hides_no_bad_present() -> None:
    watch = watch_over()
    for _ in range(50):
        feed(watch, "v2", 100)
        assert feed(watch, "v1", 100) is None
    feed(watch, "v2", 100, failing=50)
    assert feed(watch, "v1", 100) is not None


def test_what_failed_says_nothing_of_speed() -> None:
    watch = watch_over(Guard(factor=1000, requests=100))
    feed(watch, "v1", 100, failing=100, seconds=30.0)
    assert feed(watch, "v2", 100, failing=100, seconds=0.001) is None


def test_other_arms_are_none_of_its_business() -> None:
    watch = watch_over()
    assert feed(watch, "v3", 1000, failing=1000) is None
    feed(watch, "v1", 100)
    assert feed(watch, "v2", 100) is None


@pytest.mark.parametrize("rate", [0.0, 0.01, 0.2])
def test_of_equal_arms_next_to_none_goes_back(rate: float) -> None:
    draw, trips = random.Random(3), 0
    for _ in range(200):
        watch = watch_over(Guard(factor=1.5, requests=100))
        for _ in range(900):
            watch.record("v1", draw.lognormvariate(-5, 0.5), failed=draw.random() < rate)
        told = [
            watch.record("v2", draw.lognormvariate(-5, 0.5), failed=draw.random() < rate) for _ in range(100)
        ]
        trips += told[-1] is not None
    assert trips <= 5
