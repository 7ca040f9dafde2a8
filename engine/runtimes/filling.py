"""How many rows a call of a model has: filled up, or cut, to what it answers best.

Matrix products take other paths for the last few rows, and so differ in the last bit with the number of rows
beside one (seen on CPU for 1, 2 and odd numbers, in torch, onnxruntime and NumPy alike). Filled up to a
multiple of `ROWS_MULTIPLE`, a row has the same answer in every company, so that neither batches nor the cache
change results. (It is a habit of the libraries and no promise: of the networks tried on two threads, one of
784 inputs still differed by 2e-7 between calls of 16 and of 200 rows.)

So are filled up: every torch network, ONNX, scikit-learn. Trees (XGBoost, LightGBM) sum each row by itself.
A Python callable is called with the rows there are, as it may take a second for each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from common.errors import ModelError
from engine.rows import Array
from engine.runtimes.options import LoadOptions

ROWS_MULTIPLE = 16

# Beyond this many bytes of weights a row costs so much that nobody wants to pay for 15 more of them.
SMALL = 4 * 2**20

Outputs = list[tuple[str, Array]]  # name and array of shape (n, *row_shape)


def choose_multiple(options: LoadOptions, size: int) -> int:
    """Rows that each call of a model has a multiple of, when its file is `size` bytes."""
    return options.rows_multiple or (ROWS_MULTIPLE if size <= SMALL else 1)


def run_filled(run: Callable[[list[Array]], Outputs], arrays: list[Array], multiple: int) -> Outputs:
    """Call `run` with rows of no meaning added up to the multiple; its outputs without them.

    `ModelError` where an output has another number of rows than it was given.
    """
    rows = len(arrays[0])
    extra = -rows % multiple
    outputs = run([_filled(array, extra) for array in arrays] if extra else arrays)
    for name, output in outputs:
        if not output.shape or len(output) != rows + extra:
            raise ModelError(
                f"the model answered {rows + extra} rows with {name} of shape {list(output.shape)}: "
                "its first dimension has to be the rows"
            )
    return [(name, output[:rows]) for name, output in outputs] if extra else outputs


def run_in_pieces(run: Callable[[list[Array]], Outputs], arrays: list[Array], size: int) -> Outputs:
    """Call `run` with exactly `size` rows each time, for a model whose number of rows is fixed."""
    pieces = [
        run_filled(run, [array[at : at + size] for array in arrays], size)
        for at in range(0, len(arrays[0]), size)
    ]
    return pieces[0] if len(pieces) == 1 else [_joined(piece) for piece in zip(*pieces, strict=True)]


def _joined(piece: Sequence[tuple[str, Array]]) -> tuple[str, Array]:
    return piece[0][0], np.concatenate([array for _, array in piece])


def _filled(array: Array, extra: int) -> Array:
    """With its last row again and again: what the model makes of a real row, it can make of that."""
    filled = np.empty((len(array) + extra, *array.shape[1:]), array.dtype)
    filled[: len(array)] = array
    filled[len(array) :] = array[-1]
    return filled
