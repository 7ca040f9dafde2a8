"""The processes that workers are forked from: one fork server for the program, one template for each pool.

The fork server has imported what the program's models need and has started no thread; it forks templates. A
template belongs to one pool: it has its environment, holds its models where they are shared, forks its
workers, and tells how they ended. Both end when the other end of their socket does.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import logging
import os
import pickle
import select
import signal
import socket
import sys
from functools import partial
from multiprocessing import process, spawn
from typing import Any

from common.channel import Channel, Frame
from common.forking import fork, limit_threads
from ml_pool import child
from ml_pool.child import LoadFailed, WorkerConfig
from ml_pool.kinds import Kind
from ml_pool.payload import decode

log = logging.getLogger("ml_pool")


def serve_templates(fd: int) -> None:
    """The fork server's life; `fd` is its end of the socket to the program."""
    channel = _own_channel(fd)
    child.ignore_terminal_signals()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel buries templates
    parent = os.getpid()
    while (frame := channel.receive()) is not None:
        preparation, modules = pickle.loads(frame.body)  # nosec B301  # our own process wrote it
        # What fails here fails again in the template, which can tell the pool of it.
        with contextlib.suppress(BaseException):
            prepare(preparation)
            for name in modules:
                importlib.import_module(name)
            limit_threads(1)  # so that none is started here; and what does it need not be imported later
        fork(partial(_template_of_server, channel, frame, parent))
        os.close(frame.fds[0])
    os._exit(0)


def serve_one_worker(fd: int, parent: int) -> None:
    """The life of a worker that has an interpreter of its own."""
    channel = _own_channel(fd)
    child.ignore_terminal_signals()
    child.die_with_parent(parent)
    child.say_hello(channel)
    try:
        config = _receive_config(channel)
        child.run_worker(channel, config)
    except LoadFailed as error:
        child.say_load_failed(channel, error)


def _own_channel(fd: int) -> Channel:
    os.set_inheritable(fd, False)  # programs that the models start have no business with it
    return Channel(socket.socket(fileno=fd))


def _template_of_server(server: Channel, frame: Frame, parent: int) -> None:
    server.close()
    child.die_with_parent(parent)
    run_template(Channel(socket.socket(fileno=frame.fds[0])))


def run_template(channel: Channel, config: WorkerConfig | None = None) -> None:
    """A template's life. The config is there already where the program itself was forked."""
    child.ignore_terminal_signals()
    wake, woken = socket.socketpair()
    for end in (wake, woken):
        end.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
    child.say_hello(channel)
    try:
        if config is None:
            config = _receive_config(channel)
        models = _load_shared(config) if config.share_models else None
    except LoadFailed as error:
        child.say_load_failed(channel, error)
        return
    Template(channel, config, models, (wake, woken)).serve()


def _receive_config(channel: Channel) -> WorkerConfig:
    frame = channel.receive()
    if frame is None:
        os._exit(0)
    config, _memory = decode(frame.body, frame.fd)
    assert isinstance(config, WorkerConfig)
    try:
        prepare(config.preparation)
    except BaseException as error:
        raise LoadFailed("", child.error_text(error)) from error
    return config


def prepare(preparation: dict[str, Any]) -> None:
    """Make this process like the program: working directory, environment, arguments, import path,
    `__main__`."""
    os.environ.clear()
    os.environ.update(preparation["environ"])
    # A program without `if __name__ == "__main__"` makes a pool as it is imported here: that is refused.
    process.current_process()._inheriting = True  # type: ignore[attr-defined]
    try:
        spawn.prepare({name: value for name, value in preparation.items() if name != "environ"})
    finally:
        del process.current_process()._inheriting  # type: ignore[attr-defined]


def _load_shared(config: WorkerConfig) -> dict[str, Any]:
    # With one thread only: threads that a library starts here would be missing in the workers.
    limit_threads(1)
    before = _native_threads()
    models = child.load_models(config, 1)
    if (started := _native_threads() - before) > 0:
        log.warning(
            "loading the models started %d threads, which the workers do not have: if they hang, use "
            "share_models=False",
            started,
        )
    gc.collect()
    gc.freeze()  # so that the workers' collector does not touch, and so copy, what is shared
    return models


def _native_threads() -> int:
    try:
        return len(os.listdir("/proc/self/task"))
    except OSError:
        return 0


class Template:
    """Forks workers when it is told to, and tells how each ended."""

    def __init__(
        self,
        channel: Channel,
        config: WorkerConfig,
        models: dict[str, Any] | None,
        wake: tuple[socket.socket, socket.socket],
    ) -> None:
        self._channel = channel
        self._config = config
        self._models = models
        self._wake, self._woken = wake
        self._numbers: dict[int, int] = {}  # by process id

    def serve(self) -> None:
        """Until the pool hangs up; workers that are left then are killed."""
        poll = select.poll()
        poll.register(self._channel, select.POLLIN)
        poll.register(self._woken, select.POLLIN)
        is_open = True
        while is_open:
            frames, is_open = self._channel.receive_ready()  # first, as some came with the config
            for frame in frames:
                self._fork(frame)
            with contextlib.suppress(BlockingIOError):
                self._woken.recv(4096)
            self._bury()
            if is_open:
                poll.poll()
        for pid in self._numbers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for pid in self._numbers:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)

    def _fork(self, frame: Frame) -> None:
        parent = os.getpid()
        pid = fork(lambda: self._be_worker(frame, parent))
        os.close(frame.fds[0])
        self._numbers[pid] = int(frame.body)

    def _be_worker(self, frame: Frame, parent: int) -> None:
        child.ignore_terminal_signals()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        child.die_with_parent(parent)
        self._channel.close()
        self._wake.close()
        self._woken.close()
        channel = Channel(socket.socket(fileno=frame.fds[0]))
        child.say_hello(channel)
        if "numpy.random" in sys.modules:
            sys.modules["numpy.random"].seed()  # else all workers would draw the same numbers
        child.run_worker(channel, self._config, self._models)

    def _bury(self) -> None:
        for pid in list(self._numbers):
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                self._channel.send(Kind.EXITED, pickle.dumps((self._numbers.pop(pid), status)))
