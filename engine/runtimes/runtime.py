"""What every runtime is to the engine, and the check that its inputs pass before it sees them."""

from __future__ import annotations

from typing import Protocol

from common.errors import ModelError
from common.tensor import TensorSpec
from engine.rows import Array

__all__ = ["Array", "Runtime", "check_inputs"]


class Runtime(Protocol):
    """A loaded model. `run` may be called from any thread, by one at a time."""

    inputs: tuple[TensorSpec, ...]

    def run(self, arrays: list[Array]) -> tuple[tuple[TensorSpec, ...], list[Array]]:
        """Arrays of shape (n, *row_shape), one per input, to (what one row of each output is, outputs).

        Every output has shape (n, *row_shape). Rows of one shape always have outputs of one shape, and the
        same row has the same outputs whatever rows are beside it. Raises whatever the model raises.
        """
        ...


def check_inputs(expected: tuple[TensorSpec, ...], given: tuple[TensorSpec, ...]) -> None:
    """Raise `ModelError` in words about shapes unless `given` is what the model takes.

    A single input may have any name; several come in the model's order. A dimension of −1 takes any length
    but none at all.
    """
    if given == expected and not any(-1 in spec.row_shape for spec in expected):
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
