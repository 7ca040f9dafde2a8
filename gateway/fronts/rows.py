"""The commonest prediction, one vector in JSON and one answer in JSON: what a front does of it, so that the
gateway reads no numbers and writes none. Pure.

A front knows no models: it sends the body too, and the gateway goes by that where the model wants something
else, or wants to say it otherwise.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from common.errors import PipelineError
from common.tensor import TensorSpec, pack_vector
from gateway.doors.predict.results import provenance, render_one
from gateway.doors.shape import predict_failure
from gateway.scheduling.requests import Answer, Provenance


class _Plain(msgspec.Struct, forbid_unknown_fields=True):
    vector: list[float]


_decode = msgspec.json.Decoder(_Plain).decode


def pack(path: str, query: bytes, body: bytes | bytearray) -> bytes:
    """The row of a request whose body is one vector, as the gateway's doors would pack it; empty for every
    other request."""
    if query or not path.endswith("/predict"):
        return b""
    try:
        return pack_vector(_decode(body).vector)
    except (ValueError, PipelineError):  # msgspec's own are ValueErrors
        return b""  # what is wrong with it the door says


class RowAnswer(msgspec.Struct, array_like=True, frozen=True):
    """An answer as a worker gave it: whether from a cache, seconds in the queue, and all outputs."""

    id: int
    extra: bytes
    hit: bool
    queue: float
    buffers: tuple[bytes, ...]


class Rows(msgspec.Struct, array_like=True):
    """Answers that a batch brought, and what they have in common."""

    nn_id: str
    worker: str
    version: str
    batch: float
    link: float
    infer: float
    outputs: tuple[TensorSpec, ...]
    rows: list[RowAnswer]


class Rendered(NamedTuple):
    """What `Exchange.respond` is given."""

    id: int
    status: int
    body: bytes
    extra: bytes


def render(rows: Rows) -> list[Rendered]:
    """The answers as clients get them: by what the gateway itself would render them with."""
    by = Provenance(rows.worker, rows.version, batch=rows.batch, link=rows.link, infer=rows.infer)
    rendered = []
    for row in rows.rows:
        buffers = tuple([memoryview(buffer) for buffer in row.buffers])
        answer = Answer(rows.outputs, buffers, row.hit, row.queue, by)
        try:
            found = 200, render_one(answer, rows.nn_id), provenance(answer)
        except PipelineError as error:
            found = predict_failure(error, many=False)
        status, body, extra = found
        rendered.append(Rendered(row.id, status, body, extra + row.extra))
    return rendered
