"""Pure: gateway/experiments/split.py. Who is in which arm, and that a change moves no more than it must."""

from __future__ import annotations

import math
from collections import Counter
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.experiments.split import BUCKETS, Split, bucket_of, counts_of

ARMS = ["v1", "v2", "v3", "v4", "v5"]
WEIGHT = st.one_of(st.just(0.0), st.integers(1, 1000).map(float), st.floats(0.5, 1000))
WEIGHTS = st.dictionaries(st.sampled_from(ARMS), WEIGHT, min_size=1).filter(lambda each: any(each.values()))
patient = settings(max_examples=40, deadline=None)  # each looks at thousands of buckets, many times over
HISTORY = st.lists(WEIGHTS, min_size=1, max_size=6)


def split_after(history: list[dict[str, float]]) -> Split:
    split = Split.new(history[0])
    for weights in history[1:]:
        split = split.changed(weights)
    return split


def arms_of(split: Split) -> list[str]:
    return [split.arm(bucket) for bucket in range(BUCKETS)]


def moved(before: Split, after: Split) -> int:
    return sum(a != b for a, b in zip(arms_of(before), arms_of(after), strict=True))


@patient
@given(HISTORY)
def test_every_bucket_has_one_arm_and_every_arm_its_part(history: list[dict[str, float]]) -> None:
    split, weights = split_after(history), history[-1]
    counts = Counter(arms_of(split))
    total = sum(map(Fraction, weights.values()))
    assert set(counts) == {arm for arm, weight in weights.items() if weight}
    for arm, weight in weights.items():
        assert counts[arm] == split.count(arm)
        assert abs(counts[arm] - Fraction(weight) / total * BUCKETS) < 1 + Fraction(1, 10**6)


@patient
@given(HISTORY, WEIGHTS)
def test_a_change_moves_half_the_sum_of_the_changes(
    history: list[dict[str, float]], weights: dict[str, float]
) -> None:
    before = split_after(history)
    after = before.changed(weights)
    distance = sum(abs(after.count(arm) - before.count(arm)) for arm in ARMS)
    assert moved(before, after) * 2 == distance


@patient
@given(HISTORY, WEIGHTS)
def test_whoever_moves_comes_from_an_arm_that_shrinks_and_goes_to_one_that_grows(
    history: list[dict[str, float]], weights: dict[str, float]
) -> None:
    before = split_after(history)
    after = before.changed(weights)
    for old, new in zip(arms_of(before), arms_of(after), strict=True):
        if old != new:
            assert after.count(old) < before.count(old)
            assert after.count(new) > before.count(new)


@patient
@given(HISTORY, st.randoms())
def test_the_order_of_arms_never_matters(history: list[dict[str, float]], random: object) -> None:
    shuffled = []
    for weights in history:
        items = list(weights.items())
        random.shuffle(items)  # type: ignore[attr-defined]
        shuffled.append(dict(items))
    assert split_after(history).runs == split_after(shuffled).runs


@patient
@given(HISTORY, st.sampled_from([0.25, 2.0, 1e-300, 1e300]))
def test_only_the_proportion_of_weights_matters(history: list[dict[str, float]], factor: float) -> None:
    scaled = [{arm: weight * factor for arm, weight in weights.items()} for weights in history]
    if factor in (0.25, 2.0):
        assert split_after(scaled).runs == split_after(history).runs
    else:  # the last digit of a quotient may differ
        assert moved(split_after(scaled[:1]), split_after(history[:1])) <= len(ARMS)


@patient
@given(st.lists(st.integers(0, 100), min_size=1, max_size=6))
def test_with_two_arms_going_up_and_back_is_where_it_began(shares: list[int]) -> None:
    weights = [{"v1": 100.0 - share, "v2": float(share)} for share in shares]
    assert arms_of(split_after([*weights, *weights[::-1]])) == arms_of(split_after(weights[:1]))


@patient
@given(st.lists(st.integers(0, 100), min_size=2, max_size=20).map(sorted))
def test_who_joins_a_growing_arm_stays_in_it(shares: list[int]) -> None:
    split = Split.new({"v1": 100.0 - shares[0], "v2": float(shares[0])})
    for _, share in pairwise(shares):
        after = split.changed({"v1": 100.0 - share, "v2": float(share)})
        assert all(
            new == "v2" for old, new in zip(arms_of(split), arms_of(after), strict=True) if old == "v2"
        )
        split = after


