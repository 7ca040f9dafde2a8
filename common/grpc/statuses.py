"""Status codes of gRPC, and the one place where the error tree becomes them. Pure."""

from __future__ import annotations

import enum

from common import errors


class Status(enum.IntEnum):
    """https://grpc.github.io/grpc/core/md_doc_statuscodes.html"""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class Refused(Exception):
    """Raised when a call cannot be taken as it came, with the status that says why."""

    def __init__(self, status: Status, message: str) -> None:
        super().__init__(message)
        self.status = status


# The nearest class above an error says its status. UNAVAILABLE promises that the same call may go well later,
# which a full queue does too, but that has a word of its own.
_STATUSES: dict[type[BaseException], Status] = {
    errors.PipelineError: Status.INTERNAL,
    errors.CallerError: Status.INVALID_ARGUMENT,
    errors.NotFound: Status.NOT_FOUND,
    errors.NoWeights: Status.NOT_FOUND,
    errors.Unauthenticated: Status.UNAUTHENTICATED,
    errors.Forbidden: Status.PERMISSION_DENIED,
    errors.RateLimited: Status.RESOURCE_EXHAUSTED,
    errors.ModelError: Status.INVALID_ARGUMENT,
    errors.LoadError: Status.INVALID_ARGUMENT,
    errors.Overloaded: Status.UNAVAILABLE,
    errors.QueueFull: Status.RESOURCE_EXHAUSTED,
    errors.DeadlineExceeded: Status.DEADLINE_EXCEEDED,
    errors.WorkerLost: Status.UNAVAILABLE,
    errors.Poisoned: Status.INTERNAL,
    errors.LinkError: Status.UNAVAILABLE,
    errors.DiskFull: Status.RESOURCE_EXHAUSTED,
    errors.Conflict: Status.FAILED_PRECONDITION,
}


def status_of(error: errors.PipelineError) -> Status:
    """What an error is called in gRPC."""
    return next(_STATUSES[kind] for kind in type(error).__mro__ if kind in _STATUSES)
