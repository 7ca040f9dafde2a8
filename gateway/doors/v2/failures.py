"""Errors in this protocol's own shape, `{"error": "…"}`. Pure."""

from __future__ import annotations

from common.errors import LoadError, ModelError, NoWeights, PipelineError
from gateway.doors.shape import encode, lines_of

# REST v1 answers these with 200 and `"status":false`; here success is 200 and nothing else is.
_STATUSES: dict[type[PipelineError], int] = {NoWeights: 404, ModelError: 400, LoadError: 400}


def error_body(message: str) -> bytes:
    """What every refused request is answered."""
    return encode({"error": message})


def status_of(error: PipelineError) -> int:
    """The HTTP status; a model that fails on a row is the row's fault as far as anybody can tell."""
    return next((status for kind, status in _STATUSES.items() if isinstance(error, kind)), error.status)


def failure(error: PipelineError) -> tuple[int, bytes, bytes]:
    """(HTTP status, body, header lines) of a request that failed."""
    status = status_of(error)
    return status, error_body(str(error)), lines_of(error, status)
