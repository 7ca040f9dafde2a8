"""Rounding input rows, so that rows which hardly differ share an answer: what `torch.round(decimals=n)` does.

The model sees the rounded row. Minus zero becomes zero (they are equal, so they have to share an answer).
Integers and booleans stay what they are. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from common.tensor import Buffer, TensorSpec
from engine.rows import NUMPY_TYPES

_FLOATS = ("FP32", "FP64")
_TORCH_FLOATS = (torch.float32, torch.float64)


def round_tensor(tensor: torch.Tensor, decimals: int | None) -> torch.Tensor:
    """The tensor itself where there is nothing to round, else a new one of the same shape and dtype."""
    if decimals is None or not tensor.is_floating_point():
        return tensor
    if tensor.dtype in _TORCH_FLOATS and tensor.is_cpu:
        # Not by torch, whose operations let other threads take over: NumPy is done before they would.
        array = tensor.detach().numpy() if tensor.requires_grad else tensor.numpy()
        return torch.from_numpy(np.asarray(_rounded_array(array, decimals)))
    return torch.round(tensor.detach(), decimals=decimals) + 0.0


def round_columns(
    inputs: Sequence[TensorSpec], columns: Sequence[Buffer], decimals: int | None
) -> Sequence[Buffer]:
    """Buffers of rows, one per input, rounded to `decimals` digits after the point; None rounds nothing."""
    if decimals is None:
        return columns
    return [
        _rounded(column, spec.datatype, decimals) if spec.datatype in _FLOATS else column
        for spec, column in zip(inputs, columns, strict=True)
    ]


def _rounded(column: Buffer, datatype: str, decimals: int) -> bytes:
    data: bytes = _rounded_array(np.frombuffer(column, NUMPY_TYPES[datatype]), decimals).tobytes()
    return data


def _rounded_array(numbers: Any, decimals: int) -> Any:
    """As torch does it, to the bit: times ten to the n, to the nearest even, divided again, all in the
    numbers' own dtype. (NumPy's own `round` differs where that overflows.)"""
    with np.errstate(all="ignore"):
        power = numbers.dtype.type(10.0 ** abs(decimals))
        rounded = np.rint(numbers / power) * power if decimals < 0 else np.rint(numbers * power) / power
        return rounded + numbers.dtype.type(0)
