"""Processes of this machine, told apart: a process id is given to another one sooner or later, and never
together with the same time of start.
"""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path


def start_time(pid: int) -> int | None:
    """When a process started, in ticks since the machine did; None where there is none, or only what its
    parent has not taken note of yet."""
    try:
        line = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    state, *rest = line.rpartition(b")")[2].split()  # what comes before may have any character in it
    return None if state in (b"Z", b"X") else int(rest[18])


def send_signal(pid: int, started: int, number: int) -> bool:
    """Send a signal to the process that started then, and to no other; whether there is one."""
    try:
        fd = os.pidfd_open(pid)  # first: what it stands for is one process, whatever the number comes to mean
    except OSError:
        return False
    try:
        if start_time(pid) != started:
            return False
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(fd, number)
        return True
    finally:
        os.close(fd)


def ending(status: int) -> str:
    """How a process ended, of what `waitpid` said of it."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        names = {each.value: each.name for each in signal.Signals}
        return f"killed by {names.get(number, f'signal {number}')}"
    return f"exit code {os.WEXITSTATUS(status)}"
