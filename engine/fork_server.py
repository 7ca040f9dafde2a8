"""The process that local workers are forked from, so that each is there at once: it has imported what a
worker needs, and has started no thread and opened no socket of NNG's, as neither survives a fork.

Its gateway tells it whom to start and is told who has ended, over one socket. When the gateway goes, workers
that must not outlive it notice that by themselves; who has not ended after some time is killed here.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence

import msgspec

from common.channel import Channel, Frame
from common.forking import fork, limit_threads
from common.launching import Ended, Fork, Forked, Kind
from common.processes import ending, start_time

GRACE = 10.0  # for workers whose gateway has gone
PRELOADED = (
    "torch",
    "engine.planes.identity",
    "engine.planes.service",
    "engine.runtimes.torch_script",
    "engine.runtimes.torch_state",
)
_THREADS = {"OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"}

WorkerMain = Callable[[Sequence[str]], int]


def serve(fd: int, main: WorkerMain) -> int:
    """The fork server's life; `fd` is its end of the socket to the gateway, `main` a worker's."""
    os.set_inheritable(fd, False)
    environment = {name: os.environ.get(name) for name in _THREADS}
    limit_threads(1)  # so that no library starts any as it is imported
    for name in PRELOADED:
        importlib.import_module(name)
    with contextlib.suppress(ImportError):
        importlib.import_module("threadpoolctl")
    for name, value in environment.items():
        os.environ.pop(name)
        if value is not None:
            os.environ[name] = value
    gc.collect()
    gc.freeze()  # so that the workers' collectors do not touch, and so copy, what is shared
    ForkServer(Channel(socket.socket(fileno=fd)), main).serve()
    return 0


class ForkServer:
    """Forks workers when it is told to, and tells how each ended."""

    def __init__(self, channel: Channel, main: WorkerMain) -> None:
        self._channel = channel
        self._main = main
        self._ids: dict[int, str] = {}  # by process id
        self._mortal: set[int] = set()  # processes that must not outlive the gateway
        self._wake, self._woken = socket.socketpair()

    def serve(self) -> None:
        """Until the gateway hangs up, or is no more."""
        for end in (self._wake, self._woken):
            end.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
        poll = select.poll()
        poll.register(self._channel, select.POLLIN)
        poll.register(self._woken, select.POLLIN)
        is_open = True
        while is_open:
            poll.poll()
            frames, is_open = self._channel.receive_ready()
            for frame in frames:
                if is_open:
                    self._fork(frame)
            with contextlib.suppress(BlockingIOError):
                self._woken.recv(4096)
            is_open = self._bury() and is_open
        self._outlive()

    def _fork(self, frame: Frame) -> None:
        order = msgspec.msgpack.decode(frame.body, type=Fork)
        try:
            pid = fork(lambda: self._be_worker(order, frame.fd))
        except OSError as error:  # no memory or no process number left: there may be one later
            self._say(Kind.ENDED, Ended(order.id, f"could not start: {error.strerror}"))
            return
        finally:
            if frame.fd is not None:
                os.close(frame.fd)
        self._ids[pid] = order.id
        if frame.fd is not None:
            self._mortal.add(pid)
        self._say(Kind.FORKED, Forked(order.id, pid, start_time(pid) or 0))

    def _be_worker(self, order: Fork, lifeline: int | None) -> int:
        os.setsid()  # Ctrl-C is the gateway's to deal with: its workers first answer what it has
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        for end in (self._channel, self._wake, self._woken):
            end.close()
        if lifeline is not None:
            os.dup2(lifeline, 0)
            os.close(lifeline)
        os.environ.update(order.environment)
        with contextlib.suppress(OSError), open("/proc/self/comm", "w") as comm:
            comm.write(order.id.partition(".")[0][:15])  # all have one command line: ps tells them by this
        if "numpy.random" in sys.modules:
            sys.modules["numpy.random"].seed()  # else all workers would draw the same numbers
        _free_threads()
        return self._main(order.arguments)

    def _bury(self) -> bool:
        """Tell of who has ended; False where nobody listens."""
        is_open = True
        for pid in list(self._ids):
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                self._mortal.discard(pid)
                is_open = self._say(Kind.ENDED, Ended(self._ids.pop(pid), ending(status))) and is_open
        return is_open

    def _say(self, kind: Kind, message: msgspec.Struct) -> bool:
        try:
            self._channel.send(kind, msgspec.msgpack.encode(message))
        except OSError:  # it has gone
            return False
        return True

    def _outlive(self) -> None:
        """The gateway has gone: those that end with it have some time to."""
        self._channel.close()
        deadline = time.monotonic() + GRACE
        while self._mortal and (left := deadline - time.monotonic()) > 0:
            select.select([self._woken], [], [], left)
            with contextlib.suppress(BlockingIOError):
                self._woken.recv(4096)
            self._bury()
        for pid in self._mortal:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _free_threads() -> None:
    """Libraries that were held to one thread as they were imported may have what any process would give them;
    torch's own, the worker's flags say."""
    threads = os.environ.get("OMP_NUM_THREADS", "")
    if "threadpoolctl" in sys.modules:
        limit = int(threads) if threads.isdecimal() else os.cpu_count() or 1
        sys.modules["threadpoolctl"].threadpool_limits(limit)
