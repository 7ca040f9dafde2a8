"""Placement of models on workers (pure)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.models.placement import may_hold, place

workers = st.sets(st.uuids().map(lambda u: u.hex), max_size=12)


def test_a_worker_without_patterns_may_hold_every_model() -> None:
    assert may_hold("iris", [])


def test_patterns_are_those_of_a_shell() -> None:
    assert may_hold("iris-2", ["mnist", "iris*"])
    assert not may_hold("iris", ["mnist", "Iris", "iris-*"])


def test_a_model_without_a_number_of_instances_is_on_every_worker_that_may_hold_it() -> None:
    assert place("iris", None, {"a": [], "b": ["iris"], "c": ["mnist"]}) == {"a", "b"}


def test_a_model_nobody_may_hold_is_nowhere() -> None:
    assert place("iris", 2, {"c": ["mnist"]}) == frozenset()


@given(workers, st.integers(1, 5), st.text(min_size=1))
def test_a_model_has_as_many_instances_as_it_should_or_as_there_are_workers(
    ids: set[str], instances: int, model: str
) -> None:
    assert len(place(model, instances, {w: [] for w in ids})) == min(instances, len(ids))


@given(workers, st.integers(1, 5), st.uuids().map(lambda u: u.hex))
def test_a_worker_that_comes_takes_at_most_one_place_of_a_model(
    ids: set[str], instances: int, new: str
) -> None:
    before = place("iris", instances, {w: [] for w in ids})
    after = place("iris", instances, {w: [] for w in ids | {new}})
    assert after - before <= {new}
    assert len(before - after) <= 1


@given(st.sets(st.uuids().map(lambda u: u.hex), min_size=6, max_size=6))
def test_many_models_are_spread_over_all_workers(ids: set[str]) -> None:
    held = dict.fromkeys(ids, 0)
    for n in range(600):
        for worker in place(f"model-{n}", 1, {w: [] for w in ids}):
            held[worker] += 1
    assert min(held.values()) > 50  # the mean is 100