def test_from_90_10_to_80_20_moves_a_tenth_of_the_users_and_no_other() -> None:
    before = Split.new({"v1": 90, "v2": 10})
    after = before.changed({"v1": 80, "v2": 20})
    users = [f"user-{number}" for number in range(20_000)]
    changes = Counter(
        (before.arm(bucket), after.arm(bucket)) for bucket in (bucket_of("trial", user) for user in users)
    )
    assert set(changes) == {("v1", "v1"), ("v1", "v2"), ("v2", "v2")}
    assert changes["v1", "v2"] / len(users) == pytest.approx(0.1, abs=5 * math.sqrt(0.09 / len(users)))


def test_an_arm_that_leaves_gives_its_part_to_those_that_grow() -> None:
    before = Split.new({"v1": 50, "v2": 25, "v3": 25})
    assert before.runs == {"v1": ((0, 4999),), "v2": ((5000, 7499),), "v3": ((7500, 9999),)}
    after = before.changed({"v1": 75, "v3": 25})
    assert after.runs == {"v1": ((0, 4999), (7499, 5000)), "v3": ((7500, 9999),)}


@patient
@given(WEIGHTS, st.text("abcxyz.-_0123456789", min_size=1, max_size=20))
def test_keys_fall_to_arms_within_binomial_bounds(weights: dict[str, float], name: str) -> None:
    split, keys = Split.new(weights), 4000
    counts = Counter(split.arm(bucket_of(name, f"key {number}")) for number in range(keys))
    for arm in weights:
        part = split.count(arm) / BUCKETS
        # six standard deviations, and a few for arms so small that a binomial is not yet normal
        assert abs(counts[arm] - keys * part) <= 6 * math.sqrt(keys * part * (1 - part)) + 6 * (part > 0)


def test_buckets_are_equally_likely_by_chi_square() -> None:
    keys, cells = 200_000, 100
    counts = Counter(bucket_of("trial", str(number)) * cells // BUCKETS for number in range(keys))
    expected = keys / cells
    chi_square = sum((counts[cell] - expected) ** 2 / expected for cell in range(cells))
    assert chi_square < cells - 1 + 5 * math.sqrt(2 * (cells - 1))


def test_a_key_has_its_bucket_for_ever_and_another_in_another_experiment() -> None:
    # These numbers are a contract: whoever is in an arm stays there over releases.
    assert [bucket_of("trial", user) for user in ("", "alice", "bob", "Zoë")] == [9384, 892, 2757, 9217]
    assert bucket_of("other", "alice") != bucket_of("trial", "alice")
    assert bucket_of("a", "b\0c") != bucket_of("ab", "\0c")


@patient
@given(st.text())
def test_any_text_is_a_key(key: str) -> None:
    assert 0 <= bucket_of("trial", key) < BUCKETS


@pytest.mark.parametrize(
    ("weights", "sentence"),
    [
        ({}, "one arm at least should have a weight above 0"),
        ({"v1": 0}, "one arm at least should have a weight above 0"),
        ({"v1": -1.0}, "the weight of v1 should be a number of 0 or more, not -1.0"),
        ({"v1": math.nan}, "the weight of v1 should be a number of 0 or more, not nan"),
        ({"v1": math.inf}, "the weight of v1 should be a number of 0 or more, not inf"),
        (
            {"v1": 100_000, "v2": 1},
            "the weight of v2 is below a 10000th of all: give it more, or 0",
        ),
    ],
)
def test_weights_that_are_none_are_refused_with_a_sentence(weights: dict[str, float], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence.replace("(", r"\(")) as caught:
        Split.new(weights)
    assert str(caught.value) == sentence


def test_thirds_get_a_bucket_more_or_less_by_name() -> None:
    assert counts_of({"c": 1, "b": 1, "a": 1}) == {"a": 3334, "b": 3333, "c": 3333}


@patient
@given(HISTORY)
def test_a_split_is_made_anew_from_its_runs(history: list[dict[str, float]]) -> None:
    split = split_after(history)
    assert arms_of(Split(split.runs)) == arms_of(split)


@pytest.mark.parametrize(
    "runs",
    [
        {},
        {"v1": [(0, 9998)]},
        {"v1": [(0, 9999)], "v2": [(0, 0)]},
        {"v1": [(0, 10_000)]},
        {"v1": [(0, 4999), (6000, 9999), (6999, 6000)]},
        {"v1": [(0, 9998), (-1, -1)]},
        {"v1": [(0, 10**12)]},
    ],
)
def test_runs_that_are_no_split_are_refused(runs: dict[str, list[tuple[int, int]]]) -> None:
    with pytest.raises(ValueError, match="bucket"):
        Split(runs)
