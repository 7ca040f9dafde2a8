"""What every runtime is to the engine, and the check that its inputs pass before it sees them."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from common.errors import ModelError
from common.tensor import TensorSpec

Array = npt.NDArray[np.generic]


class Runtime(Protocol):
    """A loaded model. `run` may be called from any thread, by one at a time."""

    inputs: tuple[TensorSpec, ...]

    def run(self, arrays: list[Array]) -> tuple[tuple[TensorSpec, ...], list[Array]]:
        """Arrays of shape (n, *row_shape), one per input, to (what one row of each output is, outputs).

        Every output has shape (n, *row_shape) and is C-contiguous. Raises whatever the model raises.
        """
        ...


def check_inputs(expected: tuple[TensorSpec, ...], given: tuple[TensorSpec, ...]) -> None:
    """Raise `ModelError` in words about shapes unless `given` is what the model takes; names are free for
    a single input, and a dimension of −1 takes any length."""
    if len(expected) != len(given):
        raise ModelError(f"the model takes {len(expected)} inputs, the request has {len(given)}")
    for want, have in zip(expected, given, strict=True):
        fits = len(want.row_shape) == len(have.row_shape) and all(
            w in (-1, h) for w, h in zip(want.row_shape, have.row_shape, strict=True)
        )
        if not fits or want.datatype != have.datatype:
            raise ModelError(
                f"the model takes rows of {want.datatype} {list(want.row_shape)}, "
                f"the request has {have.datatype} {list(have.row_shape)}"
            )
