"""Two versions of a real model in every format, what each must answer, and a third that fails."""

from __future__ import annotations

import io
import json
import pickle
import warnings
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import joblib
import lightgbm
import numpy as np
import safetensors.torch
import skops.io
import torch
import xgboost
from onnx import ModelProto, TensorProto, helper, numpy_helper
from sklearn.datasets import load_diabetes, load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from engine.runtimes.networks import LinearNetwork, SampleNetwork
from engine.runtimes.runtime import datatype_of
from tests.e2e.rest import Answer
from tests.services import model_code
from tests.services.model_code import Fails, Scorer, SmallCnn

CODE = model_code.__name__
ROWS = 16  # that are asked, again and again
GOOD, BAD = ("1", "2"), "bad"
ROW_OF_FOUR = '[[inputs]]\nname = "x"\nshape = [4]\n'


class Format(NamedTuple):
    """`files` by version; `answers[version]` has, for each output, what the model's own library says to
    `rows`. `settings` are what a `model.toml` has to say."""

    suffix: str
    files: dict[str, bytes]
    rows: Any
    answers: dict[str, list[Any]]
    settings: str = ""


def saved(thing: object, dump: Callable[..., object] = torch.save, **options: Any) -> bytes:
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        dump(thing, file, **options)
    return file.getvalue()


def scripted(network: nn.Module) -> bytes:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return saved(torch.jit.script(network), torch.jit.save)


def exported(network: nn.Module) -> bytes:
    shapes = ({0: torch.export.Dim("rows", min=1, max=4096)},)
    program = torch.export.export(network, (torch.zeros(2, 1, 8, 8),), dynamic_shapes=shapes, strict=False)
    return saved(program, torch.export.save)


def state_of(network: nn.Module) -> bytes:
    return saved(network.state_dict())


def tensors_of(network: nn.Module) -> bytes:
    return safetensors.torch.save(network.state_dict())


def onnx_file(network: nn.Module) -> bytes:
    """The small network, or one that fails, out of ONNX's own operators."""
    if isinstance(network, Fails):
        nodes = [
            helper.make_node("Ceil", ["image"], ["a"]),
            helper.make_node("Cast", ["a"], ["b"], to=TensorProto.INT64),
            helper.make_node("Gather", ["table", "b"], ["y"]),
        ]
        shape: list[Any] = ["rows", 1, 8, 8]
    else:
        nodes = [
            helper.make_node("Conv", ["image", "conv.weight", "conv.bias"], ["a"]),
            helper.make_node("Relu", ["a"], ["b"]),
            helper.make_node("Flatten", ["b"], ["c"]),
            helper.make_node("Gemm", ["c", "head.weight", "head.bias"], ["y"], transB=1),
        ]
        shape = ["rows", 3]
    graph = helper.make_graph(
        nodes,
        "cnn",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["rows", 1, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(tensor.numpy(), name) for name, tensor in network.state_dict().items()],
    )
    opsets = [helper.make_opsetid("", 17)]
    model: ModelProto = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    return model.SerializeToString()


def of_networks(
    make: Callable[[], nn.Module],
    save: Callable[[nn.Module], bytes],
    suffix: str,
    *shape: int,
    bad: Callable[[nn.Module], bytes] = scripted,
) -> Format:
    """Two networks of random weights."""
    rows = np.random.default_rng(7).random((ROWS, *shape)).astype(np.float32)
    files = {BAD: bad(Fails().eval())}
    answers = {}
    for version in GOOD:
        torch.manual_seed(int(version))
        network = make().eval().requires_grad_(False)
        files[version] = save(network)
        answers[version] = [network(torch.from_numpy(rows)).numpy()]
    return Format(suffix, files, rows, answers)


def linear() -> Format:
    return of_networks(lambda: LinearNetwork(torch.randn(12)), state_of, ".pt", 12)


def named_class() -> Format:
    """A class that the operator allows; the limit of its bad version is 0."""
    limited = Scorer(3)
    limited.limit.data.zero_()
    made = of_networks(lambda: Scorer(3), state_of, ".pt", 4, bad=lambda _: state_of(limited))
    return made._replace(
        settings=f'architecture = "{CODE}:Scorer"\narguments = {{ classes = 3 }}\n{ROW_OF_FOUR}'
    )


