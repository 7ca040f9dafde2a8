"""Collaboration: a registry with a budget: real torch models, and threads that predict while others go."""

from __future__ import annotations

import gc
import hashlib
import io
import struct
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest
import torch

from common.errors import LoadError, ModelNotFound
from common.models import ModelSettings
from common.tensor import vector_spec
from common.wire import Load, Part, VersionKey
from engine import room as room_module
from engine.execution import Execution
from engine.registry import Registry

MIB = 1 << 20
FACTORS = (1.0, 2.0, 3.0)


class Summing(torch.nn.Module):
    """Answers a row's sum times a number, and keeps `size` bytes of memory."""

    def __init__(self, factor: float, size: int = MIB) -> None:
        super().__init__()
        self.register_buffer("factors", torch.full((size // 4,), factor))

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return rows.sum(dim=1) * self.factors[0]


def program(factor: float, size: int = MIB) -> bytes:
    file = io.BytesIO()
    torch.jit.save(torch.jit.script(Summing(factor, size)), file)
    return file.getvalue()


@pytest.fixture(scope="module")
def models() -> dict[float, bytes]:
    return {factor: program(factor) for factor in FACTORS}


def load(registry: Registry, data: bytes, model: str, *, by: str = "", staged: bool = False) -> Execution:
    key = VersionKey(model, "1", hashlib.sha256(data).hexdigest(), by)
    row = {"name": "vector", "datatype": "FP32", "shape": [2]}
    settings = msgspec.convert({"inputs": [row], "cache_size": 0}, ModelSettings)
    wanted = Load(["w"], key, len(data), file="model.ts", settings=settings, staged=staged)
    return registry.load_version(wanted, data)


def predict(registry: Registry, model: str, *row: float) -> float:
    part = Part(vector_spec(2), [1], [30.0])
    with registry.use(model, "1") as execution:
        ran = execution.run(part, [memoryview(struct.pack("<2f", *row))], time.monotonic())
    (answer,) = struct.unpack("<f", ran.buffers[0])
    return answer


def make(mib: float) -> Registry:
    return Registry(device=torch.device("cpu"), cache_size=0, memory_limit=int(mib * MIB))


def names(registry: Registry) -> list[str]:
    return [key.model for key in registry.versions()]


def test_the_least_recently_used_model_makes_room_and_says_so_once(models):
    registry = make(2.5)
    load(registry, models[1.0], "one")
    load(registry, models[2.0], "two")
    assert 2 * MIB < registry.room.used < 2.5 * MIB
    assert predict(registry, "one", 1, 2) == 3.0
    load(registry, models[3.0], "three")
    assert names(registry) == ["one", "three"]
    assert [key.model for key in registry.take_evicted()] == ["two"]
    assert registry.take_evicted() == []
    with pytest.raises(ModelNotFound, match=r"^this worker does not hold model 'two' version '1'$"):
        predict(registry, "two", 1, 2)
    load(registry, models[2.0], "two")
    assert predict(registry, "two", 1, 2) == 6.0


def test_a_model_bigger_than_the_budget_is_refused_and_drives_nobody_out(models):
    registry = make(1.5)
    load(registry, models[1.0], "one")
    with pytest.raises(
        LoadError, match=r"^the model takes 2\.0 MiB, and --memory_mb allows 1\.5 MiB for all"
    ):
        load(registry, program(4.0, 2 * MIB), "big")
    assert names(registry) == ["one"]


def test_an_evicted_model_is_freed(models):
    registry = make(1.5)
    load(registry, models[1.0], "one")
    gone = weakref.ref(registry.get("one", "1"))
    gc.disable()
    try:
        load(registry, models[2.0], "two")
        assert gone() is None
    finally:
        gc.enable()


def test_a_model_that_is_dropped_leaves_its_room(models):
    registry = make(1.5)
    load(registry, models[1.0], "one")
    registry.drop("one", "1")
    assert registry.room.used == 0
    load(registry, models[2.0], "two")
    assert registry.take_evicted() == []


def held(registry: Registry) -> list[tuple[str, str]]:
    return [(key.model, key.settings) for key in registry.versions()]


def test_a_version_that_is_staged_has_room_beside_the_one_that_serves_until_a_commit_releases_one(models):
    registry = make(2.5)
    load(registry, models[1.0], "one", by="old")
    load(registry, models[2.0], "two")
    load(registry, models[1.0], "one", by="new", staged=True)
    assert [key.model for key in registry.take_evicted()] == ["two"]
    assert predict(registry, "one", 1, 2) == 3.0
    assert 2 * MIB < registry.room.used < 2.5 * MIB
    registry.commit("one", "1", "new")
    assert held(registry) == [("one", "new")]
    assert MIB < registry.room.used < 1.5 * MIB
    load(registry, models[2.0], "two")
    load(registry, models[3.0], "three")  # what was staged is idle now, like any other
    assert names(registry) == ["two", "three"]


@pytest.mark.parametrize(
    "end",
    [
        lambda registry: registry.commit("one", "1", "old"),
        lambda registry: registry.forget_staged(),
        lambda registry: registry.drop("one", "1"),
    ],
)
def test_what_is_staged_is_never_evicted_and_its_room_is_free_once_it_is_not_wanted(models, monkeypatch, end):
    monkeypatch.setattr(room_module, "BUSY_TIME", 0.05)
    registry = make(2.5)
    load(registry, models[1.0], "one", by="old")
    load(registry, models[1.0], "one", by="new", staged=True)
    with pytest.raises(LoadError, match="and models in use leave no room for it"):
        load(registry, models[2.0], "two")
    assert held(registry) == [("one", "old")]
    assert registry.take_evicted() == []
    end(registry)
    load(registry, models[2.0], "two")
    assert registry.take_evicted() == []
    assert registry.room.used < 2.5 * MIB


def test_a_version_for_which_there_is_no_room_twice_is_not_staged_and_serves_on(models):
    registry = make(1.5)
    load(registry, models[1.0], "one", by="old")
    sentence = (
        r"^the model takes 1\.0 MiB beside the 1\.0 MiB that it takes as it is loaded now, and --memory_mb"
    )
    with pytest.raises(LoadError, match=sentence):
        load(registry, models[1.0], "one", by="new", staged=True)
    assert (held(registry), predict(registry, "one", 1, 2)) == ([("one", "old")], 3.0)


def test_a_load_waits_until_it_is_settled_which_of_the_two_goes(models):
    registry = make(2.5)
    load(registry, models[1.0], "one", by="old")
    load(registry, models[1.0], "one", by="new", staged=True)
    with ThreadPoolExecutor(1) as threads:
        loading = threads.submit(load, registry, models[2.0], "two")
        registry.commit("one", "1", "new")
        loading.result(10)
    assert held(registry) == [("one", "new"), ("two", "")]


def test_threads_that_predict_while_models_come_and_go_get_right_answers_or_are_told_so(models):
    """Room for two of three models: four threads ask all of them, and load what they do not find."""
    registry = make(2.5)
    names_of = {"one": 1.0, "two": 2.0, "three": 3.0}
    loads = [threading.Lock() for _ in names_of]
    executions: list[weakref.ref[object]] = []

    def ask(seed: int) -> tuple[int, int]:
        asked = missed = 0
        for n in range(90):
            index = (n + seed) % 3
            model, factor = list(names_of.items())[index]
            while True:
                try:
                    assert predict(registry, model, n, seed) == (n + seed) * factor
                    asked += 1
                    break
                except ModelNotFound:
                    missed += 1
                    with loads[index]:
                        executions.append(weakref.ref(load(registry, models[factor], model)))
                        registry.keep(model, "1")
            assert registry.room.used <= 2.5 * MIB
        return asked, missed

    with ThreadPoolExecutor(4) as threads:
        results = list(threads.map(ask, range(4)))
    assert [asked for asked, _ in results] == [90] * 4
    assert sum(missed for _, missed in results) > 3  # they came and went
    assert len(names(registry)) == 2
    gc.collect()
    assert len({id(ref()) for ref in executions if ref() is not None}) <= 2
