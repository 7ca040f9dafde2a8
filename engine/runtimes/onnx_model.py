"""Runtime of an ONNX model, by onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import torch

from common.errors import LoadError, ModelError
from common.tensor import BYTES, TensorSpec
from engine.rows import Array
from engine.runtimes.filling import Outputs, choose_multiple, run_filled, run_in_pieces
from engine.runtimes.options import LoadOptions
from engine.runtimes.runtime import Specs, first_line, layout_of, warm_up
from engine.runtimes.source import Source, read_source

# onnxruntime's names of element types that a request can carry.
_DATATYPES = {
    "tensor(bool)": "BOOL", "tensor(float16)": "FP16", "tensor(float)": "FP32", "tensor(double)": "FP64",
    "tensor(int8)": "INT8", "tensor(int16)": "INT16", "tensor(int32)": "INT32", "tensor(int64)": "INT64",
    "tensor(uint8)": "UINT8", "tensor(uint16)": "UINT16", "tensor(uint32)": "UINT32",
    "tensor(uint64)": "UINT64", "tensor(string)": BYTES,
}  # fmt: skip
_ERRORS_ONLY = 3  # of onnxruntime's log levels
_CUDA = "CUDAExecutionProvider"
# A model may name files beside it that hold its weights. Ours comes as bytes, and then onnxruntime would look
# in whatever folder the worker was started in: here there is none.
_NO_FOLDER = "/dev/null/no-folder"


class OnnxRuntime:
    """A session. A model whose first dimensions are fixed gets exactly so many rows a call."""

    def __init__(self, session: Any, inputs: Specs, fixed_rows: int, rows_multiple: int) -> None:
        self.inputs: Specs | None = inputs
        self.device = torch.device("cuda" if _CUDA in session.get_providers() else "cpu")
        self._session = session
        self._inputs = [value.name for value in session.get_inputs()]
        self._outputs = [value.name for value in session.get_outputs()]
        self._fixed_rows = fixed_rows
        self._rows_multiple = rows_multiple
        self.outputs: Specs | None = None
        self.outputs = warm_up(self, fixed_rows or max(rows_multiple, 2)) or _specs(session.get_outputs())[0]

    def run(self, arrays: list[Array]) -> tuple[Specs, list[Array]]:
        if self._fixed_rows:
            return layout_of(run_in_pieces(self._call, arrays, self._fixed_rows))
        return layout_of(run_filled(self._call, arrays, self._rows_multiple))

    def _call(self, arrays: list[Array]) -> Outputs:
        given = [_as_text(array) if array.dtype == np.object_ else array for array in arrays]
        answers = self._session.run(self._outputs, dict(zip(self._inputs, given, strict=True)))
        return list(zip(self._outputs, answers, strict=True))


def load(source: Source, options: LoadOptions, device: torch.device) -> OnnxRuntime:
    """A warm runtime, on the CUDA device if this onnxruntime can use it (onnxruntime-gpu), else on the CPU.

    `LoadError` for what is no ONNX model, names other files, or takes what no request can carry.
    """
    options.refuse("architecture", "arguments", "methods", because="ONNX has no use for it")
    model = read_source(source)
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = _ERRORS_ONLY
    settings.intra_op_num_threads = torch.get_num_threads()
    settings.add_session_config_entry("session.model_external_initializers_file_folder_path", _NO_FOLDER)
    has_cuda = device.type == "cuda" and _CUDA in onnxruntime.get_available_providers()
    try:
        session = onnxruntime.InferenceSession(
            model, settings, providers=[*([_CUDA] if has_cuda else []), "CPUExecutionProvider"]
        )
    except Exception as error:  # onnxruntime's own have no base but Exception
        raise LoadError(f"the file is no ONNX model, or not all of it: {first_line(error)}") from error
    inputs, fixed_rows = _specs(session.get_inputs())
    multiple = choose_multiple(options, len(model))
    return OnnxRuntime(session, options.inputs or inputs, fixed_rows, multiple)


def _as_text(array: Array) -> Array:
    """Elements of BYTES as onnxruntime takes them: text, of UTF-8."""
    try:
        text = [element.decode() for element in array.reshape(-1).tolist()]
    except UnicodeDecodeError as error:
        raise ModelError(
            f"ONNX models take text, and the row holds bytes that are not UTF-8: {error}"
        ) from None
    found = np.empty(len(text), np.object_)
    found[:] = text
    return found.reshape(array.shape)


def _specs(values: Any) -> tuple[Specs, int]:
    """What one row of each input or output is, and the number of rows where that is fixed, else 0."""
    specs: list[TensorSpec] = []
    rows: set[int] = set()
    for value in values:
        if value.type not in _DATATYPES or not value.shape:
            raise LoadError(
                f"the model's {value.name} is a {value.type} of shape {value.shape}, "
                "which no request can carry"
            )
        sizes = [size if isinstance(size, int) and size > 0 else -1 for size in value.shape]
        rows.add(max(sizes[0], 0))
        specs.append(TensorSpec(value.name, _DATATYPES[value.type], tuple(sizes[1:])))
    if len(rows) > 1:
        raise LoadError(f"the model's tensors have different numbers of rows: {sorted(rows)} (0 is any)")
    return tuple(specs), rows.pop() if rows else 0
