"""What a pool raises, and nothing else. The names of the first five are those of MLPool 0.1.0.

`ValueError` (an unknown model, an argument that makes no sense) is Python's own.
"""

from __future__ import annotations


class MLPoolError(Exception):
    """Raised when the pool cannot do what was asked; the classes below say why."""


class UserProvidedCallableError(MLPoolError):
    """Raised when something that should load a model cannot be called."""


class CallableCannotBeSent(UserProvidedCallableError, ValueError):
    """Raised when a function or an argument cannot be pickled, so that no other process could have it."""


class UserProvidedCallableFailedError(MLPoolError):
    """Raised when a function of the user's raised in a worker; `traceback` is the text of its stack trace.

    `__cause__` is the exception itself, where it could be brought over.
    """

    def __init__(self, message: str, traceback: str = "") -> None:
        super().__init__(message, traceback)
        self.message = message
        self.traceback = traceback

    def __str__(self) -> str:
        return f"{self.message}\n\n{self.traceback}".rstrip()


class MLWorkerFailedBecauseOfUserProvidedCodeError(UserProvidedCallableFailedError):
    """Raised when a model cannot be loaded, by the constructor and by every later call."""


class JobWithSuchIDDoesntExistError(MLPoolError):
    """Raised when a job is unknown: never created, fetched already, cancelled, or expired."""


class WorkerDied(MLPoolError):
    """Raised when the worker that ran the job was killed or crashed."""


class JobTimedOut(MLPoolError, TimeoutError):
    """Raised when the job had not ended `timeout` seconds after it was created."""


class PoolIsShutDown(MLPoolError):
    """Raised when the pool was shut down, before or while the job waited or ran."""
