"""The JSON shapes that more than one route of REST gives. Pure."""

from __future__ import annotations

import base64
import math
from typing import Annotated, Any, TypedDict

import msgspec
from msgspec import Meta

from common.errors import (
    LoadError,
    ModelError,
    NoWeights,
    Overloaded,
    PipelineError,
    RateLimited,
    Unauthenticated,
)

_encoder = msgspec.json.Encoder()

RETRY_AFTER = b"retry-after: 1\r\n"


class Done(TypedDict):
    """That what was asked is done."""

    status: Annotated[bool, Meta(extra_json_schema={"const": True})]
    message: str


class Failure(TypedDict):
    """What every refused request is answered."""

    status: Annotated[bool, Meta(extra_json_schema={"const": False})]
    message: Annotated[str, Meta(description="a sentence that says what was wrong and what is allowed")]


def lines_of(error: PipelineError, status: int) -> bytes:
    """The header lines that go with an error: when to come back, or how to say who asks."""
    if isinstance(error, RateLimited):
        return b"retry-after: %d\r\n" % max(1, math.ceil(error.retry_after))
    if isinstance(error, Unauthenticated):
        return b'www-authenticate: Bearer realm="pipeline"\r\n'
    return RETRY_AFTER if status == 503 or isinstance(error, Overloaded) else b""


def headers_of(error: PipelineError, status: int) -> dict[str, str]:
    """The same by name."""
    return {name.decode(): value.decode() for name, value in pairs_of(lines_of(error, status))}


def pairs_of(lines: bytes) -> list[tuple[bytes, bytes]]:
    """Header lines as names and values."""
    return [
        (name, value) for name, _, value in (line.partition(b": ") for line in lines.split(b"\r\n")) if name
    ]


def encode(value: Any) -> bytes:
    """JSON bytes."""
    return _encoder.encode(value)


def is_v2(path: str) -> bool:
    """Whether a path belongs to the Open Inference Protocol."""
    return path == "/v2" or path.startswith("/v2/")


def is_autodep(path: str) -> bool:
    """Whether a path belongs to the API of autodep."""
    return path in ("/inference", "/workers") or path.startswith("/workers/")


def failure(message: str) -> Failure:
    """What every refused request is answered."""
    return {"status": False, "message": message}


def error_body(status: int, message: str, path: str) -> bytes:
    """A refusal by the HTTP lane or the app, in the shape of the protocol that the path belongs to."""
    if is_autodep(path):
        return encode({"errors": [message]})
    return encode({"error": message} if is_v2(path) else failure(message))


def predict_failure(error: PipelineError, *, many: bool) -> tuple[int, bytes, bytes]:
    """(HTTP status, body, header lines) for a prediction that failed.

    What the model itself says (its stack trace, base64) and having no weights are 200 with
    `"status":false`; everything else is an HTTP error.
    """
    return error.status, encode(show_failure(error, many=many)), lines_of(error, error.status)


def show_failure(error: PipelineError, *, many: bool) -> dict[str, Any]:
    """The body of `predict_failure`."""
    if isinstance(error, ModelError | LoadError):
        message = base64.b64encode(error.trace.encode()).decode()
    else:
        message = str(error)
    body: dict[str, Any] = {**failure(message)}
    if isinstance(error, ModelError | NoWeights):
        body["results" if many else "result"] = [] if many else 0.0
    return body
