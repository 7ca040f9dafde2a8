"""One worker, seen from the program: its socket, its process, and the job that it has."""

from __future__ import annotations

import contextlib
import enum
import os
import signal

from common.channel import Channel
from ml_pool.jobs import Job
from ml_pool.kinds import Kind


class State(enum.Enum):
    """Where a worker is in its life; nothing follows `ENDING` but its end."""

    LOADING = "loading"
    IDLE = "idle"
    BUSY = "busy"
    ENDING = "ending"


class Worker:
    """Has a job exactly while it is `BUSY`."""

    def __init__(self, number: int, channel: Channel) -> None:
        self.number = number
        self.channel = channel
        self.state = State.LOADING
        self.job: Job | None = None
        self.jobs = 0
        self.pid = 0  # until it has said hello
        self.pidfd: int | None = None

    def send(self, job: Job) -> None:
        """Give it a job; `OSError` where it is gone."""
        self.state = State.BUSY
        self.job = job
        self.channel.send_at_once(Kind.JOB, job.packed.body, job.packed.fds)

    def take_job(self) -> Job | None:
        """Its job, which it has no more."""
        job, self.job = self.job, None
        if job is not None:
            self.state = State.IDLE
        return job

    def stop(self) -> None:
        """Ask it to end: an idle one sees the end of its socket, a busy one needs the signal."""
        self._end()
        self.channel.hang_up()
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it, whatever it does."""
        self._end()
        self.channel.hang_up()
        self._signal(signal.SIGKILL)

    def _end(self) -> None:
        self.state = State.ENDING
        self.job = None

    def _signal(self, number: int) -> None:
        # By its descriptor, which never means another process that got the same number later.
        with contextlib.suppress(OSError):
            if self.pidfd is not None:
                signal.pidfd_send_signal(self.pidfd, number)
            elif self.pid:
                os.kill(self.pid, number)

    def close(self) -> None:
        """Let go of what the program holds of it."""
        self.channel.close()
        if self.pidfd is not None:
            os.close(self.pidfd)
            self.pidfd = None
        self.pid = 0


def describe_end(status: int | None) -> str:
    """How a process ended, in words, from what `waitpid` says."""
    if status is None:
        return "ended"
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"
