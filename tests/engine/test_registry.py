"""Pure: engine/registry.py, with the sample weights."""

import gc
import struct
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from common.errors import InvalidRequest, LoadError, ModelNotFound, NotFound
from common.tensor import vector_spec
from common.wire import Part, VersionKey
from engine.cache import PredictionCache
from engine.registry import CacheFigures, Registry
from engine.runtimes import torch_state
from engine.runtimes.fake import FakeRuntime


@pytest.fixture
def registry() -> Registry:
    return Registry(device=torch.device("cpu"), cache_size=100)


def predict(registry: Registry, version: str, *row: float) -> float:
    part = Part(vector_spec(2), [1], [30.0])
    ran = registry.get("default", version).run(part, [memoryview(struct.pack("<2f", *row))], time.monotonic())
    (answer,) = struct.unpack("<f", ran.buffers[0])
    return answer


def test_versions_are_held_beside_each_other_until_they_are_dropped(registry, constant) -> None:
    one, two = constant(1.0), constant(2.0)
    registry.load(one.key, one.data)
    registry.load(two.key, two.data)
    assert registry.versions() == [one.key, two.key]
    assert [predict(registry, weights.key.version, 5, 6) for weights in (one, two, one)] == [1.0, 2.0, 1.0]
    registry.drop("default", one.key.version)
    registry.drop("default", "never held")
    assert registry.versions() == [two.key]
    with pytest.raises(NotFound, match=r"^this worker does not hold model 'default' version 'always 1\.0'$"):
        registry.get("default", one.key.version)


def test_weights_that_are_refused_leave_everything_as_it_was(registry, constant) -> None:
    one = constant(1.0)
    registry.load(one.key, one.data)
    with pytest.raises(LoadError):
        registry.load(VersionKey("default", one.key.version, "0" * 64), b"random")
    assert registry.versions() == [one.key]
    assert predict(registry, one.key.version, 5, 6) == 1.0


def test_a_version_held_already_is_not_loaded_again_unless_its_bytes_are_others(registry, constant) -> None:
    one, two = constant(1.0), constant(2.0)
    registry.load(one.key, one.data)
    registry.load(one.key, b"not even looked at")
    registry.load(VersionKey("default", one.key.version, two.key.sha256), two.data)
    assert predict(registry, one.key.version, 5, 6) == 2.0


def test_cache_figures_go_on_counting_when_versions_go(registry, constant) -> None:
    one, two = constant(1.0), constant(2.0)
    for weights in (one, two):
        registry.load(weights.key, weights.data)
        predict(registry, weights.key.version, 1, 2)
        predict(registry, weights.key.version, 1, 2)
    assert registry.cache_figures() == CacheFigures(size=2, capacity=200, hits=2, misses=2)
    registry.drop("default", one.key.version)
    assert registry.cache_figures() == CacheFigures(size=1, capacity=100, hits=2, misses=2)
    registry.load(VersionKey("default", two.key.version, one.key.sha256), one.data)
    assert registry.cache_figures() == CacheFigures(size=0, capacity=100, hits=2, misses=2)


def test_a_dropped_version_is_freed_with_its_cache_once_its_last_batch_ends(registry, constant) -> None:
    weights = constant(1.0)
    registry.load(weights.key, weights.data)
    predict(registry, weights.key.version, 1, 2)
    execution = registry.get("default", weights.key.version)
    gone = [weakref.ref(execution), weakref.ref(execution.cache), weakref.ref(execution._runtime)]
    registry.drop("default", weights.key.version)
    assert all(ref() is not None for ref in gone)
    gc.disable()  # no cycle keeps it until some collection
    try:
        del execution
        assert [ref() for ref in gone] == [None, None, None]
    finally:
        gc.enable()


def test_while_one_version_loads_another_serves_and_status_answers(registry, constant, monkeypatch) -> None:
    one, two = constant(1.0), constant(2.0)
    registry.load(one.key, one.data)
    loading, finish = threading.Event(), threading.Event()

    def slow(*_: object) -> FakeRuntime:
        loading.set()
        assert finish.wait(30)
        return FakeRuntime()

    monkeypatch.setattr(torch_state, "load", slow)
    with ThreadPoolExecutor(1) as threads:
        load = threads.submit(registry.load, two.key, two.data)
        assert loading.wait(10)
        assert predict(registry, one.key.version, 5, 6) == 1.0
        assert registry.versions() == [one.key]
        assert registry.cache_figures().size == 1
        finish.set()
        load.result(10)
    assert registry.versions() == [one.key, two.key]


def test_the_active_version_is_the_one_named_else_the_one_loaded_last(registry, constant) -> None:
    one, two = constant(1.0), constant(2.0)
    assert registry.active("default") is None
    for weights in (one, two):
        registry.load(weights.key, weights.data)
    assert registry.active("default") == two.key.version
    registry.activate("default", one.key.version)
    assert registry.active("default") == one.key.version
    registry.drop("default", one.key.version)
    assert registry.active("default") == two.key.version
    with pytest.raises(ModelNotFound, match=r"^model 'default' has no version 'always 1\.0' loaded$"):
        registry.activate("default", one.key.version)


def test_a_name_is_reserved_while_its_version_loads(registry, constant) -> None:
    weights = constant(1.0)
    with registry.reserve("m", None) as one, registry.reserve("m", None) as two:
        assert (one, two) == ("1", "2")
        with (
            pytest.raises(InvalidRequest, match="has a version '2': unload it first"),
            registry.reserve("m", "2"),
        ):
            pass
        registry.load(VersionKey("m", two, ""), weights.data)
    with registry.reserve("m", None) as three, registry.reserve("other", None) as first:
        assert (three, first) == ("3", "1")
    with registry.reserve("m", "1"):
        pass


def test_each_version_has_the_cache_and_batches_it_was_given(registry, constant) -> None:
    weights = constant(1.0)
    cache = PredictionCache(3, round_decimals=2)
    execution = registry.load(VersionKey("m", "1", ""), weights.data, cache=cache, max_batch=7)
    assert (execution.cache, execution._max_batch) == (cache, 7)
    assert registry.load(weights.key, weights.data).cache.capacity == 100
    again = registry.load(VersionKey("m", "1", ""), weights.data)
    assert again is not execution  # without a sha256 nobody knows that it is the same
