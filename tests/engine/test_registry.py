"""Pure: engine/registry.py, with the sample weights."""

import gc
import hashlib
import pickle
import struct
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import pytest
import torch

from common.errors import InvalidRequest, LoadError, ModelNotFound, NotFound
from common.models import ModelInput, ModelSettings
from common.tensor import TensorSpec, vector_spec
from common.wire import Load, Part, VersionKey
from engine import loading as loading_module
from engine.cache import CacheFigures, PredictionCache
from engine.registry import Registry
from engine.runtimes import torch_state
from engine.runtimes.fake import FakeRuntime
from engine.runtimes.options import LoadOptions


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
    assert registry.cache_figures()._replace(bytes=0) == CacheFigures(2, 200, 2, 2)
    registry.drop("default", one.key.version)
    assert registry.cache_figures()._replace(bytes=0) == CacheFigures(1, 100, 2, 2, forgotten=1)
    registry.load(VersionKey("default", two.key.version, one.key.sha256), one.data)
    assert registry.cache_figures()._replace(bytes=0) == CacheFigures(0, 100, 2, 2, forgotten=2)


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


# --- what a gateway asks for


def load_of(weights: Any, *, model: str = "m", version: str = "1", file: str = "", **settings: Any) -> Load:
    key = VersionKey(model, version, weights.key.sha256)
    return Load(["w"], key, len(weights.data), file=file, settings=ModelSettings(**settings))


@pytest.fixture
def options(monkeypatch) -> list[Any]:
    """What the runtime of every load is asked: (format, options)."""
    asked: list[Any] = []

    def load(source: object, kind: str | None, options: LoadOptions, device: object) -> FakeRuntime:
        asked.append((kind, options))
        return FakeRuntime()

    monkeypatch.setattr("engine.loading.load_runtime", load)
    return asked


def test_a_version_without_settings_has_the_workers_own_cache_and_the_sample_network(
    registry, constant
) -> None:
    weights = constant(1.0)
    execution = registry.load_version(load_of(weights), weights.data)
    assert (execution.cache.capacity, execution.cache.round_decimals) == (100, None)
    assert execution._max_batch == ModelSettings().max_batch == 1024
    assert registry.get("m", "1") is execution
    assert registry.versions() == [VersionKey("m", "1", weights.key.sha256)]


def test_a_models_settings_say_how_it_is_loaded(constant, options) -> None:
    own = LoadOptions(allow_pickle=True, allow_code=("shop.*",), trusted=("a.B",))
    registry = Registry(device=torch.device("cpu"), cache_size=100, allowed=own)
    weights = constant(1.0)
    row = ModelInput(name="x", datatype="FP64", shape=(3,))
    registry.load_version(
        load_of(weights, runtime="torch", architecture="shop:Net", arguments={"width": 5}, inputs=(row,)),
        weights.data,
    )
    registry.load_version(load_of(weights, version="2", runtime="onnx"), weights.data)
    assert options == [
        (
            "torch",
            LoadOptions(
                architecture="shop:Net",
                arguments={"width": 5},
                inputs=(TensorSpec("x", "FP64", (3,)),),
                allow_pickle=True,
                allow_code=("shop.*",),
                trusted=("a.B",),
            ),
        ),
        ("onnx", own),
    ]


@pytest.mark.parametrize(("cache_size", "capacity"), [(None, 100), (0, 0), (7, 7)])
def test_a_models_settings_say_how_it_is_served(
    registry, constant, cache_size: int | None, capacity: int
) -> None:
    weights = constant(1.0)
    execution = registry.load_version(
        load_of(weights, cache_size=cache_size, round_decimals=2, max_batch=5), weights.data
    )
    assert (execution.cache.capacity, execution.cache.round_decimals) == (capacity, 2)
    assert execution._max_batch == 5


def test_rounded_rows_share_an_answer_where_the_settings_say_so(registry, adding) -> None:
    for version, decimals in (("exact", None), ("rounded", 1)):
        load = load_of(adding, model="default", version=version, round_decimals=decimals)
        registry.load_version(load, adding.data)
    exact = [predict(registry, "exact", x, 0.0) for x in (0.51, 0.49)]
    rounded = [predict(registry, "rounded", x, 0.0) for x in (0.51, 0.49)]
    assert exact[0] != exact[1]
    assert rounded == [predict(registry, "exact", 0.5, 0.0)] * 2


@pytest.mark.parametrize(
    ("data", "file", "runtime", "kind"),
    [
        (b"shop.nets:answer\n", "", "", "python"),  # the bytes tell
        (b"shop.nets:answer\n", "model.onnx", "", "python"),  # also where the name says otherwise
        (b"who knows", "model.onnx", "", "onnx"),  # else the name does
        (b"\x80\x04who knows", "model.pt", "", "torch"),
        (b"who knows", "model.onnx", "xgboost", "xgboost"),  # and the settings above all
    ],
)
def test_the_format_is_that_of_the_settings_or_the_bytes_or_the_files_name(
    registry, options, tmp_path, data: bytes, file: str, runtime: str, kind: str
) -> None:
    path = tmp_path / hashlib.sha256(data).hexdigest()  # as a worker on the gateway's machine reads it
    path.write_bytes(data)
    for version, source in (("1", data), ("2", path)):
        load = Load(["w"], VersionKey("m", version, ""), len(data), file=file)
        registry.load_version(msgspec.structs.replace(load, settings=ModelSettings(runtime=runtime)), source)
    assert [asked for asked, _ in options] == [kind, kind]


def test_a_file_of_no_format_is_refused(registry) -> None:
    load = Load(["w"], VersionKey("m", "1", ""), 9, file="model.bin")
    with pytest.raises(LoadError, match=r"^the file is of none of the known formats: "):
        registry.load_version(load, b"who knows")
    assert registry.versions() == []


