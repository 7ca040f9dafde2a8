"""Rows through a runtime: so many at a time, and whichever row a call fails on found out."""

from __future__ import annotations

import time
import traceback

from common.errors import CallerError, ModelError
from common.tensor import TensorSpec
from common.wire import Call, RequestError
from engine.cache import Key, Value
from engine.rows import Array, Rows, rows_of
from engine.runtimes.runtime import RowsFailed, Runtime

Layout = tuple[TensorSpec, ...]  # what one row of each output is
Wanted = dict[Key, int]  # rows to run: their keys, and where among the part's rows they are


class Outcome:
    """What became of rows: a value or an error for each key, seconds spent in the model (also in vain), and
    the calls that gave answers.

    A value holds the row of every output, one after the other, as `layout` says.
    """

    __slots__ = ("calls", "errors", "infer", "layout", "values")

    def __init__(self, layout: Layout | None) -> None:
        self.layout = layout
        self.values: dict[Key, Value] = {}
        self.errors: dict[Key, RequestError] = {}
        self.infer = 0.0
        self.calls: list[Call] = []


def run_rows(runtime: Runtime, rows: Rows, wanted: Wanted, outcome: Outcome, *, max_batch: int) -> None:
    """Run the wanted rows, at most `max_batch` a call. Never raises what the model raises: rows that fail
    together are halved until those at fault are alone, so each costs a few calls more and fails alone. Only
    where there is no memory even for one row it raises `MemoryError`: that is not the row's fault."""
    waiting = _cut(wanted, max_batch)
    while waiting:
        batch = waiting.pop()
        try:
            _forward(runtime, rows, batch, outcome)
        except Exception as error:
            if len(batch) == 1:
                if _is_out_of_memory(error):
                    raise MemoryError(str(error)) from error
                outcome.errors[next(iter(batch))] = failure(error)
                continue
            waiting += _cut(batch, (len(batch) + 1) // 2)


def _is_out_of_memory(error: Exception) -> bool:
    """Torch says it by errors of its own: a class for GPUs, and its allocator's sentence for the rest."""
    said = type(error).__name__ == "OutOfMemoryError" or "DefaultCPUAllocator" in str(error)
    return said or isinstance(error, MemoryError)


def _cut(wanted: Wanted, size: int) -> list[Wanted]:
    """Pieces of at most `size` rows, the first one last."""
    if len(wanted) <= size:
        return [wanted] if wanted else []
    items = list(wanted.items())
    return [dict(items[at : at + size]) for at in range(0, len(items), size)][::-1]


def _forward(runtime: Runtime, rows: Rows, batch: Wanted, outcome: Outcome) -> None:
    """One call of the model."""
    taken = time.perf_counter()
    arrays = rows.arrays(batch.values())
    began = time.perf_counter()
    try:
        layout, outputs = runtime.run(arrays)
    except RowsFailed as failed:
        batch, layout, outputs = _without(failed, batch, outcome), failed.layout, failed.outputs
        if not batch:
            return
    finally:
        ended = time.perf_counter()
        outcome.infer += ended - began
    _check_outputs(layout, outputs, len(batch), outcome)
    columns = [rows_of(spec, output) for spec, output in zip(layout, outputs, strict=True)]
    values = columns[0] if len(columns) == 1 else map(b"".join, zip(*columns, strict=True))
    outcome.values.update(zip(batch, values, strict=True))
    outcome.calls.append(Call(len(batch), began - taken, ended - began, time.perf_counter() - ended))


def _without(failed: RowsFailed, batch: Wanted, outcome: Outcome) -> Wanted:
    """The rows that did not fail; the others have their errors."""
    keys = list(batch)
    for at, error in failed.errors.items():
        if _is_out_of_memory(error):
            raise MemoryError(str(error)) from error
        outcome.errors[keys[at]] = failure(error)
    return {key: batch[key] for at, key in enumerate(keys) if at not in failed.errors}


def _check_outputs(layout: Layout, outputs: list[Array], rows: int, outcome: Outcome) -> None:
    """Rows travel as bytes from here on: a model that is wrong about their size would mix them up."""
    if outcome.layout is not None and outcome.layout != layout:
        raise ModelError(
            f"the model's outputs are {layout}, and were {outcome.layout} for rows of this shape"
        )
    for spec, output in zip(layout, outputs, strict=True):
        is_whole = output.shape == (rows, *spec.row_shape)
        if not is_whole or (spec.is_sized and output.nbytes != rows * spec.row_bytes):
            raise ModelError(
                f"the model answered {rows} rows with {output.dtype} {list(output.shape)}, "
                f"not {spec.datatype} {[rows, *spec.row_shape]}"
            )
    outcome.layout = layout


def failure(error: Exception) -> RequestError:
    """A failure as it travels: what it says, and the text of its stack trace, or, where the row itself is at
    fault, its sentence alone."""
    if isinstance(error, CallerError):
        return RequestError(0, error.code, str(error))
    trace = "".join(traceback.format_exception(error))
    return RequestError(0, ModelError.code, str(error) or type(error).__name__, trace)
