"""How workers come to be, seen from the program: forked from a template, or each an interpreter of its own.

`forking` is the other side. Every socket of the program is closed in whatever the program forks by itself, so
that no stranger keeps a pool's processes from seeing its end.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import pickle
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterable
from multiprocessing.util import _args_from_interpreter_flags  # type: ignore[attr-defined]
from typing import Any, Protocol

from common.channel import Channel, Frame, pair
from common.forking import fork
from ml_pool import forking
from ml_pool.child import LoadFailed, WorkerConfig
from ml_pool.kinds import Kind
from ml_pool.payload import decode, encode

START_METHODS = ("forkserver", "fork", "spawn")

_own_ends: weakref.WeakSet[socket.socket] = weakref.WeakSet()


def own_pair() -> tuple[socket.socket, socket.socket]:
    """A socket of the program, and the other end for one of its processes."""
    ours, theirs = pair()
    _own_ends.add(ours)
    return ours, theirs


def _after_fork_in_child() -> None:
    for end in list(_own_ends):
        end.close()
    fork_server.forget()


class Launcher(Protocol):
    """Starts workers. Only a pool's own thread may call it."""

    @property
    def channel(self) -> Channel | None:
        """Where there is something to read, call `hear`."""

    def start(self, number: int, end: socket.socket, channel: Channel) -> None:
        """Start a worker with this end of its socket; `channel` is the pool's end. `OSError` where whoever
        starts workers is gone."""

    def hear(self) -> bool:
        """Take note of what `channel` has; False where whoever starts workers is gone, `LoadFailed` where
        shared models do not load."""

    def exit_status(self, number: int, timeout: float) -> int | None:
        """How a worker that has ended did so, as `waitpid` says it; None where that is not known in time."""

    def close(self, timeout: float) -> None:
        """End whoever starts workers; there are none any more."""


def make_launcher(start_method: str, config: WorkerConfig, modules: Iterable[str]) -> Launcher:
    """`start_method` is one of `START_METHODS`."""
    if start_method == "spawn":
        return SpawnLauncher(config)
    return TemplateLauncher(start_method, config, sorted(modules))


class ForkServer:
    """The one process of the program that templates are forked from; started when it is needed first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._channel: Channel | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def fork_template(self, end: socket.socket, preparation: dict[str, Any], modules: list[str]) -> None:
        """Have a template forked, after the modules were imported; it has this end of its pool's socket."""
        body = pickle.dumps((preparation, modules))
        with self._lock:
            for attempt in range(2):
                if self._channel is None:
                    self._start()
                assert self._channel is not None
                try:
                    self._channel.send(Kind.FORK_TEMPLATE, body, [end.fileno()])
                    return
                except OSError:  # somebody killed it
                    self._stop()
                    if attempt:
                        raise

    def _start(self) -> None:
        ours, theirs = own_pair()
        with theirs:
            self._process = run_python("forking.serve_templates({fd})", theirs)
        self._channel = Channel(ours)

    def _stop(self) -> None:
        if self._channel is not None:
            self._channel.close()
        if self._process is not None:
            try:
                self._process.wait(1.0)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._channel = self._process = None

    def stop(self) -> None:
        """End it; the next template has another one started."""
        with self._lock:
            self._stop()

    def forget(self) -> None:
        """In a fork of the program: the server is the parent's."""
        if self._process is not None:
            self._process.returncode = 0  # so that nobody waits for it, and nothing complains
        self.__init__()  # type: ignore[misc]


fork_server = ForkServer()
atexit.register(fork_server.stop)
os.register_at_fork(after_in_child=_after_fork_in_child)


def run_python(call: str, end: socket.socket) -> subprocess.Popen[bytes]:
    """A fresh interpreter with our import path that calls a function of `forking` with a socket of its
    own."""
    code = (
        f"import sys; sys.path[:] = {sys.path!r}; from ml_pool import forking; {call.format(fd=end.fileno())}"
    )
    command = [sys.executable, *_args_from_interpreter_flags(), "-c", code]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=[end.fileno()])


