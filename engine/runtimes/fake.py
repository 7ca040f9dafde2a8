"""A runtime for tests: knows no model format, says what it was asked, fails and waits when told to."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
import torch

from common.tensor import TensorSpec
from engine.rows import Array
from engine.runtimes.runtime import Runtime

VECTOR = (TensorSpec("vector", "FP32", (2,)),)


class FakeRuntime(Runtime):
    """Answers each row with the sum of all its numbers, as float32 of shape (1,).

    A row that holds a number of `bad` fails the whole call, as a row does in a real network. `calls` are the
    rows of each call. A call waits for `gate`, and sets `entered` before; `on_call` runs inside it.
    """

    def __init__(
        self, inputs: tuple[TensorSpec, ...] | None = VECTOR, *, bad: tuple[float, ...] = ()
    ) -> None:
        self.inputs: tuple[TensorSpec, ...] | None = inputs
        self.outputs: tuple[TensorSpec, ...] | None = (TensorSpec("sum", "FP32", (1,)),)
        self.device = torch.device("cpu")
        self.calls: list[list[list[float]]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.on_call: Callable[[], None] = lambda: None
        self._bad = bad

    def run(self, arrays: list[Array]) -> tuple[tuple[TensorSpec, ...], list[Array]]:
        rows = np.concatenate([array.reshape(len(array), -1).astype(np.float32) for array in arrays], axis=1)
        self.calls.append(rows.tolist())
        self.entered.set()
        assert self.gate.wait(30), "nobody opened the gate"
        self.on_call()
        if bad := sorted(set(self._bad).intersection(rows.flatten().tolist())):
            raise ValueError(f"cannot run {bad[0]}")
        return (TensorSpec("sum", "FP32", (1,)),), [rows.sum(axis=1, keepdims=True, dtype=np.float32)]

    @property
    def ran(self) -> list[list[float]]:
        """Every row that was run, in order."""
        return [row for call in self.calls for row in call]
