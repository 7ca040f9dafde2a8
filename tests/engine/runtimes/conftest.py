"""Small real models of every format, each saved by its own library, with rows and that library's answers."""

from __future__ import annotations

import io
import pickle
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import joblib
import lightgbm
import numpy as np
import onnx
import pytest
import safetensors.torch
import skops.io
import torch
import xgboost
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_diabetes, load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from common.tensor import TensorSpec
from engine.runtimes.networks import SampleNetwork
from engine.runtimes.options import LoadOptions

SEED = 7
IMAGE = (TensorSpec("image", "FP32", (1, 8, 8)),)
VECTOR = (TensorSpec("vector", "FP32", (4,)),)


@dataclass(frozen=True)
class Sample:
    """A model file, the arrays of a few hundred rows, and what its own library answers to them."""

    kind: str
    data: bytes
    rows: list[Any]
    expected: list[Any]
    suffix: str = ""
    options: LoadOptions = field(default_factory=LoadOptions)


class SmallCnn(nn.Module):
    """Two layers over images of 8 by 8: float32 (n, 1, 8, 8) to (n, 3)."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, width, 3)
        self.head = nn.Linear(width * 36, 3)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.conv(image)).flatten(1))


def double_and_sum(x: Any, *, factor: float = 2.0) -> dict[str, Any]:
    """The callable of the tests."""
    return {"scaled": x * np.float32(factor), "sum": x.sum(axis=1)}


def saved(thing: object) -> bytes:
    file = io.BytesIO()
    torch.save(thing, file)
    return file.getvalue()


def random_rows(*shape: int, dtype: Any = np.float32, rows: int = 200) -> Any:
    return np.random.default_rng(SEED).random((rows, *shape)).astype(dtype)


def seeded(make: Callable[..., nn.Module], *arguments: Any) -> nn.Module:
    torch.manual_seed(SEED)
    return make(*arguments).eval().requires_grad_(False)


def answer(network: nn.Module, rows: Any) -> list[Any]:
    return [network(torch.from_numpy(rows)).detach().numpy()]


def make_torch() -> Sample:
    network, rows = seeded(SampleNetwork), random_rows(2)
    return Sample("torch", saved(network.state_dict()), [rows], answer(network, rows), ".pt")


def make_torch_class() -> Sample:
    network, rows = seeded(SmallCnn, 5), random_rows(1, 8, 8)
    options = LoadOptions(
        architecture=f"{SmallCnn.__module__}:SmallCnn",
        arguments={"width": 5},
        inputs=IMAGE,
        allow_code=(SmallCnn.__module__,),
    )
    return Sample("torch", saved(network.state_dict()), [rows], answer(network, rows), ".pt", options)


def make_linear(*shape: int, dtype: Any = np.float64) -> Sample:
    coefs = np.random.default_rng(1).normal(size=shape).astype(dtype)
    rows = random_rows(shape[0], dtype=dtype)
    return Sample("torch", saved({"coefs": torch.from_numpy(coefs)}), [rows], [rows @ coefs], ".pt")


def make_safetensors() -> Sample:
    network, rows = seeded(SampleNetwork), random_rows(2)
    data = safetensors.torch.save(network.state_dict())
    return Sample("safetensors", data, [rows], answer(network, rows), ".safetensors")


def make_torchscript() -> Sample:
    network, rows = seeded(SmallCnn), random_rows(1, 8, 8)
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(torch.jit.script(network), file)
    options = LoadOptions(inputs=IMAGE)
    return Sample("torchscript", file.getvalue(), [rows], answer(network, rows), ".pt", options)


def make_torch_export(rows_fixed: int = 0) -> Sample:
    network, rows = seeded(SmallCnn), random_rows(1, 8, 8)
    shapes = None if rows_fixed else ({0: torch.export.Dim("rows", min=1, max=4096)},)
    program = torch.export.export(
        network, (torch.zeros(rows_fixed or 2, 1, 8, 8),), dynamic_shapes=shapes, strict=False
    )
    file = io.BytesIO()
    torch.export.save(program, file)
    return Sample("torch_export", file.getvalue(), [rows], answer(network, rows), ".pt2")


def make_sklearn() -> Sample:
    x, y = load_iris(return_X_y=True)
    pipeline = make_pipeline(StandardScaler(), LogisticRegression()).fit(x, y)
    return Sample(
        "sklearn",
        skops.io.dumps(pipeline),
        [x],
        [pipeline.predict(x), pipeline.predict_proba(x)],
        ".skops",
        LoadOptions(methods=("predict", "predict_proba")),
    )


def make_pickle(dump: Callable[[Any], bytes] = pickle.dumps, suffix: str = ".pkl") -> Sample:
    x, y = load_iris(return_X_y=True)
    model = LogisticRegression(max_iter=1000).fit(x, y)
    return Sample("pickle", dump(model), [x], [model.predict(x)], suffix, LoadOptions(allow_pickle=True))


def joblib_dumps(thing: Any) -> bytes:
    file = io.BytesIO()
    joblib.dump(thing, file, compress=3)
    return file.getvalue()


def onnx_model(rows: int | str = "rows") -> onnx.ModelProto:
    state = seeded(SmallCnn).state_dict()
    weights = [numpy_helper.from_array(tensor.numpy(), name) for name, tensor in state.items()]
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["image", "conv.weight", "conv.bias"], ["a"]),
            helper.make_node("Relu", ["a"], ["b"]),
            helper.make_node("Flatten", ["b"], ["c"]),
            helper.make_node("Gemm", ["c", "head.weight", "head.bias"], ["y"], transB=1),
        ],
        "cnn",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [rows, 1, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [rows, 3])],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def make_onnx(rows_fixed: int | str = "rows") -> Sample:
    rows = random_rows(1, 8, 8)
    data = onnx_model(rows_fixed).SerializeToString()
    return Sample("onnx", data, [rows], answer(seeded(SmallCnn), rows), ".onnx")


def make_xgboost(form: str = "ubj") -> Sample:
    x, y = load_diabetes(return_X_y=True)
    rows = x.astype(np.float32)
    booster = xgboost.train({"max_depth": 3, "nthread": 1}, xgboost.DMatrix(rows, y), 20)
    expected = booster.predict(xgboost.DMatrix(rows))
    return Sample("xgboost", bytes(booster.save_raw(form)), [rows], [expected], f".{form}")


def make_lightgbm() -> Sample:
    x, y = load_iris(return_X_y=True)
    options = {"objective": "multiclass", "num_class": 3, "verbosity": -1, "num_threads": 1}
    booster = lightgbm.train(options, lightgbm.Dataset(x, y), 10)
    return Sample("lightgbm", booster.model_to_string().encode(), [x], [booster.predict(x)], ".txt")


def make_python() -> Sample:
    rows = random_rows(4)
    module = double_and_sum.__module__
    options = LoadOptions(inputs=VECTOR, allow_code=(module,), arguments={"factor": 3})
    expected = list(double_and_sum(rows, factor=3).values())
    return Sample("python", f"{module}:double_and_sum\n".encode(), [rows], expected, "", options)


makers: dict[str, Callable[[], Sample]] = {
    "torch state_dict": make_torch,
    "torch class": make_torch_class,
    "linear": lambda: make_linear(12),
    "linear float32 of two answers": lambda: make_linear(12, 2, dtype=np.float32),
    "safetensors": make_safetensors,
    "torchscript": make_torchscript,
    "torch.export": make_torch_export,
    "torch.export of 4 rows": lambda: make_torch_export(4),
    "sklearn": make_sklearn,
    "pickle": make_pickle,
    "joblib": lambda: make_pickle(joblib_dumps, ".joblib"),
    "onnx": make_onnx,
    "onnx of 4 rows": lambda: make_onnx(4),
    "xgboost ubj": make_xgboost,
    "xgboost json": lambda: make_xgboost("json"),
    "lightgbm": make_lightgbm,
    "python": make_python,
}
_made: dict[str, Sample] = {}


def make_sample(name: str) -> Sample:
    if name not in _made:
        _made[name] = makers[name]()
    return _made[name]


@pytest.fixture(params=makers)
def sample(request: pytest.FixtureRequest) -> Sample:
    """Each of the models in turn."""
    return make_sample(request.param)


@pytest.fixture
def sample_of() -> Callable[[str], Sample]:
    """One of the models, by name."""
    return make_sample


@pytest.fixture
def rezipped() -> Callable[..., bytes]:
    """An archive with the entries replaced whose names so end, and others added, by name."""

    def rezip(
        data: bytes, *, by_end: dict[str, bytes] | None = None, more: dict[str, bytes] | None = None
    ) -> bytes:
        out = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w") as new:
            names = old.namelist()
            root = names[0].partition("/")[0]
            for name in names:
                changed = [content for end, content in (by_end or {}).items() if name.endswith(end)]
                new.writestr(name, changed[0] if changed else old.read(name))
            for name, content in (more or {}).items():
                new.writestr(f"{root}/{name}", content)
        return out.getvalue()

    return rezip


@pytest.fixture
def write(tmp_path: Path) -> Callable[[Sample], Path]:
    """The sample as a file."""

    def write(sample: Sample, **changes: Any) -> Path:
        sample = replace(sample, **changes)
        path = tmp_path / f"model{sample.suffix}"
        path.write_bytes(sample.data)
        return path

    return write


@pytest.fixture
def planted(tmp_path: Path) -> Any:
    """A pickle that would make a folder, at its `path`."""
    from tests.engine.runtimes.refusals import RunsCode

    return RunsCode(tmp_path / "planted")
