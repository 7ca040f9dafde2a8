"""What came back from a worker, as what a job's future is set to. Decides; sets nothing."""

from __future__ import annotations

from typing import Any, NamedTuple

from common.channel import Frame
from ml_pool.exceptions import UserProvidedCallableFailedError
from ml_pool.jobs import Job
from ml_pool.kinds import Kind
from ml_pool.payload import decode


class Answer(NamedTuple):
    """A result, or an error."""

    value: Any
    error: BaseException | None = None

    def give_to(self, job: Job) -> None:
        """Set the job's future: whoever waits is woken, and whatever hangs on it is called here."""
        future, job.future.job = job.future, None  # or the two would keep each other, and the result
        if self.error is not None:
            future.set_exception(self.error)
        else:
            future.set_result(self.value)


def read_answer(frame: Frame) -> Answer:
    """The answer in a `DONE` or `FAILED` frame."""
    try:
        value, _ = decode(frame.body, frame.fd)
    except BaseException as error:
        failure = UserProvidedCallableFailedError(f"what the job returned cannot be read: {error!r}")
        failure.__cause__ = error
        return Answer(None, failure)
    if frame.kind == Kind.DONE:
        return Answer(value)
    message, text, cause = value
    failure = UserProvidedCallableFailedError(message, text)
    failure.__cause__ = cause
    return Answer(None, failure)
