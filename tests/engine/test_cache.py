"""Pure: engine/cache.py against a simple model of it; then the same from many threads."""

import threading
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from engine.cache import ENTRY_BYTES, PredictionCache

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


def test_no_more_bytes_are_held_than_may_be() -> None:
    entry = ENTRY_BYTES + len(A) + len(answer(A))
    cache = PredictionCache(100, max_bytes=2 * entry)
    fill(cache, A)
    assert cache.size_bytes == entry
    fill(cache, B)
    assert (cache.size_bytes, cache.evictions) == (2 * entry, 0)
    fill(cache, A)
    fill(cache, C)
    assert cache.claim([A, B, C]).values == [answer(A), None, answer(C)]
    assert (cache.size_bytes, cache.evictions, len(cache)) == (2 * entry, 1, 2)


def test_an_answer_larger_than_the_whole_cache_is_not_kept_and_one_of_no_bytes_keeps_none() -> None:
    cache = PredictionCache(100, max_bytes=1000)
    claim = cache.claim([A])
    cache.fulfil(claim, {A: bytes(1000)})
    assert (len(cache), cache.size_bytes) == (0, 0)
    nothing = PredictionCache(100, max_bytes=0)
    fill(nothing, A)
    assert (len(nothing), nothing.size_bytes) == (0, 0)


@pytest.mark.parametrize(("capacity", "max_bytes"), [(-1, None), (1, -1)])
def test_a_cache_of_less_than_nothing_is_refused(capacity, max_bytes) -> None:
    with pytest.raises(ValueError, match="give 0 or more"):
        PredictionCache(capacity, max_bytes=max_bytes)


def test_a_peek_counts_what_it_finds_and_keeps_it_fresh() -> None:
    cache = PredictionCache(2)
    assert cache.peek(A) is None
    fill(cache, A)
    fill(cache, B)
    assert cache.peek(A) == answer(A)
    fill(cache, C)
    assert cache.claim([A, B]).values == [answer(A), None]
    assert (cache.hits, cache.misses) == (2, 4)


def test_invalidating_forgets_what_is_known_and_what_is_being_computed() -> None:
    cache = PredictionCache(10)
    fill(cache, A)
    early = cache.claim([B])
    waits = cache.claim([B])
    cache.invalidate()
    assert (len(cache), cache.size_bytes, cache.peek(A)) == (0, 0, None)
    later = cache.claim([B])
    assert list(later.owned) == [B]  # not the early one's answer, which is of before
    cache.fulfil(early, {B: b"old"})
    assert waits.waiting[B].wait(0) == {B: b"old"}
    assert cache.peek(B) is None
    cache.fulfil(later, {B: b"new"})
    assert cache.peek(B) == b"new"
    assert cache._flying == []


# --- whole tensors


class Doubling:
    """A model of tensors; `seen` is what it was asked."""

    def __init__(self) -> None:
        self.seen: list[torch.Tensor] = []

    def __call__(self, tensor: torch.Tensor) -> torch.Tensor:
        self.seen.append(tensor.clone())
        return tensor * 2


def test_a_whole_tensor_is_answered_by_the_model_once() -> None:
    model = Doubling()
    cache = PredictionCache(10, model=model)
    tensor = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    first, second = cache.Predict(tensor), cache.Predict(tensor.clone())
    assert (first[1], second[1], len(model.seen)) == (False, True, 1)
    assert torch.equal(first[0], tensor * 2)
    first[0].zero_()
    second[0].zero_()
    assert torch.equal(cache.Predict(tensor)[0], tensor * 2)
    assert (cache.hits, cache.misses) == (2, 1)


