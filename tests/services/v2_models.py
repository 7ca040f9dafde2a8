"""Functions that a worker serves as models (`--allow_code tests.services.v2_models`): text, halves, several
inputs, and one that takes its time."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def upper(text: Array) -> Array:
    """Every element of BYTES in capitals."""
    return np.array([[each.upper() for each in row] for row in text], np.object_)


def double(rows: Array) -> Array:
    """Twice the rows, in their own datatype."""
    return rows * 2


def add_sub(a: Array, b: Array) -> dict[str, Array]:
    """Two outputs of two inputs."""
    return {"sum": a + b, "difference": a - b}


def same(rows: Array) -> Array:
    """The rows, whatever they are."""
    return rows


def slow(rows: Array) -> Array:
    """The rows, after a while."""
    time.sleep(0.5)
    return rows
