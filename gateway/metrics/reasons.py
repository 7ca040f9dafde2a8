"""Why requests got no answer of a model, in a few words that alerts can name. Pure."""

from __future__ import annotations

from common import errors
from common.errors import (
    DeadlineExceeded,
    LinkError,
    LoadError,
    ModelError,
    NotSent,
    NoWorker,
    PipelineError,
    Poisoned,
    QueueFull,
    RequestCancelled,
    WorkerLost,
)

BAD_REQUEST, OTHER = "bad_request", "other"

_REASONS: dict[type[PipelineError], str] = {
    QueueFull: "queue_full",
    DeadlineExceeded: "deadline",
    RequestCancelled: "client_gone",
    WorkerLost: "worker_lost",
    Poisoned: "worker_lost",
    NoWorker: "worker_lost",
    LinkError: "worker_lost",
    NotSent: "worker_lost",
    ModelError: "model_error",
    LoadError: "model_error",
}
REASONS = (*dict.fromkeys(_REASONS.values()), BAD_REQUEST, OTHER)

_CALLERS = {
    kind.code
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, errors.CallerError)
}
_BY_CODE = dict.fromkeys(_CALLERS, BAD_REQUEST) | {kind.code: why for kind, why in _REASONS.items()}


def reason_of(code: str) -> str:
    """Why, by an error's wire word: whatever is the caller's own doing is a bad request."""
    return _BY_CODE.get(code, OTHER)
