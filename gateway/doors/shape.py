"""The JSON shapes that more than one route of REST gives. Pure."""

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


def is_v2(path: str) -> bool:
    """Whether a path belongs to the Open Inference Protocol."""
    return path == "/v2" or path.startswith("/v2/")


def failure(message: str) -> dict[str, Any]:
    """What every refused request is answered."""
    return {"status": False, "message": message}


def error_body(status: int, message: str, path: str) -> bytes:
    """A refusal by the HTTP lane or the app, in the shape of the protocol that the path belongs to."""
    return encode({"error": message} if is_v2(path) else failure(message))


def predict_failure(error: PipelineError, *, many: bool) -> tuple[int, bytes, bytes]:
    """(HTTP status, body, header lines) for a prediction that failed.

    What the model itself says (its stack trace, base64) and having no weights are 200 with
    `"status":false`; everything else is an HTTP error.
    """
    if isinstance(error, ModelError | LoadError):
        message = base64.b64encode(error.trace.encode()).decode()
    else:
        message = str(error)
    body = failure(message)
    if isinstance(error, ModelError | NoWeights):
        body["results" if many else "result"] = [] if many else 0.0
    extra = RETRY_AFTER if isinstance(error, Overloaded) else b""
    return error.status, encode(body), extra
