"""pure: schedules of faults. Whatever the seed, every kind occurs and is healed, and none meets another that
it must not."""

from __future__ import annotations

import io
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.chaos.schedule import FIRST, KINDS, LAST, SETTLE, SHORTEST, Fault, make, read, write

seeds = st.integers(0, 2**32)
workers = st.integers(1, 8)


@given(seeds, st.floats(SHORTEST, 1000), workers)
def test_every_kind_occurs_and_is_healed_before_the_end(seed: int, duration: float, count: int):
    faults = make(seed, duration, count)
    assert {fault.kind for fault in faults} == set(KINDS)
    assert faults == sorted(faults)
    assert faults[0].at >= FIRST
    assert max(fault.healed for fault in faults) <= duration - LAST
    assert all(fault.lasts > 0 for fault in faults)


@given(seeds, st.floats(SHORTEST, 1000), workers)
def test_faults_that_hold_the_same_have_time_between_them(seed: int, duration: float, count: int):
    for first, then in combinations(make(seed, duration, count), 2):
        if set(KINDS[first.kind].holds) & set(KINDS[then.kind].holds):
            assert then.at >= first.healed + SETTLE - 0.001


@given(seeds, workers)
def test_targets_are_hosts_that_are_there(seed: int, count: int):
    for fault in make(seed, 200, count):
        assert fault.target in (range(1, count + 1) if KINDS[fault.kind].is_of_worker else [0])


@given(seeds)
def test_a_seed_always_makes_the_same_schedule_and_a_file_of_it_is_read_as_it_was(seed: int):
    faults = make(seed, 200, 3)
    assert make(seed, 200, 3) == faults
    file = io.StringIO()
    write(faults, file)
    assert read(file.getvalue().splitlines(), 3) == faults


def test_ten_minutes_have_every_kind_more_than_once():
    kinds = [fault.kind for fault in make(1, 600, 3)]
    assert min(map(kinds.count, KINDS)) >= 3
    clocks = [fault.at for fault in make(1, 600, 3) if fault.kind == "clock jumps"]
    assert max(clocks) - min(clocks) > 200  # and not all of them at the beginning


def test_what_is_too_short_is_said_to_be():
    with pytest.raises(ValueError, match="60 seconds are too short for every kind of fault"):
        make(1, 60, 3)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("at,kind\n1,kill worker\n", "begins with the line at,kind,target,lasts"),
        ("at,kind,target,lasts\n1,flood,0,1\n", "line 2 is no fault: kinds are kill worker, "),
        ("at,kind,target,lasts\nsoon,kill worker,1,1\n", "line 2 is no fault"),
        ("at,kind,target,lasts\n1,kill worker,4,1\n", "line 2: there are hosts 0"),
        ("at,kind,target,lasts\n1,kill worker,0,1\n", "line 2: there are hosts 0"),
        ("at,kind,target,lasts\n1,kill worker,1,0\n", "times above zero"),
    ],
)
def test_a_file_that_is_none_is_refused_with_a_sentence(text: str, complaint: str):
    with pytest.raises(ValueError, match=complaint):
        read(text.splitlines(), 3)


def test_a_file_may_be_in_any_order():
    lines = ["at,kind,target,lasts", "9,disk full,0,2", "1,kill worker,3,1"]
    assert read(lines, 3) == [Fault(1.0, "kill worker", 3, 1.0), Fault(9.0, "disk full", 0, 2.0)]
