"""Runtime of a Python callable that the operator allows. Its file is its name: `module:function`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from common.errors import LoadError, ModelError
from engine.rows import NUMPY_TYPES, Array
from engine.runtimes.filling import Outputs, run_filled
from engine.runtimes.options import LoadOptions, import_allowed
from engine.runtimes.runtime import Specs, layout_of, warm_up
from engine.runtimes.source import Source, read_source

_LONGEST = 500


class CallableRuntime:
    """A function of NumPy arrays of shape (n, *row_shape), in the order of the inputs, to one such array, a
    list of them (`result_0` and so on), or a dict of them by name. It has to treat each row by itself.

    BYTES come as arrays of `bytes` objects, and may go as arrays of bytes or text. BF16 comes as float32.
    """

    def __init__(self, function: Callable[..., Any], options: LoadOptions) -> None:
        self.inputs = options.inputs
        self.device = torch.device("cpu")
        self._function = function
        self._arguments = dict(options.arguments)
        self._rows_multiple = options.rows_multiple or 1
        self.outputs = warm_up(self, 2)

    def run(self, arrays: list[Array]) -> tuple[Specs, list[Array]]:
        return layout_of(run_filled(self._call, arrays, self._rows_multiple))

    def _call(self, arrays: list[Array]) -> Outputs:
        answer = self._function(*map(_as_numbers, arrays), **self._arguments)
        if isinstance(answer, dict):
            named = list(answer.items())
        elif isinstance(answer, (tuple, list)):
            named = [(f"result_{at}", each) for at, each in enumerate(answer)]
        else:
            named = [("result", answer)]
        if not all(isinstance(name, str) and isinstance(each, np.ndarray) for name, each in named):
            raise ModelError(f"the function answered with a {type(answer).__name__}, not with NumPy arrays")
        return named


def _as_numbers(array: Array) -> Array:
    """NumPy has no bfloat16; float32 holds each exactly, in its upper half."""
    if array.dtype != NUMPY_TYPES["BF16"]:
        return array
    widened: Array = (array.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    return widened


def load(source: Source, options: LoadOptions, device: torch.device) -> CallableRuntime:
    """A warm runtime of the function that the text names; `options.arguments` go with every call.

    `LoadError` where the operator does not allow its module, or it does not import, or is no function.
    """
    options.refuse("architecture", "methods", because="a Python callable has no use for it")
    reference = read_source(source)[:_LONGEST].decode(errors="replace").strip()
    function = import_allowed(reference, options.allow_code)
    if not callable(function):
        raise LoadError(f"{reference} is a {type(function).__name__}, which cannot be called")
    return CallableRuntime(function, options)
