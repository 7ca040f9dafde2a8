"""`POST /predict`, the hot path: a direct handler on the HTTP lane, without ASGI in between."""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Callable
from typing import NamedTuple

import msgspec
from starlette.requests import Request as AsgiRequest
from starlette.responses import Response

from common.errors import InvalidRequest, NotFound, PipelineError, TooLarge
from common.models import ModelSettings
from common.tensor import all_finite, floats, pack_vector, pack_vectors, vector_spec
from gateway.doors.exchange import Asked, AskedRow, answer_over_asgi
from gateway.doors.json import JsonReader
from gateway.doors.predict.inputs import Input, Signature, Tensor, read_plain, read_rows, read_tensors
from gateway.doors.predict.media import Cut, cut
from gateway.doors.predict.results import provenance, render_many, render_one, render_tensors
from gateway.doors.predict.typed_results import PNG, Render, read_top_n, render_png, renderer, wants_png
from gateway.doors.shape import predict_failure
from gateway.models.catalog import DEFAULT_MODEL, Catalog, Version
from gateway.scheduling.predictions import MAX_TIMEOUT, Predictions
from gateway.scheduling.requests import Answer, Request


class Body(msgspec.Struct):
    """One of four ways to send rows: a vector, many vectors, one as base64 of little-endian float32, or
    tensors by name."""

    vector: list[float] | None = None
    vectors: list[list[float]] | None = None
    data: str | None = None
    inputs: list[Tensor] | None = None

    @property
    def many(self) -> bool:
        """Whether it asks for a list of results."""
        return self.vectors is not None


class _Known(Body, forbid_unknown_fields=True):
    """One that has nothing else, and so is as deep as its fields' types let it be, but for `inputs`."""


class Plain(NamedTuple):
    """Rows as the model takes them: raw, row-major, little-endian."""

    body: bytes
    many: bool = False


BINARY = b"application/octet-stream"
CANNOT_PARSE = "cannot parse request body"
DOOR = "rest"  # as figures call it

_decoder, _decoder_of_known = msgspec.json.Decoder(Body), msgspec.json.Decoder(_Known)


