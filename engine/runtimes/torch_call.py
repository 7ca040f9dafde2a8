"""Calling any torch module with arrays: on the CPU, or on a CUDA device by pinned copies and streams."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from common.errors import ModelError
from engine.rows import NUMPY_TYPES, Array
from engine.runtimes.filling import Outputs, run_filled, run_in_pieces
from engine.runtimes.runtime import Specs, layout_of, warm_up
from engine.runtimes.torch_outputs import name_outputs

_BF16 = NUMPY_TYPES["BF16"]


class TorchRuntime:
    """A torch callable whose weights are on `device`, in evaluation mode.

    `fixed_rows`: it takes exactly so many rows a call; 0 is any number, filled up to `rows_multiple`.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        inputs: Specs | None,
        device: torch.device,
        *,
        rows_multiple: int,
        fixed_rows: int = 0,
    ) -> None:
        self.inputs = inputs
        self.device = device
        self.function = function
        self._call = _CudaCall(function, device) if device.type == "cuda" else _HostCall(function)
        self._rows_multiple = rows_multiple
        self._fixed_rows = fixed_rows
        self.outputs = warm_up(self, fixed_rows or max(rows_multiple, 2))

    def run(self, arrays: list[Array]) -> tuple[Specs, list[Array]]:
        if self._fixed_rows:
            return layout_of(run_in_pieces(self._call, arrays, self._fixed_rows))
        return layout_of(run_filled(self._call, arrays, self._rows_multiple))


class _HostCall:
    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, arrays: list[Array]) -> Outputs:
        with torch.inference_mode():
            tensors = name_outputs(self._function(*map(_as_tensor, arrays)))
            return [(name, tensor.numpy()) for name, tensor in tensors]


class _CudaCall:
    """Copies go through pinned memory, and copies and kernels of each calling thread, that is of each slot,
    along a stream of its own: those of one slot overlap with those of another."""

    def __init__(self, function: Callable[..., Any], device: torch.device) -> None:
        self._function = function
        self._device = device
        self._slots = threading.local()
        torch.cuda.synchronize(device)  # the weights were copied along another stream

    def __call__(self, arrays: list[Array]) -> Outputs:
        stream = self._stream()
        with torch.inference_mode(), torch.cuda.stream(stream):
            pinned = [_as_tensor(array).pin_memory() for array in arrays]
            tensors = name_outputs(
                self._function(*[tensor.to(self._device, non_blocking=True) for tensor in pinned])
            )
            answers = [
                (name, torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True))
                for name, tensor in tensors
            ]
            for (_, answer), (_, tensor) in zip(answers, tensors, strict=True):
                answer.copy_(tensor, non_blocking=True)
            stream.synchronize()
        return [(name, answer.numpy()) for name, answer in answers]

    def _stream(self) -> torch.cuda.Stream:
        stream: torch.cuda.Stream | None = getattr(self._slots, "stream", None)
        if stream is None:
            stream = self._slots.stream = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        return stream


def _as_tensor(array: Array) -> torch.Tensor:
    if array.dtype == _BF16:
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    if array.dtype == np.object_:
        raise ModelError("the request has BYTES, and a torch model takes numbers")
    return torch.from_numpy(array)
