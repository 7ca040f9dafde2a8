"""Workers that are forked from a process which has imported torch already, as a gateway's local ones are.

To import it takes a worker one and a half seconds of processor time, and end-to-end tests start hundreds.
What is tested of the start itself starts a process of its own: `Site.spawn`.
"""

from __future__ import annotations

import atexit
import os
import select
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from functools import cache
from itertools import count
from typing import IO, Any

import msgspec

from common.channel import Channel, pair
from common.launching import Ended, Fork, Forked, Kind
from tests.e2e.environment import ROOT, SERVICES, clean_environment

PROGRAM = SERVICES / "warm_workers.py"


class WarmProcess:
    """A process that was forked there; what `subprocess.Popen` is to one that was started."""

    def __init__(self, server: WarmServer, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._server = server

    def poll(self) -> int | None:
        """Its exit code, if it has ended."""
        self._server.hear(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code, once it has ended."""
        deadline = time.monotonic() + (60.0 if timeout is None else timeout)
        while self.returncode is None:
            left = deadline - time.monotonic()
            if left <= 0:
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 60.0)
            self._server.hear(min(left, 0.1))  # another thread may hear it first
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.poll() is None:
            with suppress(ProcessLookupError):  # it has this moment
                os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)


class WarmServer:
    """The process that others are forked from. Thread-safe."""

    def __init__(self) -> None:
        ours, theirs = pair()
        self._channel = Channel(ours)
        self._lock = threading.Lock()
        self._ids = map(str, count())
        self._forked: dict[str, WarmProcess] = {}
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, str(PROGRAM), str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env=clean_environment(),
                cwd=ROOT,
                start_new_session=True,
            )

    def fork(self, command: list[str], log: str, environment: dict[str, str]) -> WarmProcess:
        """A new process that runs this program of ours."""
        with self._lock:
            order = Fork(next(self._ids), [log, *command], environment)
            self._channel.send(Kind.FORK, msgspec.msgpack.encode(order))
            while order.id not in self._forked:
                self._hear(None)
            return self._forked[order.id]

    def hear(self, timeout: float) -> None:
        """Take note of who has ended, or wait for somebody to."""
        with self._lock:
            self._hear(timeout)

    def _hear(self, timeout: float | None) -> None:
        if not select.select([self._channel], [], [], timeout)[0]:
            return
        frames, is_open = self._channel.receive_ready()
        for frame in frames:
            if frame.kind == Kind.FORKED:
                forked = msgspec.msgpack.decode(frame.body, type=Forked)
                self._forked[forked.id] = WarmProcess(self, forked.pid)
            else:
                ended = msgspec.msgpack.decode(frame.body, type=Ended)
                self._forked.pop(ended.id).returncode = exit_code(ended.how)
        assert is_open, "the process that warm workers are forked from has ended"

    def close(self) -> None:
        """Tell it to end, and wait until it has."""
        self._channel.hang_up()
        self._channel.close()
        self._process.wait(30)


def exit_code(how: str) -> int:
    """The exit code as `subprocess` has it, of a process's end as `common.processes.ending` has it."""
    word = how.rpartition(" ")[2]
    return int(word) if word.isdigit() else -signal.Signals[word]


@cache
def server() -> WarmServer:
    """The one of this process; it ends with it."""
    opened = WarmServer()
    atexit.register(opened.close)
    return opened


def popen(command: list[str], *, stdout: IO[bytes], env: dict[str, str], **_: Any) -> WarmProcess:
    """In place of `subprocess.Popen`: both streams go to the file, and it begins a session."""
    return server().fork(command[1:], stdout.name, env)
