"""Running one part of a batch through one model version: cache, equal rows, faults row by row.

Rows are bytes from the frame they came in to the frame they leave in; arrays are views made for the model
alone. The order of things:

1. Requests whose deadline has passed are left out.
2. Rows known to the cache are answered from it; equal rows are computed once.
3. The rest goes through the model together, at most `max_batch` at a time. If the model fails on them
   together, each goes through alone, so that a bad row fails alone.
4. A request with a failed row fails with that row's error; the others get their outputs.
"""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from common.errors import ModelError
from common.tensor import TensorSpec
from common.wire import Part, PartAnswer, RequestError
from engine.cache import Key, PredictionCache, Value, row_keys
from engine.runtimes.runtime import Array, Runtime, check_inputs

_NUMPY = {
    "BOOL": np.bool_, "INT8": np.int8, "INT16": np.int16, "INT32": np.int32, "INT64": np.int64,
    "UINT8": np.uint8, "UINT16": np.uint16, "UINT32": np.uint32, "UINT64": np.uint64,
    "FP32": np.float32, "FP64": np.float64,
}  # fmt: skip


class Ran(NamedTuple):
    """What became of a part: its answer, the buffers that go with it, seconds spent in the model."""

    answer: PartAnswer
    buffers: list[bytes]
    infer: float