class TemplateLauncher:
    """Workers are forked from a template; so it hears how they end."""

    channel: Channel

    def __init__(self, start_method: str, config: WorkerConfig, modules: list[str]) -> None:
        ours, theirs = own_pair()
        self.channel = Channel(ours)
        self._pidfd: int | None = None
        self._child: int | None = None  # where the template is our own child, as after a plain fork
        self._statuses: dict[int, int] = {}
        self._unasked: set[int] = set()  # of these nobody waits to hear any more
        with theirs:
            if start_method == "fork":
                self._child = fork(lambda: forking.run_template(Channel(theirs), config))
                return
            fork_server.fork_template(theirs, config.preparation, modules)
        packed = encode(config).pack()
        try:
            self.channel.send(Kind.CONFIGURE, packed.body, packed.fds)
        finally:
            packed.close()

    def start(self, number: int, end: socket.socket, channel: Channel) -> None:
        """Have a worker forked."""
        self.channel.send(Kind.FORK_WORKER, b"%d" % number, [end.fileno()])

    def hear(self) -> bool:
        """Take note of what the template says."""
        frames, is_open = self.channel.receive_ready()
        for frame in frames:
            if frame.kind == Kind.HELLO:
                self._pidfd = frame.fd
            elif frame.kind == Kind.EXITED:
                number, status = pickle.loads(frame.body)  # nosec B301  # our own process wrote it
                if number in self._unasked:
                    self._unasked.remove(number)
                else:
                    self._statuses[number] = status
            elif frame.kind == Kind.LOAD_FAILED:
                raise load_failed(frame)
        return is_open

    def exit_status(self, number: int, timeout: float) -> int | None:
        """Wait for the template's word, which comes within a millisecond unless it is stopped or busy."""
        if self.channel.fileno() < 0:
            return None
        end = time.monotonic() + timeout
        poll = select.poll()
        poll.register(self.channel, select.POLLIN)
        while number not in self._statuses:
            if not poll.poll(max(0.0, end - time.monotonic()) * 1000) or not self.hear():
                self._unasked.add(number)
                return None
        return self._statuses.pop(number)

    def close(self, timeout: float) -> None:
        """Hang up, which ends it, and wait until it has."""
        self.channel.hang_up()
        if self._pidfd is not None:
            poll = select.poll()
            poll.register(self._pidfd, select.POLLIN)
            if not poll.poll(timeout * 1000):
                with contextlib.suppress(OSError):
                    signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            os.close(self._pidfd)
            self._pidfd = None
        if self._child is not None:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self._child, 0)
            self._child = None
        self.channel.close()


class SpawnLauncher:
    """Every worker is an interpreter of its own, and a child of the program."""

    channel = None

    def __init__(self, config: WorkerConfig) -> None:
        self._packed = encode(config).pack()
        self._processes: dict[int, subprocess.Popen[bytes]] = {}

    def start(self, number: int, end: socket.socket, channel: Channel) -> None:
        """Start an interpreter, and tell it what the pool's workers are told."""
        call = f"forking.serve_one_worker({{fd}}, {os.getpid()})"
        self._processes[number] = run_python(call, end)
        channel.send(Kind.CONFIGURE, self._packed.body, self._packed.fds)

    def hear(self) -> bool:
        """There is nobody to hear."""
        return True

    def exit_status(self, number: int, timeout: float) -> int | None:
        """Wait for the process, which has ended."""
        child = self._processes.pop(number)
        try:
            code = child.wait(timeout)
        except subprocess.TimeoutExpired:
            child.kill()
            code = child.wait()
        return -code if code < 0 else code << 8

    def close(self, timeout: float) -> None:
        """Wait for those that were not asked about."""
        for number in list(self._processes):
            self.exit_status(number, timeout)
        self._packed.close()


def load_failed(frame: Frame) -> LoadFailed:
    """The error that a `LOAD_FAILED` frame holds."""
    (model_name, text), _ = decode(frame.body, frame.fd)
    return LoadFailed(model_name, text)
