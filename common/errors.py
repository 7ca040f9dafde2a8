"""The one error tree of Pipeline, split by blame, and nothing else.

Every class says "Raised when …" and carries two attributes that the doors translate from:
`code`, the word that crosses the wire and stands in metrics, and `status`, the HTTP status.
"""

from __future__ import annotations


class PipelineError(Exception):
    """Raised when Pipeline cannot do what was asked; its subclasses say whose fault that is.

    `request_id` is that of the request it is about, where its caller gave it one.
    """

    code = "internal"
    status = 500
    request_id: str | None = None


class CallerError(PipelineError):
    """Raised when the request itself is at fault: sending it again cannot help."""

    code = "bad_request"
    status = 400


class InvalidRequest(CallerError):
    """Raised when a request cannot be understood or holds values that no model takes."""


class TooLarge(CallerError):
    """Raised when a request is bigger than a limit allows."""

    code = "too_large"
    status = 413


class UnsupportedMedia(CallerError):
    """Raised when a request's body is of a kind that the model does not take."""

    code = "unsupported_media"
    status = 415


class NotFound(CallerError):
    """Raised when a request names something that is not there."""

    code = "not_found"
    status = 404


class ModelNotFound(NotFound):
    """Raised when a request names a model, or a version of it, that is not loaded."""


class RequestCancelled(CallerError):
    """Raised when whoever asked took the request back before it was answered."""

    code = "cancelled"
    status = 499


class WindowFull(CallerError):
    """Raised when a client has more in flight on one connection than it was told it may."""

    code = "window_full"
    status = 429


class Unauthenticated(CallerError):
    """Raised when nobody knows who asks: there is no token, or it is not one that is known."""

    code = "unauthenticated"
    status = 401


class Forbidden(CallerError):
    """Raised when whoever asks is known, and may not do that."""

    code = "forbidden"
    status = 403


class RateLimited(CallerError):
    """Raised when whoever asks has had as much as it may for now; `retry_after` is in how many seconds."""

    code = "rate_limited"
    status = 429

    def __init__(self, message: str, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class NoWeights(CallerError):
    """Raised when a prediction is asked for before any weights were set."""

    code = "no_weights"
    status = 200


class ModelError(PipelineError):
    """Raised when the model refused or failed on this very row; `trace` is the text of the stack trace."""

    code = "model_error"
    status = 200

    def __init__(self, message: str, trace: str = "") -> None:
        super().__init__(message)
        self.trace = trace or message


class NotCached(PipelineError):
    """Raised when a look-up meets a row that the worker does not remember; no client is told."""

    code = "not_cached"


class LoadError(PipelineError):
    """Raised when weights cannot be loaded; `trace` is the text of the stack trace."""

    code = "load_error"
    status = 200

    def __init__(self, message: str, trace: str = "") -> None:
        super().__init__(message)
        self.trace = trace or message


class Overloaded(PipelineError):
    """Raised when there is no room; the caller may come back."""

    code = "overloaded"
    status = 503


class QueueFull(Overloaded):
    """Raised when the queue holds as many requests as it may."""

    code = "queue_full"


class NoWorker(Overloaded):
    """Raised when no live worker could take the request within its deadline."""

    code = "no_worker"


class Draining(Overloaded):
    """Raised when the process is shutting down and takes nothing new."""

    code = "draining"


class NotRunning(Overloaded):
    """Raised when a prediction is asked of a server that was not started, or was stopped."""

    code = "not_running"


class DeadlineExceeded(PipelineError):
    """Raised when a request's deadline passed before its answer came."""

    code = "deadline"
    status = 504


class WorkerLost(PipelineError):
    """Raised when a worker went away with work in its hands; the work may or may not have run."""

    code = "worker_lost"
    status = 503


class Poisoned(WorkerLost):
    """Raised when a request has been on two workers as they died: it is not sent to a third."""

    code = "poisoned"
    status = 500


class LinkError(PipelineError):
    """Raised when a link or the survey cannot carry a message."""

    code = "link"
    status = 503


class NotSent(LinkError):
    """Raised when a message certainly never left: sending it elsewhere cannot run it twice."""

    code = "not_sent"


class LinkClosed(LinkError):
    """Raised when an operation meets a socket that was closed on purpose."""

    code = "closed"


class WireError(PipelineError):
    """Raised when a frame does not decode; keeps the bytes (`frame`) for whoever has to look at them."""

    code = "wire"

    def __init__(self, message: str, frame: bytes = b"") -> None:
        super().__init__(message)
        self.frame = frame


class Unproven(WireError):
    """Raised when a frame comes from somebody who has not proved to hold the fleet's token."""

    code = "unproven"


class StateError(PipelineError):
    """Raised when the state directory cannot be used: locked, damaged, or of a newer release."""

    code = "state"


class StateInUse(StateError):
    """Raised when another process holds the state directory."""

    code = "state_in_use"


class DiskFull(StateError):
    """Raised when the disk has no room for what is to be kept."""

    code = "disk_full"
    status = 507


class Conflict(StateError):
    """Raised when a change does not fit what the state holds: another change has to come first."""

    code = "conflict"
    status = 409


class IllegalTransition(PipelineError):
    """Raised when a life (of a worker, a rollout) is told of an event its state does not know."""

    code = "transition"


class CertificateError(PipelineError):
    """Raised when a certificate, or a file that belongs to it, cannot be used."""

    code = "certificate"


class TokenError(PipelineError):
    """Raised when a file of tokens cannot be used."""

    code = "tokens"


class LaunchError(PipelineError):
    """Raised when what starts workers cannot be asked, or refuses; the same order may succeed later."""

    code = "launch"
    status = 503


# What one row may fail by, as the wire says it.
_OF_ROWS: dict[str, type[PipelineError]] = {
    kind.code: kind for kind in (DeadlineExceeded, InvalidRequest, NotCached, TooLarge, UnsupportedMedia)
}


def row_error(code: str, message: str, trace: str = "") -> PipelineError:
    """The error of a row that a worker tells of: what the model says, unless the word is another one's."""
    kind = _OF_ROWS.get(code)
    return ModelError(message, trace) if kind is None else kind(message)
