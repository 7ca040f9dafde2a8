"""collaboration: whatever is wrong with a file, a worker refuses it in a sentence or serves it, and what it
serves already it goes on serving."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterator
from dataclasses import replace

import onnx
import pytest
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st

from tests.engine.fuzz.damages import File, damaged
from tests.engine.fuzz.loading import Loaded, LoadingWorker
from tests.engine.runtimes.conftest import make_sample

# Examples of each format: what takes long to load has fewer.
FORMATS = {
    "torch state_dict": 500,
    "linear": 300,
    "safetensors": 400,
    "torchscript": 400,
    "torch.export": 160,
    "sklearn": 300,
    "onnx": 500,
    "xgboost ubj": 400,
    "xgboost json": 400,
    "lightgbm": 400,
}
OTHERS = dict(zip(FORMATS, [*list(FORMATS)[1:], "linear"], strict=True))


class Workers:
    """The worker that files are given to, or the one after it."""

    def __init__(self) -> None:
        self._worker: LoadingWorker | None = None

    def one(self) -> LoadingWorker:
        if self._worker is None or not self._worker.is_alive:
            self._worker = LoadingWorker()
        return self._worker

    def close(self) -> None:
        if self._worker is not None:
            self._worker.close()


@pytest.fixture(scope="module")
def workers() -> Iterator[Workers]:
    made = Workers()
    yield made
    made.close()


def check(workers: Workers, name: str, data: bytes, *, named: bool = True) -> Loaded:
    worker = workers.one()
    sample = replace(make_sample(name), data=data)
    loaded = worker.load(sample, name=f"model{sample.suffix}" if named else "", version="damaged")
    if not loaded.refusal:
        worker.serves(sample)
    worker.is_well()
    return loaded


def test_a_model_that_leaves_a_size_free_serves_rows_of_any(workers: Workers) -> None:
    model = onnx.ModelProto.FromString(make_sample("onnx").data)
    for size in model.graph.input[0].type.tensor_type.shape.dim:
        size.Clear()
    assert check(workers, "onnx", model.SerializeToString()) == Loaded()


@pytest.mark.apart
@pytest.mark.parametrize("name", FORMATS)
def test_many_damaged_files_are_refused_in_a_sentence_or_serve(workers: Workers, name: str) -> None:
    file = File(name, make_sample(name).data, make_sample(OTHERS[name]).data)

    @settings(
        max_examples=FORMATS[name],
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=[
            HealthCheck.too_slow,
            HealthCheck.large_base_example,
            HealthCheck.data_too_large,
        ],
        database=None,
    )
    @given(damaged(file), st.booleans())
    def each(data: bytes, named: bool) -> None:
        note(f"b85, zlib: {base64.b85encode(zlib.compress(data, 9)).decode()}")
        check(workers, name, data, named=named)

    assert check(workers, name, file.data) == Loaded(), "the whole file serves"
    each()