class Execution:
    """One loaded model version: its runtime, its cache, and the lock that lets one batch in at a time."""

    def __init__(self, runtime: Runtime, cache: PredictionCache, *, max_batch: int) -> None:
        self.cache = cache
        self._runtime = runtime
        self._max_batch = max_batch
        self._turn = threading.Lock()
        self._outputs: tuple[TensorSpec, ...] = ()
        self._has_free_shapes = any(-1 in spec.row_shape for spec in runtime.inputs)

    def run(self, part: Part, buffers: Sequence[memoryview], received: float) -> Ran:
        """Answer every request of the part. `received` is when its frame came, on `time.monotonic`."""
        try:
            check_inputs(self._runtime.inputs, part.inputs)
        except ModelError as error:
            return self._all_failed(part, error)
        row_bytes = [spec.row_bytes for spec in part.inputs]
        data = [bytes(buffer) for buffer in buffers]
        keys = row_keys(data, row_bytes, sum(part.counts), self._signature(part.inputs))
        claim = self.cache.claim(keys)
        computed: dict[Key, Value] = {}
        errors: dict[Key, RequestError] = {}
        infer = 0.0
        late = self._late(part, received)
        try:
            if claim.owned:
                with self._turn:
                    began = time.perf_counter()
                    late = self._late(part, received)
                    wanted = _still_wanted(claim.owned, part.counts, late, keys)
                    computed, errors = self._compute(wanted, data, row_bytes, part.inputs)
                    infer = time.perf_counter() - began
        finally:
            self.cache.fulfil(claim, computed)
        for key, flight in claim.waiting.items():
            value = flight.wait().get(key)
            if value is not None:
                computed[key] = value
        stray = {key: keys.index(key) for key in claim.waiting if key not in computed}
        if stray:  # whoever computed them failed, or gave them up as late: they get their own try
            with self._turn:
                more, failed = self._compute(stray, data, row_bytes, part.inputs)
            computed |= more
            errors |= failed
        return self._assemble(part, keys, claim.values, set(claim.owned), computed, errors, late, infer)

    def _compute(
        self, wanted: dict[Key, int], data: list[bytes], row_bytes: list[int], inputs: tuple[TensorSpec, ...]
    ) -> tuple[dict[Key, Value], dict[Key, RequestError]]:
        """(values, errors) by key of the rows at the given indexes."""
        values: dict[Key, Value] = {}
        errors: dict[Key, RequestError] = {}
        items = list(wanted.items())
        for start in range(0, len(items), self._max_batch):
            batch = items[start : start + self._max_batch]
            try:
                values |= self._forward(batch, data, row_bytes, inputs)
            except Exception as error:
                if len(batch) == 1:
                    errors[batch[0][0]] = _failure(error)
                    continue
                for item in batch:
                    try:
                        values |= self._forward([item], data, row_bytes, inputs)
                    except Exception as alone:
                        errors[item[0]] = _failure(alone)
        return values, errors

    def _forward(
        self,
        batch: list[tuple[Key, int]],
        data: list[bytes],
        row_bytes: list[int],
        inputs: tuple[TensorSpec, ...],
    ) -> dict[Key, Value]:
        """One call of the model."""
        arrays: list[Array] = []
        for buffer, width, spec in zip(data, row_bytes, inputs, strict=True):
            rows = bytearray().join([buffer[i * width : (i + 1) * width] for _, i in batch])
            arrays.append(np.frombuffer(rows, _NUMPY[spec.datatype]).reshape(len(batch), *spec.row_shape))
        self._outputs, outputs = self._runtime.run(arrays)
        for output in outputs:
            if len(output) != len(batch):
                raise ModelError(f"the model answered {len(output)} rows to {len(batch)}")
        pieces = [output.tobytes() for output in outputs]
        widths = [spec.row_bytes for spec in self._outputs]
        if len(pieces) == 1:
            piece, width = pieces[0], widths[0]
            return {key: piece[n * width : (n + 1) * width] for n, (key, _) in enumerate(batch)}
        return {
            key: b"".join(p[n * w : (n + 1) * w] for p, w in zip(pieces, widths, strict=True))
            for n, (key, _) in enumerate(batch)
        }

    def _assemble(
        self,
        part: Part,
        keys: list[Key],
        known: list[Value | None],
        owned: set[Key],
        computed: dict[Key, Value],
        errors: dict[Key, RequestError],
        late: set[int],
        infer: float,
    ) -> Ran:
        failed: list[RequestError] = []
        hits = bytearray()
        rows: list[Value] = []
        at = 0
        for index, count in enumerate(part.counts):
            own = keys[at : at + count]
            values = [computed.get(key) if (v := known[at + n]) is None else v for n, key in enumerate(own)]
            fresh = any(key in owned for key in own)
            owned.difference_update(own)  # an equal row further on was not computed for its own sake
            hits.append(not fresh)
            at += count
            if index in late:
                failed.append(RequestError(index, "deadline", "Deadline exceeded"))
            elif None in values:
                error = errors[next(k for k, v in zip(own, values, strict=True) if v is None)]
                failed.append(RequestError(index, error.code, error.message, error.trace))
            else:
                rows += values  # type: ignore[arg-type]  # no None is left
        return Ran(PartAnswer(self._outputs, failed, bytes(hits)), self._columns(rows), infer)

    def _columns(self, rows: list[Value]) -> list[bytes]:
        """One buffer per output of rows that hold all outputs one after the other."""
        if len(self._outputs) <= 1:
            return [b"".join(rows)] if self._outputs else []
        columns, at = [], 0
        for spec in self._outputs:
            columns.append(b"".join(row[at : at + spec.row_bytes] for row in rows))
            at += spec.row_bytes
        return columns

    def _signature(self, inputs: tuple[TensorSpec, ...]) -> bytes:
        """What tells rows of equal bytes and unlike shape apart: nothing, where all shapes are fixed."""
        if not self._has_free_shapes:
            return b""
        return repr([spec.row_shape for spec in inputs]).encode()

    @staticmethod
    def _late(part: Part, received: float) -> set[int]:
        spent = time.monotonic() - received
        return {index for index, timeout in enumerate(part.timeouts) if timeout <= spent}

    @staticmethod
    def _all_failed(part: Part, error: ModelError) -> Ran:
        failure = _failure(error)
        errors = [
            RequestError(i, failure.code, failure.message, failure.trace) for i in range(len(part.counts))
        ]
        return Ran(PartAnswer((), errors, bytes(len(part.counts))), [], 0.0)


def _still_wanted(
    owned: dict[Key, int], counts: list[int], late: set[int], keys: list[Key]
) -> dict[Key, int]:
    """Those of `owned` that some request still in time needs."""
    if not late:
        return owned
    wanted: set[Key] = set()
    at = 0
    for index, count in enumerate(counts):
        if index not in late:
            wanted.update(keys[at : at + count])
        at += count
    return {key: row for key, row in owned.items() if key in wanted}


def _failure(error: Exception) -> RequestError:
    trace = "".join(traceback.format_exception(error))
    return RequestError(0, ModelError.code, str(error) or type(error).__name__, trace)