class PredictDoor:
    """Called by the lane with a whole request; the answer is written when the batch loop has it.

    It asks one model, in the version that is active where none is named, and, where a `kind` is, only one of
    that input type; `of` is the door to another.
    """

    def __init__(
        self,
        predictions: Predictions,
        catalog: Catalog,
        model: str = DEFAULT_MODEL,
        version: str | None = None,
        kind: str | None = None,
        json: JsonReader | None = None,
    ) -> None:
        self._predictions = predictions
        self._catalog = catalog
        self._model = model
        self._version = version
        self._kind = kind
        self._json = json or JsonReader()

    def of(self, model: str, version: str | None = None, kind: str | None = None) -> PredictDoor:
        """The same for another model."""
        return PredictDoor(self._predictions, self._catalog, model, version, kind, self._json)

    async def over_asgi(self, request: AsgiRequest) -> Response:
        """The same for a client that comes by HTTP/2, where the lane has no part."""
        return await answer_over_asgi(self, request)

    def __call__(self, exchange: Asked) -> None:
        many = False
        try:
            asked = exchange.header(b"x-timeout-ms")
            timeout = None if asked is None else read_timeout(asked)
            sent = self._read(exchange)
            many = sent.many
            found = self._find(exchange)
            signature, buffers, rows = self._input(sent, found)
            render, kind = _choose_render(exchange, found.settings, sent, rows)
            reply = _replier(exchange, found.nn_id, render, kind, many=many)
            request = self._predictions.start(
                found, signature, buffers, rows, timeout, reply,
                door=DOOR, header=exchange.header, client=exchange.client,
            )  # fmt: skip
        except PipelineError as error:
            self._predictions.refused(DOOR, self._model, error)
            exchange.respond(*predict_failure(error, many=many))
        else:
            exchange.on_gone = _canceller(self._predictions, request)

    def take_row(self, asked: AskedRow) -> None:
        """The same of a request whose body is one vector. It is answered as a row where rows are what the
        model takes and gives."""
        likely = self._catalog.peek(self._model, self._version)
        if likely is None or not _is_plain(likely, asked.vector):
            self(asked)
            return
        try:
            milliseconds = asked.header(b"x-timeout-ms")
            timeout = None if milliseconds is None else read_timeout(milliseconds)
            found = self._find(asked)
            if found is not likely and not _is_plain(found, asked.vector):
                self(asked)
                return
            spec = vector_spec(len(asked.vector) // 4)
            reply = _row_replier(asked, found.nn_id)
            request = self._predictions.start(
                found, spec, (asked.vector,), 1, timeout, reply,
                door=DOOR, header=asked.header, client=asked.client,
            )  # fmt: skip
        except PipelineError as error:
            self._predictions.refused(DOOR, self._model, error)
            asked.respond(*predict_failure(error, many=False))
        else:
            asked.on_gone = _canceller(self._predictions, request)

    def _read(self, exchange: Asked) -> Body | Cut | Plain:
        """What was sent, as the model's input type says."""
        likely = self._catalog.peek(self._model, self._version)
        if likely is None:
            if self._kind is not None:
                self._find(exchange)  # which says what there is
            return read_body(exchange.body, self._json)
        settings = likely.settings
        if self._kind is not None and self._kind != settings.input_type:
            raise NotFound(
                f"{self._model} takes {settings.input_type}, not {self._kind}:"
                f" POST /models/{self._model}/{settings.input_type}"
            )
        content_type = exchange.header(b"content-type")
        if settings.is_decoded:
            return cut(settings, content_type, exchange.body, self._predictions.max_rows, self._json)
        if self._kind is not None and content_type == BINARY:
            return Plain(bytes(exchange.body))
        return read_body(exchange.body, self._json)

    def _find(self, exchange: Asked) -> Version:
        if self._version is None:
            return self._catalog.choose(self._model, exchange.header)
        return self._catalog.find(self._model, self._version)

    def _input(self, sent: Body | Cut | Plain, found: Version) -> Input:
        if isinstance(sent, Cut):
            return sent.input(found.settings)
        if isinstance(sent, Plain):
            return read_plain(sent.body, found.inputs)
        return read_input(sent, self._predictions.max_rows, found.inputs)


def _choose_render(
    exchange: Asked, settings: ModelSettings, sent: Body | Cut | Plain, rows: int
) -> tuple[Render, bytes]:
    """What makes the answer's body, and its content type as a header line: empty where that is JSON."""
    top_n = read_top_n(exchange.query, settings) if exchange.query else settings.output.top_n
    if isinstance(sent, Body) and settings.output_type == "raw":
        if sent.inputs is not None:
            return render_tensors, b""
        return (render_many if sent.many else render_one), b""
    many = sent.many or rows > 1 or (isinstance(sent, Body) and sent.inputs is not None)
    if not many and wants_png(settings, exchange.header(b"accept")):
        return render_png, PNG
    return renderer(settings, top_n, many=many), b""


def _is_plain(version: Version, vector: bytes) -> bool:
    """Whether a packed vector is what a version takes, and its answers need no words of their own."""
    settings = version.settings
    if settings.is_decoded or settings.output_type != "raw":
        return False
    return not version.inputs or version.inputs == vector_spec(len(vector) // 4)


def _row_replier(asked: AskedRow, nn_id: str) -> Callable[[Answer | PipelineError], None]:
    def reply(answer: Answer | PipelineError) -> None:
        if isinstance(answer, PipelineError):
            asked.respond(*predict_failure(answer, many=False))
        else:
            asked.reply(answer, nn_id)

    return reply


def _canceller(predictions: Predictions, request: Request) -> Callable[[], None]:
    return lambda: predictions.cancel(request)


def _replier(
    exchange: Asked, nn_id: str, render: Render, content_type: bytes, *, many: bool
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
            exchange.respond(200, body, content_type + provenance(answer))

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


def read_body(raw: bytes | bytearray, json: JsonReader) -> Body:
    """The body of a predict request; `InvalidRequest` in the contract's words."""
    try:
        body = _decoder_of_known.decode(raw)
    except (ValueError, RecursionError):  # it has other fields too, or something is wrong
        return json.read(raw, _decoder, otherwise=CANNOT_PARSE)
    if body.inputs is not None:
        json.check(raw, "request body")
    return body


def read_input(body: Body, max_rows: int, wanted: Signature = ()) -> Input:
    """(signature, buffers, rows) of what was sent, as the model's signature `wanted` says where it is known;
    `InvalidRequest` or `TooLarge` in words about numbers."""
    vector = body.vector
    others = body.vectors is not None, body.data is not None, body.inputs is not None
    if sum(others) > (vector is None):
        raise InvalidRequest("give one of vector, vectors, data and inputs, not several")
    if vector is not None:
        plain = vector_spec(len(vector))
        if wanted and wanted != plain and (fitted := read_rows([vector], wanted)) is not None:
            return fitted
        return plain, (pack_vector(vector),), 1
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
