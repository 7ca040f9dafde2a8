"""The JSON shapes of REST v1 that more than one of its routes gives. Pure."""

from __future__ import annotations

import base64
from typing import Any

import msgspec

from common.errors import LoadError, ModelError, NoWeights, Overloaded, PipelineError

_encoder = msgspec.json.Encoder()

RETRY_AFTER = b"retry-after: 1\r\n"


def encode(value: Any) -> bytes:
    """JSON bytes."""
    return _encoder.encode(value)


def failure(message: str) -> dict[str, Any]:
    """What every refused request is answered."""
    return {"status": False, "message": message}


def error_body(status: int, message: str, path: str) -> bytes:
    """A refusal by the HTTP lane, which knows no door: the shape is that of v1."""
    return encode(failure(message))


def predict_failure(error: PipelineError, *, many: bool) -> tuple[int, bytes, bytes]:
    """(HTTP status, body, header lines) for a prediction that failed.

    What the model itself says (its stack trace, base64) and having no weights are 200 with
    `"status":false`; everything else is an HTTP error.
    """
    extra = RETRY_AFTER if isinstance(error, Overloaded) else b""
    return error.status, encode(show_failure(error, many=many)), extra


def show_failure(error: PipelineError, *, many: bool) -> dict[str, Any]:
    """The body of `predict_failure`."""
    if isinstance(error, ModelError | LoadError):
        message = base64.b64encode(error.trace.encode()).decode()
    else:
        message = str(error)
    body = failure(message)
    if isinstance(error, ModelError | NoWeights):
        body["results" if many else "result"] = [] if many else 0.0
    return body