@pytest.mark.parametrize(
    "other",
    [
        torch.tensor([1.0, 2.0, 3.0, 5.0]),
        torch.tensor([[1.0, 2.0], [3.0, 4.0]]),
        torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64),
        torch.tensor([1, 2, 3, 4]),
        torch.tensor([]),
        torch.tensor(1.0),
        torch.tensor([True]),
        torch.tensor([1.0, 2.0], dtype=torch.bfloat16),
        torch.arange(8.0)[::2],
    ],
)
def test_tensors_of_other_numbers_shapes_or_dtypes_share_nothing_and_come_back_as_they_were(other) -> None:
    cache = PredictionCache(10, model=lambda tensor: tensor)
    cache.Predict(torch.tensor([1.0, 2.0, 3.0, 4.0]))
    for expected in (False, True):
        y, hit = cache.Predict(other)
        assert hit is expected
        assert (y.dtype, y.shape) == (other.dtype, other.shape)
        assert torch.equal(y, other)


def test_the_model_sees_the_rounded_tensor_and_equal_rounded_tensors_share_an_answer() -> None:
    model = Doubling()
    cache = PredictionCache(10, round_decimals=4, model=model)
    y, _ = cache.Predict(torch.tensor([[0.12344, -0.00001]]))
    assert torch.equal(model.seen[0], torch.tensor([[0.1234, 0.0]]))
    assert torch.equal(y, torch.tensor([[0.2468, 0.0]]))
    assert cache.Predict(torch.tensor([[0.12336, 0.00001]]))[1] is True
    assert cache.Predict(torch.tensor([[0.12346, 0.00001]]))[1] is False
    assert cache.Predict(torch.tensor([3]))[0].tolist() == [6]


def test_another_model_answers_for_itself_also_while_the_first_still_computes() -> None:
    entered, go_on = threading.Event(), threading.Event()

    def slow(tensor: torch.Tensor) -> torch.Tensor:
        entered.set()
        assert go_on.wait(10)
        return tensor * 0

    cache = PredictionCache(10, model=slow)
    tensor = torch.tensor([1.0])
    with ThreadPoolExecutor(1) as threads:
        early = threads.submit(cache.Predict, tensor)
        assert entered.wait(10)
        cache.use(Doubling())
        assert cache.Predict(tensor)[0].tolist() == [2.0]
        go_on.set()
        assert early.result(10)[0].tolist() == [0.0]
    assert cache.Predict(tensor) == (torch.tensor([2.0]), True)


def test_a_model_that_fails_is_asked_again_and_none_at_all_is_told() -> None:
    failures = [ValueError("once")]

    def fickle(tensor: torch.Tensor) -> torch.Tensor:
        if failures:
            raise failures.pop()
        return tensor

    cache = PredictionCache(10, model=fickle)
    with pytest.raises(ValueError, match="once"):
        cache.Predict(torch.tensor([1.0]))
    assert cache.Predict(torch.tensor([1.0]))[1] is False
    with pytest.raises(RuntimeError, match="this cache was given no model"):
        PredictionCache(1).Predict(torch.tensor([1.0]))


def test_equal_tensors_of_many_threads_are_computed_once() -> None:
    together = threading.Barrier(16)
    model = Doubling()
    cache = PredictionCache(10, model=model)

    def ask(_: int) -> list[float]:
        together.wait(10)
        return cache.Predict(torch.tensor([1.0, 2.0]))[0].tolist()

    with ThreadPoolExecutor(16) as threads:
        assert list(threads.map(ask, range(16))) == [[2.0, 4.0]] * 16
    assert len(model.seen) == 1


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
        if any(self.flying.get(key) is claim for key in claim.owned):  # not invalidated meanwhile
            for key in claim.owned:
                del self.flying[key]
            self.known.update(computed)
        while len(self.known) > self.cache.capacity:
            self.known.popitem(last=False)

    @rule()
    def invalidate(self) -> None:
        self.cache.invalidate()
        self.known.clear()
        self.flying.clear()

    @invariant()
    def the_cache_is_what_the_model_is(self) -> None:
        assert list(self.cache._entries.items()) == list(self.known.items())
        assert {key for claim in self.cache._flying for key in claim.owned} == self.flying.keys()
        assert not self.known.keys() & self.flying.keys()
        assert self.cache.hits + self.cache.misses == self.asked
        assert self.cache.size_bytes == sum(ENTRY_BYTES + len(k) + len(v) for k, v in self.known.items())


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
