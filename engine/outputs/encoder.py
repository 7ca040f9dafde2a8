"""What makes answers of a model's arrays, and how it finds the arrays.

Each module beside this one is an output type, and has `make(settings, files)`: its encoder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from common.errors import ModelError
from engine.inputs.decoder import Decoded
from engine.rows import Array

Floats = npt.NDArray[np.float32]
Named = Mapping[str, Array]  # arrays of shape (n, *row_shape) by the names that the model gives them


class Encoder(Protocol):
    """Called by one thread at a time."""

    def encode(self, outputs: Named, rows: Sequence[Decoded]) -> list[tuple[str, Array]]:
        """Names and arrays of shape (n, *row_shape) that the answer is made of; raises whatever does not fit,
        as a model would."""
        ...


def pick(outputs: Named, name: str) -> Array:
    """The array of that name; the first one where there is no name."""
    if not name:
        return next(iter(outputs.values()))
    if name not in outputs:
        raise ModelError(f"the model gives no {name}: it gives {', '.join(outputs)}")
    return outputs[name]


def numbers(array: Array, what: str) -> Floats:
    """The same as float32; `ModelError` where it holds no numbers."""
    if array.dtype.kind not in "biuf":
        raise ModelError(f"{what} are numbers, and the model gives {array.dtype}")
    return array.astype(np.float32, copy=False)


def objects(items: Sequence[bytes]) -> Array:
    """An array of BYTES of shape (n,)."""
    array = np.empty(len(items), np.object_)
    array[:] = items
    return array