def python_function() -> Format:
    rows = np.random.default_rng(7).random((ROWS, 4)).astype(np.float32) + 1
    names = {"1": "sums", "2": "products", BAD: "fails", "slow": "slow_sums"}
    answers = {v: list(getattr(model_code, names[v])(rows, factor=3).values()) for v in GOOD}
    answers["slow"] = answers["1"]
    files = {version: f"{CODE}:{name}\n".encode() for version, name in names.items()}
    return Format(".py", files, rows, answers, f"arguments = {{ factor = 3 }}\n{ROW_OF_FOUR}")


def iris(dump: Callable[[Any], bytes], suffix: str) -> Format:
    """A pipeline; the second one calls the same flowers 10 to 12."""
    x, y = load_iris(return_X_y=True)
    rows = x[:: len(x) // ROWS][:ROWS]
    files, answers = {BAD: scripted(Fails())}, {}
    for version, shift in zip(GOOD, (0, 10), strict=True):
        pipeline = make_pipeline(StandardScaler(), LogisticRegression()).fit(x, y + shift)
        files[version] = dump(pipeline)
        answers[version] = [pipeline.predict(rows)]
    return Format(suffix, files, rows, answers)


def diabetes_xgboost() -> Format:
    x, y = load_diabetes(return_X_y=True)
    x, files, answers = x.astype(np.float32), {BAD: scripted(Fails())}, {}
    for version, target in zip(GOOD, (y, -y), strict=True):
        booster = xgboost.train({"max_depth": 3, "nthread": 1}, xgboost.DMatrix(x, target), 20)
        files[version] = bytes(booster.save_raw("ubj"))
        answers[version] = [booster.predict(xgboost.DMatrix(x[:ROWS]))]
    return Format(".ubj", files, x[:ROWS], answers)


def diabetes_lightgbm() -> Format:
    x, y = load_diabetes(return_X_y=True)
    files, answers = {BAD: scripted(Fails())}, {}
    for version, target in zip(GOOD, (y, -y), strict=True):
        booster = lightgbm.train({"verbosity": -1, "num_threads": 1}, lightgbm.Dataset(x, target), 20)
        files[version] = booster.model_to_string().encode()
        answers[version] = [booster.predict(x[:ROWS], num_threads=1)]
    return Format(".txt", files, x[:ROWS], answers)


def joblib_dumps(thing: object) -> bytes:
    return saved(thing, joblib.dump, compress=3)


MAKERS: dict[str, Callable[[], Format]] = {
    "sample": lambda: of_networks(SampleNetwork, state_of, ".pt", 2),
    "linear": linear,
    "named-class": named_class,
    "safetensors": lambda: of_networks(SampleNetwork, tensors_of, ".safetensors", 2),
    "torchscript": lambda: of_networks(SmallCnn, scripted, ".ts", 1, 8, 8),
    "torch-export": lambda: of_networks(SmallCnn, exported, ".pt2", 1, 8, 8, bad=exported),
    "onnx": lambda: of_networks(SmallCnn, onnx_file, ".onnx", 1, 8, 8, bad=onnx_file),
    "iris-skops": lambda: iris(skops.io.dumps, ".skops"),
    "iris-pickle": lambda: iris(pickle.dumps, ".pkl"),
    "iris-joblib": lambda: iris(joblib_dumps, ".joblib"),
    "diabetes-xgboost": diabetes_xgboost,
    "diabetes-lightgbm": diabetes_lightgbm,
    "python": python_function,
}


@cache
def format_of(name: str) -> Format:
    """One of the formats; made once."""
    return MAKERS[name]()


def asked(rows: Any) -> bytes:
    """The body of a request for these rows."""
    rows = np.ascontiguousarray(rows)
    tensor = {"name": "x", "datatype": datatype_of(rows.dtype), "shape": rows.shape, "data": rows.tolist()}
    return json.dumps({"inputs": [tensor]}).encode()


def is_right(answer: Answer, form: Format, rows: slice) -> bool:
    """Whether it is what the library of the version that it names says to these rows."""
    outputs, own = answer.json["outputs"], form.answers[answer.version]
    return len(outputs) == len(own) and all(
        np.allclose(
            np.reshape(output["data"], output["shape"]), right[rows].reshape(output["shape"]), 1e-5, 1e-6
        )
        for output, right in zip(outputs, own, strict=True)
    )
