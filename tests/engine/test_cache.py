"""Pure: engine/cache.py against a simple model of it; then the same from many threads."""

import threading
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from engine.cache import PredictionCache

A, B, C = b"a", b"b", b"c"


def answer(key: bytes) -> bytes:
    return b"answer to " + key


def fill(cache: PredictionCache, *keys: bytes) -> None:
    claim = cache.claim(keys)
    if claim.owned:
        cache.fulfil(claim, {key: answer(key) for key in claim.owned})


def test_a_row_nobody_knows_is_the_askers_to_compute_and_then_known() -> None:
    cache = PredictionCache(10)
    claim = cache.claim([A, B])
    assert (claim.values, claim.owned, claim.waiting) == ([None, None], {A: 0, B: 1}, {})
    cache.fulfil(claim, {A: b"1", B: b"2"})
    again = cache.claim([B, A])
    assert (again.values, again.owned, again.waiting) == ([b"2", b"1"], {}, {})
    assert (cache.hits, cache.misses, len(cache)) == (2, 2, 2)


def test_equal_rows_of_one_claim_are_owned_once() -> None:
    cache = PredictionCache(10)
    claim = cache.claim([A, B, A])
    assert list(claim.owned) == [A, B]
    assert claim.values == [None, None, None]
    assert (cache.hits, cache.misses) == (1, 2)


def test_an_empty_value_is_a_value() -> None:
    cache = PredictionCache(10)
    cache.fulfil(cache.claim([A]), {A: b""})
    assert cache.claim([A]).values == [b""]


def test_the_least_recently_asked_row_goes_first() -> None:
    cache = PredictionCache(2)
    fill(cache, A)
    fill(cache, B)
    fill(cache, A)
    fill(cache, C)
    assert cache.claim([A, B, C]).values == [answer(A), None, answer(C)]


def test_of_more_rows_than_there_is_room_for_the_last_ones_stay() -> None:
    cache = PredictionCache(2)
    fill(cache, *(bytes([i]) for i in range(5)))
    assert cache.claim([bytes([i]) for i in range(5)]).values == [None] * 3 + [answer(b"\3"), answer(b"\4")]


def test_a_cache_of_no_capacity_keeps_nothing_and_shares_what_is_in_flight() -> None:
    cache = PredictionCache(0)
    first = cache.claim([A])
    second = cache.claim([A])
    assert (second.owned, second.waiting) == ({}, {A: first})
    cache.fulfil(first, {A: b"1"})
    assert second.waiting[A].wait(0) == {A: b"1"}
    assert len(cache) == 0
    assert cache.claim([A]).owned == {A: 0}


def test_a_row_that_failed_is_free_to_be_tried_again() -> None:
    cache = PredictionCache(10)
    first = cache.claim([A, B])
    second = cache.claim([A])
    cache.fulfil(first, {B: b"2"})
    assert second.waiting[A].wait(0).get(A) is None
    third = cache.claim([A], again=True)
    assert third.owned == {A: 0}
    assert (cache.hits, cache.misses) == (0, 3)


def test_nobody_waits_longer_than_they_said() -> None:
    cache = PredictionCache(10)
    owner = cache.claim([A])
    assert cache.claim([A]).waiting[A].wait(0) == {}
    cache.fulfil(owner, {})


class CacheMachine(RuleBasedStateMachine):
    """Claims open and land in any order; the model is an OrderedDict and a dict of who computes what."""

    claims = Bundle("claims")

    @initialize(capacity=st.integers(0, 4))
    def start(self, capacity: int) -> None:
        self.cache = PredictionCache(capacity)
        self.known: OrderedDict[bytes, bytes] = OrderedDict()
        self.flying: dict[bytes, object] = {}
        self.asked = 0

    @rule(target=claims, keys=st.lists(st.sampled_from([bytes([i]) for i in range(7)]), max_size=6))
    def claim(self, keys: list[bytes]) -> object:
        claim = self.cache.claim(keys)
        self.asked += len(keys)
        assert claim.values == [self.known.get(key) for key in keys]
        assert claim.waiting == {key: self.flying[key] for key in keys if key in self.flying}
        assert list(claim.owned) == [
            key for key in dict.fromkeys(keys) if key not in self.known and key not in self.flying
        ]
        assert all(keys[row] == key for key, row in claim.owned.items())
        for key in keys:
            if key in self.known:
                self.known.move_to_end(key)
        self.flying |= dict.fromkeys(claim.owned, claim)
        return claim

    @rule(claim=consumes(claims), failing=st.sets(st.sampled_from([bytes([i]) for i in range(7)])))
    def fulfil(self, claim, failing: set[bytes]) -> None:
        computed = {key: answer(key) for key in claim.owned if key not in failing}
        if claim.owned:
            self.cache.fulfil(claim, computed)
        for key in claim.owned:
            del self.flying[key]
        self.known.update(computed)
        while len(self.known) > self.cache.capacity:
            self.known.popitem(last=False)

    @invariant()
    def the_cache_is_what_the_model_is(self) -> None:
        assert list(self.cache._entries.items()) == list(self.known.items())
        assert {key for claim in self.cache._flying for key in claim.owned} == self.flying.keys()
        assert not self.known.keys() & self.flying.keys()
        assert self.cache.hits + self.cache.misses == self.asked


TestTheCacheIsItsModel = CacheMachine.TestCase
TestTheCacheIsItsModel.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 30), st.integers(1, 6))
def test_from_many_threads_each_gets_right_answers_and_nothing_stays_in_flight(capacity, width) -> None:
    cache = PredictionCache(capacity)
    together = threading.Barrier(4)

    def ask(seed: int) -> None:
        together.wait(10)
        for round in range(40):
            keys = [bytes([(seed * 7 + round * 3 + i) % 20]) for i in range(width)]
            claim = cache.claim(keys)
            if claim.owned:
                cache.fulfil(claim, {key: answer(key) for key in claim.owned})
            for key, other in claim.waiting.items():
                assert other.wait(10)[key] == answer(key)
            assert all(v in (None, answer(k)) for k, v in zip(keys, claim.values, strict=True))

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(ask, range(4)))
    assert cache._flying == []
    assert len(cache) == min(capacity, 20)
    assert cache.hits + cache.misses == 4 * 40 * width


def test_equal_rows_of_two_threads_are_computed_once() -> None:
    cache = PredictionCache(100)
    together = threading.Barrier(8)
    computed: list[bytes] = []

    def ask(_: int) -> list[bytes | None]:
        together.wait(10)
        claim = cache.claim([A, B])
        computed.extend(claim.owned)
        if claim.owned:
            cache.fulfil(claim, {key: answer(key) for key in claim.owned})
        found = dict(zip([A, B], claim.values, strict=True))
        found |= {key: answer(key) for key in claim.owned}
        return [found[key] or claim.waiting[key].wait(10)[key] for key in (A, B)]

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(ask, range(8))) == [[answer(A), answer(B)]] * 8
    assert sorted(computed) == [A, B]
    assert (cache.hits, cache.misses) == (14, 2)


def test_waiting_for_a_claim_that_nobody_was_told_of_is_a_mistake() -> None:
    with pytest.raises(AssertionError, match="only a claim that names this one"):
        PredictionCache(1).claim([A]).wait(0)
