"""Files that would run code, read another's bytes or leave their own memory, in the way of each format."""

from __future__ import annotations

import io
import json
import os
import pickle
import tarfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import joblib
import numpy as np
import onnx
import skops.io
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from tests.engine.runtimes.conftest import make_sample, onnx_model
from tests.engine.runtimes.refusals import RunsCode, dumped


class Evil(NamedTuple):
    """A file, and what its kind is usually called."""

    suffix: str
    data: bytes


class WritesAsItLoads(torch.nn.Module):
    """A program that writes a file before anybody asked it anything."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path

    @torch.jit.export
    def __getstate__(self) -> tuple[str, bool]:
        return self.path, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[str, bool]) -> None:
        self.path = state[0]
        self.training = state[1]
        torch.save(state[0], self.path)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image


def scripted(network: torch.nn.Module) -> bytes:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return dumped(torch.jit.save, torch.jit.script(network))


def torch_tar(code: RunsCode) -> bytes:
    """As torch saved before 0.1.10."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, content in {
            "sys_info": pickle.dumps({"protocol_version": 1000}, 2),
            "pickle": pickle.dumps(code, 2),
            "tensors": pickle.dumps(0, 2),
            "storages": pickle.dumps(0, 2),
        }.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return file.getvalue()


def object_array(code: RunsCode) -> bytes:
    file = io.BytesIO()
    np.save(file, np.array([code], dtype=object), allow_pickle=True)
    return file.getvalue()


def with_weights_elsewhere(location: str) -> bytes:
    """An ONNX model that says its largest tensor lies in another file."""
    model = onnx_model()
    tensor = model.graph.initializer[2]
    size = len(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in {"location": location, "length": str(size)}.items():
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    return model.SerializeToString()


def safetensors_file(entry: dict[str, Any], content: bytes = bytes(8)) -> bytes:
    header = json.dumps({"coefs": entry}).encode()
    return len(header).to_bytes(8, "little") + header + content


def evil_files(marker: Path) -> dict[str, Evil]:
    """By what is wrong with them. Who runs the code of any leaves something at `marker`."""
    code = RunsCode(marker)
    secret = marker.with_name("secret")
    secret.write_bytes(bytes(100_000))
    pipeline = make_pipeline(FunctionTransformer(os.mkdir, kw_args={"mode": 0o700}), LogisticRegression())
    outside = {"dtype": "F32", "shape": [2], "data_offsets": [0, 2**40]}
    unlike = {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 8]}
    garbage = bytes(range(256)) * 8
    tree = make_sample("lightgbm").data
    make: dict[str, Callable[[], tuple[str, bytes]]] = {
        "pickle": lambda: (".pkl", pickle.dumps(code)),
        "pickle as text": lambda: (".pickle", pickle.dumps(code, 0)),
        "joblib": lambda: (".joblib", dumped(joblib.dump, code)),
        "joblib compressed": lambda: (".joblib", dumped(joblib.dump, code, compress=3)),
        "torch": lambda: (".pt", dumped(torch.save, code)),
        "torch before 1.6": lambda: (
            ".pth",
            dumped(torch.save, code, _use_new_zipfile_serialization=False),
        ),
        "torch before 0.1.10": lambda: (".pt", torch_tar(code)),
        "object array": lambda: (".pkl", object_array(code)),
        "skops of types nobody trusts": lambda: (".skops", skops.io.dumps(pipeline)),
        "torchscript that writes": lambda: (".ts", scripted(WritesAsItLoads(str(marker)))),
        "onnx with weights elsewhere": lambda: (".onnx", with_weights_elsewhere(str(secret))),
        "onnx with weights above": lambda: (".onnx", with_weights_elsewhere("../" * 20 + str(secret)[1:])),
        "safetensors beyond its end": lambda: (".safetensors", safetensors_file(outside)),
        "safetensors of another size": lambda: (".safetensors", safetensors_file(unlike)),
        "safetensors of a long header": lambda: (".safetensors", (2**63).to_bytes(8, "little") + b"{}"),
        "xgboost garbage": lambda: (".ubj", b"{L" + bytes(7) + b"\x07learner" + garbage),
        "xgboost json garbage": lambda: (
            ".json",
            b'{"learner": {"gradient_booster": {"model": {"trees": [1]}}}}',
        ),
        "lightgbm garbage": lambda: (".txt", b"tree\n" + garbage),
        "lightgbm of damaged trees": lambda: (".txt", tree.replace(b"left_child=", b"left_child=9999 ")),
        "code nobody allowed": lambda: (".py", b"os:system"),
    }
    return {name: Evil(*each()) for name, each in make.items()}
