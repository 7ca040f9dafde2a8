"""What users give and get: features become the bytes of rows, the bytes of outputs become predictions. Pure.

**Features** of one row: a sequence of numbers, nested as deep as the input has dimensions, or anything that
NumPy makes an array of (also a CPU torch tensor), of exactly the row's shape. A model of several inputs takes
a dict of them by name. Numbers are converted to the input's dtype: to floats with rounding, to integers and
booleans only where nothing is lost. Elements of BYTES are bytes or text. Where nobody knows
the inputs, arrays keep their dtype, Python floats become float32 and integers int64, as torch has it.

**A prediction** is what one row's output is: a Python number (float, int or bool) for outputs of shape () and
(1,), else a NumPy array of the output's shape and dtype, the caller's own. A model of several outputs gives a
dict of them by name.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from common.errors import InvalidRequest
from common.tensor import BYTES, Buffer, TensorSpec, pack_elements, row_end
from engine.rows import NUMPY_TYPES, Array, array_of

Specs = tuple[TensorSpec, ...]
Columns = list[bytes]
Prediction = Any

_SCALARS = ((), (1,))
_DATATYPES = {np.dtype(kind): name for name, kind in NUMPY_TYPES.items()}
_OF_NUMPY = frozenset(NUMPY_TYPES) - {BYTES, "BF16"}
_UNNAMED = "input"  # where neither the model nor the request names it


class FeatureReader:
    """Reads features for one model version, whose inputs are known or (None) are what the features are."""

    def __init__(self, inputs: Specs | None) -> None:
        self.inputs = inputs
        self.has_fixed_shapes = inputs is not None and not any(-1 in spec.row_shape for spec in inputs)
        self._pack = self._width = None
        if inputs is not None and len(inputs) == 1 and self.has_fixed_shapes:
            (spec,) = inputs
            if spec.datatype in ("FP32", "FP64") and len(spec.row_shape) == 1:
                self._width = spec.row_shape[0]
                self._pack = struct.Struct(f"<{self._width}{'f' if spec.datatype == 'FP32' else 'd'}").pack

    def row(self, features: Any) -> tuple[Specs, Columns]:
        """(what the inputs are, the row's bytes for each); `InvalidRequest` says what does not fit."""
        if self._pack is not None and type(features) in (list, tuple) and len(features) == self._width:
            try:
                return self.inputs, [self._pack(*features)]  # type: ignore[return-value] # there is one
            except (struct.error, OverflowError, TypeError, ValueError):
                pass  # the long way finds out what it is, and says it
        specs: list[TensorSpec] = []
        columns: Columns = []
        for spec, values, name in self._by_input(features):
            array = _convert(values, spec, name)
            _check_shape(array.shape, spec, name)
            specs.append(_spec_of(array.shape, array, spec, name))
            columns.append(_packed(array))
        if self.has_fixed_shapes:
            return self.inputs, columns  # type: ignore[return-value] # they are known
        return tuple(specs), columns

    def rows(self, rows: Any) -> Array | None:
        """All rows as one array of shape (n, *row_shape) and the input's dtype, where the model has one input
        of fixed shape and they fit it; else None: `row` says which of them does not."""
        if self.inputs is None or len(self.inputs) != 1 or not self.has_fixed_shapes:
            return None
        (spec,) = self.inputs
        if not spec.is_sized:
            return None
        try:
            array = _convert(rows, spec, spec.name)
        except InvalidRequest:
            return None
        return array if array.shape[1:] == spec.row_shape and array.ndim > len(spec.row_shape) else None

    def _by_input(self, features: Any) -> list[tuple[TensorSpec | None, Any, str]]:
        if not isinstance(features, Mapping):
            if self.inputs is None:
                return [(None, features, _UNNAMED)]
            if len(self.inputs) == 1:
                return [(self.inputs[0], features, self.inputs[0].name)]
            names = ", ".join(spec.name for spec in self.inputs)
            raise InvalidRequest(f"the model takes {len(self.inputs)} inputs: give a dict of {names}")
        if self.inputs is None:
            return [(None, values, str(name)) for name, values in features.items()]
        if features.keys() != {spec.name for spec in self.inputs}:
            names = ", ".join(spec.name for spec in self.inputs)
            given = ", ".join(map(str, features)) or "none"
            raise InvalidRequest(f"the model takes inputs {names}, the features have {given}")
        return [(spec, features[spec.name], spec.name) for spec in self.inputs]


def _convert(values: Any, spec: TensorSpec | None, name: str) -> Array:
    """An array of the input's dtype, whatever its shape."""
    if spec is not None and spec.datatype == BYTES:
        return _texts(values, name)
    if spec is not None and spec.datatype not in _OF_NUMPY:
        raise InvalidRequest(f"{name} is of {spec.datatype}, and features are numbers of NumPy's types")
    try:
        given = np.asarray(values)
    except (ValueError, TypeError, RuntimeError) as error:
        raise InvalidRequest(f"{name} is not an array of numbers: {error}") from None
    if given.dtype.kind not in "biuf":
        raise InvalidRequest(f"{name} holds {given.dtype}, not numbers")
    if given.dtype not in _DATATYPES and spec is None:
        raise InvalidRequest(f"{name} holds {given.dtype}, which no model is given")
    datatype = _datatype(given, values) if spec is None else spec.datatype
    wanted = np.dtype(NUMPY_TYPES[datatype])
    if given.dtype == wanted:
        return given
    with np.errstate(all="ignore"):
        array = given.astype(wanted)
    fits = np.isfinite(array) | ~np.isfinite(given) if wanted.kind == "f" else array == given
    if not fits.all():
        raise InvalidRequest(f"{name} holds {given[~fits].flat[0]!r}, which {datatype} cannot hold")
    return array


def _texts(values: Any, name: str) -> Array:
    """Elements of BYTES, as an array of `bytes` objects."""
    given = np.empty((), np.object_)
    if isinstance(values, (bytes, bytearray, memoryview, str)):
        given[()] = values
    else:
        given = np.array(values, np.object_)
    found = np.empty(given.size, np.object_)
    for at, value in enumerate(given.reshape(-1).tolist()):
        if not isinstance(value, (bytes, bytearray, memoryview, str)):
            raise InvalidRequest(f"{name} takes bytes or text, not {type(value).__name__}")
        found[at] = value.encode() if isinstance(value, str) else bytes(value)
    return found.reshape(given.shape)


def _datatype(given: Array, values: Any) -> str:
    """Where nobody knows what the model takes: that of an array, and what torch makes of Python's numbers."""
    datatype = _DATATYPES[given.dtype]
    return "FP32" if datatype == "FP64" and not hasattr(values, "dtype") else datatype


def _packed(array: Array) -> bytes:
    if array.dtype != np.object_:
        return array.tobytes()
    return pack_elements(array.reshape(-1).tolist())


def _check_shape(shape: tuple[int, ...], spec: TensorSpec | None, name: str) -> None:
    if spec is None or shape == spec.row_shape:
        return
    wanted = spec.row_shape
    if len(wanted) != len(shape) or any(w not in (-1, h) for w, h in zip(wanted, shape, strict=True)):
        raise InvalidRequest(f"{name} has shape {list(shape)}, a row of the model's has {list(wanted)}")


def _spec_of(shape: tuple[int, ...], array: Array, spec: TensorSpec | None, name: str) -> TensorSpec:
    return TensorSpec(name, _DATATYPES[array.dtype] if spec is None else spec.datatype, shape)


def predictions(layout: Specs, buffers: Sequence[Buffer], rows: int) -> list[Prediction]:
    """Each row's prediction, of one buffer per output that holds all rows."""
    if len(layout) == 1:
        return _column(layout[0], buffers[0], rows)
    columns = [_column(spec, buffer, rows) for spec, buffer in zip(layout, buffers, strict=True)]
    names = [spec.name for spec in layout]
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def prediction(layout: Specs, value: bytes) -> Prediction:
    """One row's prediction, of its outputs' bytes one after the other."""
    if len(layout) == 1:
        return _column(layout[0], value, 1)[0]
    buffers, at = [], 0
    for spec in layout:
        end = row_end(spec, value, at)
        buffers.append(value[at:end])
        at = end
    return predictions(layout, buffers, 1)[0]


def _column(spec: TensorSpec, buffer: Buffer, rows: int) -> list[Prediction]:
    numbers = array_of(spec, buffer, rows)
    if spec.row_shape in _SCALARS:
        values: list[Prediction] = numbers.reshape(-1).tolist()
        return values
    return list(map(_COPY, numbers))


_COPY: Callable[[Array], Array] = np.ndarray.copy
