"""Weights that the engine's tests load, and frames as a gateway sends them."""

from __future__ import annotations

import base64
import hashlib
import io
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from common import wire
from common.tensor import TensorSpec, vector_spec
from engine.runtimes.networks import SampleNetwork

DATA = Path(__file__).resolve().parents[2] / "data"


class Weights:
    """Weights of the sample network under a version's key."""

    def __init__(self, version: str, data: bytes) -> None:
        self.data = data
        self.key = wire.VersionKey("default", version, hashlib.sha256(data).hexdigest())


@pytest.fixture
def loaded() -> Callable[[str], wire.LoadAnswer]:
    """What a worker answers that has loaded weights of the sample network."""
    outputs = (TensorSpec("result", "FP32", (1,)),)
    return lambda worker: wire.LoadAnswer(worker, True, "", vector_spec(2), outputs)


@pytest.fixture(scope="session")
def adding() -> Weights:
    """The sample weights that add two numbers."""
    (path,) = DATA.glob("000127a3*.b64")
    return Weights("adding", base64.b64decode(path.read_bytes()))


@pytest.fixture(scope="session")
def constant() -> Callable[[float], Weights]:
    """Weights that answer one number to everything, exactly."""

    def make(value: float) -> Weights:
        state = {key: torch.zeros_like(tensor) for key, tensor in SampleNetwork().state_dict().items()}
        state["output_layer.bias"] = torch.tensor([value])
        file = io.BytesIO()
        torch.save(state, file)
        return Weights(f"always {value}", file.getvalue())

    return make


@pytest.fixture(scope="session")
def batch() -> Callable[..., bytes]:
    """A frame of one-row requests: `batch("version", [0.3, 0.7], [1, 2, 3])` (rows of a width are a part)."""

    def encode(version: str, *rows: list[float], id: int = 1, timeout: float = 30.0) -> bytes:
        groups: dict[int, list[list[float]]] = {}
        for row in rows:
            groups.setdefault(len(row), []).append(row)
        parts = [wire.Part(vector_spec(w), [1] * len(g), [timeout] * len(g)) for w, g in groups.items()]
        buffers = [b"".join(struct.pack(f"<{w}f", *row) for row in g) for w, g in groups.items()]
        return wire.encode(wire.Batch(id, "default", version, parts), buffers)

    return encode


@pytest.fixture(scope="session")
def floats() -> Callable[[Any], list[float]]:
    """The float32 numbers of a buffer."""
    return lambda buffer: memoryview(buffer).cast("B").cast("f").tolist()
