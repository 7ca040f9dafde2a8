"""What every runtime is to the engine, and the check that its inputs pass before it sees them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import numpy as np
import torch

from common.errors import LoadError, ModelError
from common.tensor import BYTES, TensorSpec
from engine.rows import NUMPY_TYPES, Array

__all__ = ["Array", "RowsFailed", "Runtime", "check_inputs", "datatype_of", "example_inputs", "layout_of"]

_DATATYPES: dict[np.dtype[np.generic], str] = {np.dtype(kind): name for name, kind in NUMPY_TYPES.items()}
_TEXT = "SU"  # NumPy's kinds of text of a fixed size, which are BYTES as well

Specs = tuple[TensorSpec, ...]

MAX_ZEROS = 1 << 28  # elements of an input that a model is tried with: settings may claim rows of any size


class Runtime(Protocol):
    """A loaded model. `run` may be called from any thread, by one at a time.

    `inputs` and `outputs` are what one row of each is (−1 is any length), or None where neither the file nor
    the model's settings say. `device` is where it really runs, whatever was asked for.
    """

    inputs: Specs | None
    outputs: Specs | None
    device: torch.device

    def run(self, arrays: list[Array]) -> tuple[Specs, list[Array]]:
        """Arrays of shape (n, *row_shape), one per input, to (what one row of each output is, outputs).

        Every output has shape (n, *row_shape). Rows of one shape always have outputs of one shape, and the
        same row has the same outputs whatever rows are beside it. Elements of BYTES are objects: `bytes` as
        inputs, `bytes` or text as outputs. Raises whatever the model raises, or `RowsFailed`.
        """
        ...


class RowsFailed(Exception):
    """Raised by a runtime that knows which of a call's rows are at fault: `errors` by their places, and
    `layout` and `outputs`, as `run` returns them, of the others in their order."""

    def __init__(self, errors: Mapping[int, Exception], layout: Specs, outputs: list[Array]) -> None:
        super().__init__(f"{len(errors)} rows failed")
        self.errors = errors
        self.layout = layout
        self.outputs = outputs


def check_inputs(expected: Specs | None, given: Specs) -> None:
    """Raise `ModelError` in words about shapes unless `given` is what the model takes.

    A single input may have any name; several come in the model's order. A dimension of −1 takes any length
    but none at all. Where nobody knows what the model takes, it is asked.
    """
    if expected is None or (given == expected and not any(-1 in spec.row_shape for spec in expected)):
        return
    if len(expected) != len(given):
        raise ModelError(f"the model takes {len(expected)} inputs, the request has {len(given)}")
    for want, have in zip(expected, given, strict=True):
        fits = len(want.row_shape) == len(have.row_shape) and all(
            (h > 0 if w == -1 else h == w) for w, h in zip(want.row_shape, have.row_shape, strict=True)
        )
        if not fits or want.datatype != have.datatype:
            raise ModelError(
                f"the model takes rows of {want.datatype} {list(want.row_shape)}, "
                f"the request has {have.datatype} {list(have.row_shape)}"
            )
    names = [spec.name for spec in expected], [spec.name for spec in given]
    if len(expected) > 1 and names[0] != names[1]:
        raise ModelError(
            f"the model takes inputs {', '.join(names[0])}, the request has {', '.join(names[1])}"
        )


def datatype_of(dtype: np.dtype[np.generic]) -> str:
    """The protocol's name of a NumPy dtype; `ModelError` where it has none."""
    if dtype.kind in _TEXT:
        return BYTES
    try:
        return _DATATYPES[dtype]
    except KeyError:
        raise ModelError(f"the model answers with {dtype}, which no answer can carry") from None


def layout_of(outputs: Iterable[tuple[str, Array]]) -> tuple[Specs, list[Array]]:
    """What `run` returns, of names and arrays of shape (n, *row_shape)."""
    named = list(outputs)
    return tuple(TensorSpec(name, datatype_of(array.dtype), array.shape[1:]) for name, array in named), [
        array for _, array in named
    ]


def example_inputs(inputs: Specs | None, rows: int) -> list[Array] | None:
    """Rows of zeros to try a model with; None where their shape is not known."""
    if not inputs or any(-1 in spec.row_shape for spec in inputs):
        return None
    return [
        np.zeros((rows, *spec.row_shape), NUMPY_TYPES[spec.datatype])
        if spec.is_sized
        else np.full((rows, *spec.row_shape), b"", np.object_)
        for spec in inputs
    ]


def warm_up(runtime: Runtime, rows: int) -> Specs | None:
    """Run rows of zeros twice, as first calls pay for allocations and the choice of kernels.

    What one row of each output is; None where nobody knows what to run. `LoadError` where it fails.
    """
    for spec in runtime.inputs or ():
        count = rows * math.prod(spec.row_shape)
        if count > MAX_ZEROS:
            raise LoadError(
                f"input {spec.name} has rows of {list(spec.row_shape)}: {rows} of them, to try the model"
                f" with, have {count} elements, and at most {MAX_ZEROS} are allowed"
            )
    arrays = example_inputs(runtime.inputs, rows)
    if arrays is None:
        return None
    try:
        for _ in range(2):
            layout, _ = runtime.run([array.copy() for array in arrays])
    except Exception as error:
        raise LoadError(f"the model loads, but does not run on zeros: {first_line(error)}") from error
    return layout


def warm_up_with(runtime: Runtime, rows: Sequence[Sequence[float]]) -> None:
    """Run these very rows of the model's one input; `LoadError` where that cannot be done or fails."""
    specs = runtime.inputs
    if specs is None or len(specs) != 1:
        raise LoadError(
            "warmup_rows are rows of one input, and the model has another number, or does not say"
        )
    try:
        given = np.array(rows, NUMPY_TYPES[specs[0].datatype])
        runtime.run([given.reshape(len(rows), *specs[0].row_shape)])
    except Exception as error:
        raise LoadError(f"the model loads, but does not run on warmup_rows: {first_line(error)}") from error


def first_line(error: Exception) -> str:
    """What an error says, short enough for a sentence."""
    said = str(error).strip().splitlines()
    return (said[0] if said else type(error).__name__)[:200]
