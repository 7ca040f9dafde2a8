"""What predictions are answered in the first contract's shape, and the headers of every answer. Pure."""

from __future__ import annotations

import math
import re
from typing import Any

from common.errors import ModelError
from common.tensor import BYTES
from common.tensor import values as flat_values
from gateway.doors.shape import encode
from gateway.scheduling.requests import Answer, Provenance

_UNFIT = re.compile(r"[^ -~]")  # for a header line: a worker may call itself anything


def render_one(answer: Answer, nn_id: str) -> bytes:
    """The answer to one row: a number for outputs of one element, a list otherwise."""
    result = rows_of(answer)[0]
    if isinstance(result, float):
        return b'{"status":true,"message":"%b","result":%b}' % (nn_id.encode(), encode(result))
    return encode({"status": True, "message": nn_id, "result": result})


def render_many(answer: Answer, nn_id: str) -> bytes:
    """The answer to many rows, in their order."""
    return encode(show_many(answer, nn_id))


def render_tensors(answer: Answer, nn_id: str) -> bytes:
    """The answer to tensors: every output by its name, with all rows."""
    return encode(show_tensors(answer, nn_id))


def show_one(answer: Answer, nn_id: str) -> dict[str, Any]:
    """What `render_one` renders."""
    return {"status": True, "message": nn_id, "result": rows_of(answer)[0]}


def show_many(answer: Answer, nn_id: str) -> dict[str, Any]:
    """What `render_many` renders."""
    return {"status": True, "message": nn_id, "results": rows_of(answer)}


def show_tensors(answer: Answer, nn_id: str) -> dict[str, Any]:
    """What `render_tensors` renders."""
    outputs = []
    for spec, buffer in zip(answer.outputs, answer.buffers, strict=True):
        data = readable(flat_values(buffer, spec.datatype), spec.datatype)
        width = math.prod(spec.row_shape)
        shape = [len(data) // width if width else 0, *spec.row_shape]
        outputs.append({"name": spec.name, "datatype": spec.datatype, "shape": shape, "data": data})
    return {"status": True, "message": nn_id, "outputs": outputs}


def readable(flat: list[Any], datatype: str) -> list[Any]:
    """Elements as JSON has them; `ModelError` if one of them is not finite, or no text, which JSON cannot
    say."""
    if datatype == BYTES:
        try:
            return [element.decode() for element in flat]
        except UnicodeDecodeError:
            raise ModelError(
                "the model's answer holds bytes that are no UTF-8 text, which JSON cannot say"
            ) from None
    if not math.isfinite(sum(flat)) and not all(map(math.isfinite, flat)):
        raise ModelError("the model's answer holds NaN or infinity, which JSON has no number for")
    return flat


def rows_of(answer: Answer) -> list[Any]:
    """The first output as JSON values, one per row."""
    if not answer.outputs or 0 in answer.outputs[0].row_shape:
        raise ModelError("the model's answer is empty")
    spec, buffer = answer.outputs[0], answer.buffers[0]
    flat = readable(flat_values(buffer, spec.datatype), spec.datatype)
    width = math.prod(spec.row_shape)
    if width == 1:
        return flat
    return [flat[i : i + width] for i in range(0, len(flat), width)]


def provenance(answer: Answer) -> bytes:
    """Header lines: who answered, under which version, from the cache or not, and where the time went."""
    by = answer.by
    if not by.rendered:
        by.rendered = _render(by)
    cache = b"hit" if answer.hit else b"miss"
    return b"x-cache: %b\r\nserver-timing: queue;dur=%.3f, %b" % (cache, answer.queue * 1000, by.rendered)


def _render(by: Provenance) -> bytes:
    phases = (("batch", by.batch), ("link", by.link), ("infer", by.infer))
    timing = ", ".join(f"{name};dur={seconds * 1000:.3f}" for name, seconds in phases)
    worker = _UNFIT.sub("?", by.worker)
    return f"{timing}\r\nx-worker: {worker}\r\nx-model-version: {by.version}\r\n".encode()
