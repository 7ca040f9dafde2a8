"""Pure: gateway/scheduling/routing.py; the same rows go to the same worker, whoever else comes and goes."""

import statistics

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.tensor import pack_vector
from gateway.scheduling.routing import BALANCE, BUCKETS, SLACK, Preferences, choose, key_of, least_busy

workers = st.sets(st.uuids().map(lambda uuid: uuid.hex), min_size=1, max_size=8)
buckets = st.integers(0, BUCKETS - 1)


def orders(workers: set[str]) -> list[tuple[str, ...]]:
    preferences = Preferences()
    preferences.set_workers(workers)
    return [preferences.order(bucket) for bucket in range(BUCKETS)]


# --- keys


def test_a_row_has_the_same_key_in_every_process_and_release() -> None:
    assert key_of([pack_vector([1.0, 2.0, 3.0])]) == 2987300529
    assert key_of([b"one input", b"another"]) == 2619787846
    assert key_of([b""]) == key_of([]) == 0


@given(st.lists(st.binary(max_size=40), max_size=3))
def test_a_key_is_of_the_bytes_alone(buffers: list[bytes]) -> None:
    key = key_of(buffers)
    assert key_of([bytearray(b) for b in buffers]) == key_of([memoryview(b) for b in buffers]) == key


def test_rows_that_differ_in_one_number_are_spread_over_the_buckets() -> None:
    keys = {key_of([pack_vector([0.5, float(n), 0.25])]) % BUCKETS for n in range(BUCKETS)}
    assert len(keys) > BUCKETS / 2  # as many balls at random would leave 1 / e of the buckets empty


# --- preferences


def test_a_bucket_has_the_same_order_of_workers_in_every_process_and_release() -> None:
    preferences = Preferences()
    preferences.set_workers(["a", "b", "c", "d"])
    assert [preferences.order(bucket) for bucket in (0, 1, 4095)] == [
        ("c", "d", "a", "b"),
        ("b", "d", "a", "c"),
        ("d", "a", "c", "b"),
    ]


@given(workers, buckets)
def test_an_order_has_every_worker_once_whatever_order_they_came_in(ids: set[str], bucket: int) -> None:
    one, other = Preferences(), Preferences()
    one.set_workers(sorted(ids))
    other.set_workers(sorted(ids, reverse=True))
    assert one.order(bucket) == other.order(bucket) == one.order(bucket)
    assert sorted(one.order(bucket)) == sorted(ids)


@given(workers, buckets, st.data())
def test_a_worker_that_goes_moves_only_its_own_rows(ids: set[str], bucket: int, data: st.DataObject) -> None:
    gone = data.draw(st.sampled_from(sorted(ids)))
    preferences = Preferences()
    preferences.set_workers(ids)
    before = preferences.order(bucket)
    preferences.set_workers(ids - {gone})
    assert preferences.order(bucket) == tuple(worker for worker in before if worker != gone)


@settings(max_examples=20, deadline=None)
@given(workers, st.uuids().map(lambda uuid: uuid.hex))
def test_a_worker_that_comes_takes_its_share_and_leaves_the_others_theirs(ids: set[str], new: str) -> None:
    ids = ids - {new}
    before = orders(ids)
    after = orders(ids | {new})
    moved = sum(old[:1] != now[:1] for old, now in zip(before, after, strict=True))
    assert all(now[0] in (old[0], new) for old, now in zip(before, after, strict=True) if old)
    assert moved / BUCKETS == pytest.approx(1 / (len(ids) + 1), rel=0.25)


@pytest.mark.parametrize("count", [2, 3, 5, 10])
def test_every_worker_is_first_for_about_as_many_buckets(count: int) -> None:
    names = {f"{n:032x}" for n in range(count)}
    shares = [sum(order[0] == name for order in orders(names)) for name in names]
    assert statistics.pstdev(shares) < 0.1 * BUCKETS / count


def test_the_rows_of_a_worker_that_goes_are_shared_by_all_the_others() -> None:
    names = {f"{n:032x}" for n in range(5)}
    heirs = [order[1] for order in orders(names) if order[0] == f"{0:032x}"]
    assert {name: heirs.count(name) / len(heirs) for name in set(heirs)} == {
        name: pytest.approx(0.25, rel=0.25) for name in names - {f"{0:032x}"}
    }


# --- load


def test_a_row_goes_to_its_first_worker_while_that_one_is_not_too_busy() -> None:
    assert choose(("a", "b", "c"), {"a": 9, "b": 0, "c": 6}, 1, 15) == "a"  # 10 of at most 2 * 16 / 3
    assert choose(("a", "b", "c"), {"a": 10, "b": 0, "c": 5}, 1, 15) == "b"
    assert choose(("a", "b", "c"), {"a": 10, "b": 10, "c": 0}, 1, 20) == "a"
    assert choose(("a", "c", "b"), {"a": 14, "b": 3, "c": 3}, 1, 20) == "c"


def test_a_few_rows_stay_together_where_nothing_else_is_going_on() -> None:
    loads = {"a": 0, "b": 0, "c": 0, "d": 0}
    chosen = []
    for total in range(5):
        chosen.append(choose(("a", "b", "c", "d"), loads, 1, total))
        loads[chosen[-1]] += 1
    assert chosen == ["a", "a", "a", "a", "b"]


def test_a_request_of_too_many_rows_for_anyone_goes_to_the_least_busy() -> None:
    assert choose(("a", "b", "c"), {"a": 3, "b": 2, "c": 1}, 1000, 6) == "c"


@given(st.lists(st.integers(0, 50), min_size=1, max_size=8), st.integers(1, 100), st.data())
def test_no_worker_gets_more_than_twice_the_mean_unless_nobody_has_room(
    busy: list[int], rows: int, data: st.DataObject
) -> None:
    loads = {f"w{n}": load for n, load in enumerate(busy)}
    order = tuple(data.draw(st.permutations(sorted(loads))))
    chosen = choose(order, loads, rows, sum(busy))
    limit = max(SLACK, BALANCE * (sum(busy) + rows) / len(busy))
    with_room = [worker for worker in order if loads[worker] + rows <= limit]
    if with_room:
        assert chosen == with_room[0]
    else:
        assert loads[chosen] == min(busy)


def test_the_least_busy_worker_is_the_first_of_equals() -> None:
    assert least_busy(["b", "a", "c"], {"a": 1, "b": 1, "c": 2}) == "b"
    assert least_busy(["c", "a", "b"], {"a": 1, "b": 1, "c": 2}) == "a"
