"""`POST /predict`, the hot path: a direct handler on the HTTP lane, without ASGI in between."""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Callable
from typing import Any

import msgspec
from starlette.requests import Request as AsgiRequest
from starlette.responses import Response

from common.errors import InvalidRequest, ModelError, PipelineError, TooLarge
from common.tensor import BYTES, all_finite, floats, pack_vector, pack_vectors, vector_spec
from common.tensor import values as flat_values
from gateway.catalog import DEFAULT_MODEL, Catalog, Version
from gateway.doors.exchange import Asked, answer_over_asgi
from gateway.doors.inputs import Input, Signature, Tensor, read_rows, read_tensors
from gateway.doors.shape import encode, predict_failure
from gateway.predictions import MAX_TIMEOUT, Predictions
from gateway.requests import Answer, Provenance, Request


class Body(msgspec.Struct):
    """One of four ways to send rows: a vector, many vectors, one as base64 of little-endian float32, or
    tensors by name."""

    vector: list[float] | None = None
    vectors: list[list[float]] | None = None
    data: str | None = None
    inputs: list[Tensor] | None = None


_decoder = msgspec.json.Decoder(Body)
_UNFIT = re.compile(r"[^ -~]")  # for a header line: a worker may call itself anything


class PredictDoor:
    """Called by the lane with a whole request; the answer is written when the batch loop has it.

    It asks one model, in the version that is active where none is named; `of` is the door to another.
    """

    def __init__(
        self,
        predictions: Predictions,
        catalog: Catalog,
        model: str = DEFAULT_MODEL,
        version: str | None = None,
    ) -> None:
        self._predictions = predictions
        self._catalog = catalog
        self._model = model
        self._version = version

    def of(self, model: str, version: str | None = None) -> PredictDoor:
        """The same for another model."""
        return PredictDoor(self._predictions, self._catalog, model, version)

    async def over_asgi(self, request: AsgiRequest) -> Response:
        """The same for a client that comes by HTTP/2, where the lane has no part."""
        return await answer_over_asgi(self, request)

    def _find(self, exchange: Asked) -> Version:
        if self._version is None:
            return self._catalog.choose(self._model, exchange.header)
        return self._catalog.find(self._model, self._version)

    def __call__(self, exchange: Asked) -> None:
        many = False
        try:
            timeout = read_timeout(exchange.header(b"x-timeout-ms"))
            body = read_body(exchange.body)
            many = body.vectors is not None
            found = self._find(exchange)
            signature, buffers, rows = read_input(body, self._predictions.max_rows, found.inputs)
            render = render_tensors if body.inputs is not None else render_many if many else render_one
            reply = _replier(exchange, found.nn_id, render, many=many)
            request = self._predictions.start(found, signature, buffers, rows, timeout, reply)
        except PipelineError as error:
            exchange.respond(*predict_failure(error, many=many))
        else:
            exchange.on_gone = _canceller(self._predictions, request)


def _canceller(predictions: Predictions, request: Request) -> Callable[[], None]:
    return lambda: predictions.cancel(request)


def _replier(
    exchange: Asked, nn_id: str, render: Callable[[Answer, str], bytes], *, many: bool
) -> Callable[[Answer | PipelineError], None]:
    def reply(answer: Answer | PipelineError) -> None:
        if isinstance(answer, PipelineError):
            exchange.respond(*predict_failure(answer, many=many))
            return
        try:
            body = render(answer, nn_id)
        except PipelineError as error:
            exchange.respond(*predict_failure(error, many=many))
        else:
            exchange.respond(200, body, provenance(answer))

    return reply


def read_timeout(header: bytes | None) -> float | None:
    """Seconds of an `X-Timeout-Ms` header; `InvalidRequest` unless it is a number in (0, 3,600,000]."""
    if header is None:
        return None
    try:
        milliseconds = float(header)
    except ValueError:
        milliseconds = math.nan
    return check_timeout(milliseconds, "X-Timeout-Ms")


def check_timeout(milliseconds: float, name: str) -> float:
    """The same in seconds; `InvalidRequest` unless they are in (0, 3,600,000]."""
    if not 0 < milliseconds / 1000 <= MAX_TIMEOUT:
        raise InvalidRequest(f"{name} should be a number from 1 to {MAX_TIMEOUT * 1000:.0f}")
    return milliseconds / 1000


def read_body(raw: bytes | bytearray) -> Body:
    """The body of a predict request; `InvalidRequest` in the contract's words."""
    try:
        return _decoder.decode(raw)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"request body has a wrong shape: {error}") from None
    except (msgspec.DecodeError, RecursionError):
        raise InvalidRequest("cannot parse request body") from None


def read_input(body: Body, max_rows: int, wanted: Signature = ()) -> Input:
    """(signature, buffers, rows) of what was sent, as the model's signature `wanted` says where it is known;
    `InvalidRequest` or `TooLarge` in words about numbers."""
    given = (body.vector, body.vectors, body.data, body.inputs)
    if sum(each is not None for each in given) > 1:
        raise InvalidRequest("give one of vector, vectors, data and inputs, not several")
    if body.vector is not None:
        plain = vector_spec(len(body.vector))
        if wanted and wanted != plain and (fitted := read_rows([body.vector], wanted)) is not None:
            return fitted
        return plain, (pack_vector(body.vector),), 1
    if body.vectors is not None:
        if not body.vectors:
            raise InvalidRequest("vectors is empty: give at least one row")
        if len(body.vectors) > max_rows:
            raise TooLarge(f"{len(body.vectors)} rows in one request: at most {max_rows} are allowed")
        if wanted and wanted != vector_spec(len(body.vectors[0])):
            fitted = read_rows(body.vectors, wanted)
            if fitted is not None:
                return fitted
        width, packed = pack_vectors(body.vectors)
        return vector_spec(width), (packed,), len(body.vectors)
    if body.data is not None:
        data = _decode_base64(body.data)
        return vector_spec(len(data) // 4), (data,), 1
    if body.inputs is not None:
        return read_tensors(body.inputs)
    raise InvalidRequest("vector or data is required")


def _decode_base64(text: str) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidRequest("data has wrong format: it should be base64 of float32 numbers") from None
    if len(data) % 4:
        raise InvalidRequest(f"data has {len(data)} bytes: float32 numbers take a multiple of 4")
    if not all_finite(floats(data)):
        raise InvalidRequest("data holds NaN or infinity: only finite numbers are allowed")
    return data


def render_one(answer: Answer, nn_id: str) -> bytes:
    """The answer to one row: a number for outputs of one element, a list otherwise."""
    result = _rows(answer)[0]
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
    return {"status": True, "message": nn_id, "result": _rows(answer)[0]}


def show_many(answer: Answer, nn_id: str) -> dict[str, Any]:
    """What `render_many` renders."""
    return {"status": True, "message": nn_id, "results": _rows(answer)}


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


def _rows(answer: Answer) -> list[Any]:
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