def test_a_pickle_is_refused_by_its_bytes_unless_the_operator_allows_it(registry) -> None:
    load = Load(["w"], VersionKey("m", "1", ""), 9, file="model.skops")
    with pytest.raises(LoadError, match=r"start the worker with --allow-pickle$"):
        registry.load_version(load, pickle.dumps(print))


def test_warm_up_rows_are_run_before_a_version_serves(registry, constant, monkeypatch) -> None:
    runtime = FakeRuntime(bad=(13.0,))
    monkeypatch.setattr(loading_module, "load_runtime", lambda *_: runtime)
    weights = constant(1.0)
    registry.load_version(load_of(weights, warmup_rows=((1.0, 2.0), (3.0, 4.0))), weights.data)
    assert runtime.calls == [[[1.0, 2.0], [3.0, 4.0]]]
    runtime.calls.clear()
    registry.load_version(load_of(weights, version="2", warmup_rows=3), weights.data)
    assert runtime.calls == [[[0.0, 0.0]] * 3] * 2


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ((1.0, 13.0), "does not run on warmup_rows: cannot run 13.0"),
        ((1.0, 2.0, 3.0), "does not run on warmup_rows: cannot reshape"),
    ],
)
def test_a_version_that_fails_on_its_warm_up_rows_does_not_serve(
    registry, constant, monkeypatch, row: tuple[float, ...], sentence: str
) -> None:
    monkeypatch.setattr(loading_module, "load_runtime", lambda *_: FakeRuntime(bad=(13.0,)))
    weights = constant(1.0)
    with pytest.raises(LoadError, match=sentence):
        registry.load_version(load_of(weights, warmup_rows=(row,)), weights.data)
    assert registry.versions() == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="here is the device that the test wants to be absent")
def test_a_model_that_wants_a_device_that_is_not_there_is_refused(registry, constant) -> None:
    weights = constant(1.0)
    with pytest.raises(LoadError, match="wants the device cuda:1, and torch finds no CUDA device"):
        registry.load_version(load_of(weights, device="cuda:1"), weights.data)
    assert registry.load_version(load_of(weights, device="cpu"), weights.data)


# --- the same version loaded by other settings


def with_settings(key: VersionKey, settings: str) -> VersionKey:
    return VersionKey(key.model, key.version, key.sha256, settings)


def test_what_is_staged_serves_only_once_it_is_committed(registry, constant) -> None:
    one, two = constant(1.0), constant(2.0)
    registry.load(one.key, one.data)
    key = with_settings(one.key, "by")
    registry.load(key, two.data, staged=True)
    assert (registry.versions(), predict(registry, one.key.version, 5, 6)) == ([one.key], 1.0)
    registry.commit("default", one.key.version, "by")
    assert (registry.versions(), predict(registry, one.key.version, 5, 6)) == ([key], 2.0)
    registry.commit("default", one.key.version, "")  # nothing is staged any more
    assert registry.versions() == [key]


@pytest.mark.parametrize(
    "end",
    [
        lambda registry, key: registry.commit("default", key.version, key.settings),
        lambda registry, key: registry.forget_staged(),
        lambda registry, key: registry.load(key, b"held already", staged=True),
    ],
)
def test_what_is_staged_and_not_wanted_leaves_what_serves_and_is_freed(registry, constant, end) -> None:
    one = constant(1.0)
    registry.load(one.key, one.data)
    serving = registry.get("default", one.key.version)
    gone = weakref.ref(registry.load(with_settings(one.key, "by"), constant(2.0).data, staged=True))
    assert gone() is not None
    end(registry, one.key)
    assert gone() is None
    assert (registry.versions(), registry.get("default", one.key.version)) == ([one.key], serving)
    registry.commit("default", one.key.version, "by")
    assert registry.versions() == [one.key]


def test_other_settings_replace_what_is_held_where_nothing_is_to_be_staged(registry, constant) -> None:
    one, two = constant(1.0), constant(2.0)
    registry.load(one.key, one.data)
    registry.load(with_settings(one.key, "by"), two.data)
    assert (registry.versions(), predict(registry, one.key.version, 5, 6)) == (
        [with_settings(one.key, "by")],
        2.0,
    )


def test_what_is_staged_waits_for_a_commit_also_where_nothing_is_held_or_is_loaded_meanwhile(
    registry, constant
) -> None:
    one, two = constant(1.0), constant(2.0)
    key = with_settings(one.key, "by")
    registry.load(key, two.data, staged=True)
    assert registry.versions() == []
    registry.load(one.key, one.data)
    assert (registry.versions(), predict(registry, one.key.version, 5, 6)) == ([one.key], 1.0)
    registry.commit("default", one.key.version, "by")
    assert (registry.versions(), predict(registry, one.key.version, 5, 6)) == ([key], 2.0)


def test_a_version_that_is_dropped_takes_what_is_staged_with_it(registry, constant) -> None:
    one = constant(1.0)
    registry.load(one.key, one.data)
    gone = weakref.ref(registry.load(with_settings(one.key, "by"), one.data, staged=True))
    registry.drop("default", one.key.version)
    assert gone() is None
    registry.commit("default", one.key.version, "by")
    assert registry.versions() == []


def test_what_is_staged_and_refused_leaves_everything_as_it_was(registry, constant) -> None:
    one = constant(1.0)
    registry.load(one.key, one.data)
    with pytest.raises(LoadError):
        registry.load(with_settings(one.key, "by"), b"random", staged=True)
    registry.commit("default", one.key.version, "by")
    assert registry.versions() == [one.key]
