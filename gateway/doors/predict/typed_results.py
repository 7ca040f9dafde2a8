"""What the output types are answered as: classes with labels, images, detections, text, vectors. Pure."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from typing import Any, TypedDict
from urllib.parse import parse_qsl

import msgspec
from pybase64 import b64encode_as_string

from common.errors import InvalidRequest, ModelError
from common.models import MAX_LABELS, ModelSettings
from common.tensor import BYTES
from common.tensor import values as flat_values
from gateway.doors.predict.results import readable, rows_of, show_tensors
from gateway.doors.shape import encode
from gateway.scheduling.requests import Answer

Render = Callable[[Answer, str], bytes]

PNG = b"content-type: image/png\r\n"


class ClassShown(TypedDict):
    """One class of a row."""

    label: str
    index: int
    probability: float


def read_top_n(query: bytes, settings: ModelSettings) -> int:
    """How many classes are asked for: the query's `top_n`, else what the settings say; `InvalidRequest`."""
    if b"top_n" not in query:
        return settings.output.top_n
    said = dict(parse_qsl(query.decode("latin-1"), keep_blank_values=True)).get("top_n")
    if said is None:
        return settings.output.top_n
    if settings.output_type != "classification":
        raise InvalidRequest(
            f"top_n is for models that classify, and this one answers {settings.output_type}"
        )
    if not (said.isascii() and said.isdigit() and 1 <= int(said[:9]) <= MAX_LABELS):
        raise InvalidRequest(f"top_n should be a whole number from 1 to {MAX_LABELS}, not {said[:40]!r}")
    return int(said[:9])


def wants_png(settings: ModelSettings, accept: bytes | None) -> bool:
    """Whether the one image of an answer is asked for as it is, not as base64 in JSON."""
    if settings.output_type != "image" or accept is None:
        return False
    return b"image/png" in accept or b"image/*" in accept


def renderer(settings: ModelSettings, top_n: int, *, many: bool) -> Render:
    """What makes the body of an answer: v1's, with a result for each row."""

    def render(answer: Answer, nn_id: str) -> bytes:
        shown = show_rows(answer, settings, top_n)
        if many:
            return encode({"status": True, "message": nn_id, "results": shown})
        return encode({"status": True, "message": nn_id, "result": shown[0]})

    return render


def render_png(answer: Answer, nn_id: str) -> bytes:
    """The one image of an answer, as it is."""
    return _elements(answer)[0]


def show_rows(answer: Answer, settings: ModelSettings, top_n: int) -> list[Any]:
    """What each row is answered, as JSON has it; `ModelError` for what JSON cannot say."""
    kind = settings.output_type
    if kind == "classification":
        return _classes(answer, settings.labels, top_n)
    if kind == "image":
        return [b64encode_as_string(each) for each in _elements(answer)]
    if kind == "detections":
        return [msgspec.Raw(each) for each in _elements(answer)]
    if kind == "raw" and len(answer.outputs) > 1:
        return _by_name(answer)
    return rows_of(answer)


def _elements(answer: Answer) -> list[bytes]:
    if not answer.outputs or answer.outputs[0].datatype != BYTES:
        raise ModelError("the model's answer is not of its output type: its settings were changed meanwhile")
    return flat_values(answer.buffers[0], BYTES)


def _classes(answer: Answer, labels: tuple[str, ...], top_n: int) -> list[list[ClassShown]]:
    """The most probable classes of each row, the first of equals first."""
    if not answer.outputs or answer.outputs[0].datatype == BYTES:
        raise ModelError("the model's answer is not of its output type: its settings were changed meanwhile")
    spec = answer.outputs[0]
    flat = readable(flat_values(answer.buffers[0], spec.datatype), spec.datatype)
    width = math.prod(spec.row_shape) or 1
    shown = []
    for start in range(0, len(flat), width):
        row = flat[start : start + width]
        best = heapq.nlargest(top_n, range(width), key=row.__getitem__)
        shown.append([_class(row[at], at, labels) for at in best])
    return shown


def _class(probability: float, index: int, labels: tuple[str, ...]) -> ClassShown:
    label = labels[index] if index < len(labels) else str(index)
    return {"label": label, "index": index, "probability": probability}


def _by_name(answer: Answer) -> list[Any]:
    """Each row of several outputs, by their names."""
    outputs = show_tensors(answer, "")["outputs"]
    rows = outputs[0]["shape"][0]
    shown: list[dict[str, Any]] = [{} for _ in range(rows)]
    for output in outputs:
        width = len(output["data"]) // rows
        for at, row in enumerate(shown):
            values = output["data"][at * width : (at + 1) * width]
            row[output["name"]] = values[0] if width == 1 else values
    return shown
