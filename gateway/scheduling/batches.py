"""A batch as a frame, and a frame's answers as each request's own. Pure."""

from __future__ import annotations

from collections.abc import Callable

from common import wire
from common.errors import InvalidRequest, PipelineError, WireError, row_error
from common.tensor import Buffer, TensorSpec, row_ends
from gateway.scheduling.requests import Answer, Batch, Provenance, Request

LARGE = 16_384  # bytes of a request: of larger ones another copy costs more than to go about them one by one

Reply = tuple[Request, Answer | PipelineError]


def grouped(requests: list[Request]) -> list[list[Request]]:
    """Requests by input signature, in order of first appearance; nearly always one group."""
    groups: dict[tuple[TensorSpec, ...], list[Request]] = {}
    for request in requests:
        groups.setdefault(request.signature, []).append(request)
    return list(groups.values())


def encode_batch(batch: Batch, groups: list[list[Request]], now: float) -> bytes:
    """The frame of a batch whose requests are grouped by signature."""
    parts: list[wire.Part] = []
    buffers: list[Buffer | list[Buffer]] = []
    for group in groups:
        signature = group[0].signature
        parts.append(
            wire.Part(signature, [r.rows for r in group], [max(0.0, r.deadline - now) for r in group])
        )
        if len(group) == 1:
            buffers += group[0].buffers  # which may be large: they are not copied for nothing
        elif group[0].size >= LARGE:
            buffers += [[r.buffers[i] for r in group] for i in range(len(signature))]
        else:
            buffers += [b"".join([r.buffers[i] for r in group]) for i in range(len(signature))]
    traces = [request.trace.sent() for request in batch.requests if request.trace is not None]
    model, version = batch.key
    return wire.encode(wire.Batch(batch.id, model, version, parts, traces, batch.is_lookup), buffers)


def split_answer(
    answer: wire.BatchAnswer, buffers: list[memoryview], groups: list[list[Request]], by: Provenance
) -> list[Reply]:
    """Each request's own answer or error; `WireError` when the frame does not fit what was asked."""
    if len(answer.parts) != len(groups):
        raise WireError(f"{len(answer.parts)} parts answered of {len(groups)}")
    replies: list[Reply] = []
    at = 0
    for part, group in zip(answer.parts, groups, strict=True):
        own = buffers[at : at + len(part.outputs)]
        at += len(part.outputs)
        replies += _split_part(part, own, group, by)
    if at != len(buffers):
        raise WireError(f"{len(buffers)} buffers for {at} outputs")
    return replies


def _split_part(
    part: wire.PartAnswer, buffers: list[memoryview], group: list[Request], by: Provenance
) -> list[Reply]:
    if len(part.hits) != len(group) or len(buffers) != len(part.outputs):
        raise WireError(f"an answer for {len(part.hits)} requests of {len(group)}")
    errors = {error.index: error for error in part.errors}
    if part.errors and len(errors.keys() & range(len(group))) < len(part.errors):
        raise WireError(f"errors of requests {[e.index for e in part.errors]} of {len(group)}")
    rows = sum(request.rows for i, request in enumerate(group) if i not in errors)
    try:
        cutters = [_cutter(spec, buffer, rows) for spec, buffer in zip(part.outputs, buffers, strict=True)]
    except InvalidRequest as error:
        raise WireError(f"an output that does not fit: {error}") from None
    replies: list[Reply] = []
    at = 0
    for i, request in enumerate(group):
        if i in errors:
            replies.append((request, row_error(errors[i].code, errors[i].message, errors[i].trace)))
            continue
        end = at + request.rows
        own = tuple([cut(at, end) for cut in cutters])
        at = end
        queue = request.sent - request.admitted
        replies.append((request, Answer(part.outputs, own, part.hits[i] == 1, queue, by)))
    return replies


def _cutter(spec: TensorSpec, buffer: memoryview, rows: int) -> Callable[[int, int], memoryview]:
    """What cuts rows out of an output; `InvalidRequest` where it does not hold so many."""
    if spec.is_sized:
        width = spec.row_bytes
        if buffer.nbytes != width * rows:
            raise InvalidRequest(f"{buffer.nbytes} bytes where {rows} rows take {width} each")
        return lambda start, end: buffer[start * width : end * width]
    bounds = [0, *row_ends(buffer, spec.row_elements, rows)]
    return lambda start, end: buffer[bounds[start] : bounds[end]]
