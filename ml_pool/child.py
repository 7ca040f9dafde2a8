"""What runs in a worker: load the models, then one job after the other, until the pool hangs up.

Neither trio nor starlette is imported here. A worker dies with its pool: by the end of its socket where it is
idle, by a signal of the kernel where it computes.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pickle
import select
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from types import FrameType
from typing import Any

from common.channel import Channel, Frame
from common.forking import limit_threads
from ml_pool import progress
from ml_pool.kinds import Kind
from ml_pool.payload import Packed, decode, encode
from ml_pool.segments import segments

_PR_SET_PDEATHSIG = 1

Loaders = dict[str, Callable[[], Any]]


@dataclass(frozen=True)
class WorkerConfig:
    """What the workers of a pool are told. `loaders` is pickled, where it did not come by a fork."""

    preparation: dict[str, Any]
    loaders: bytes | Loaders
    threads: int
    share_models: bool


class LoadFailed(Exception):
    """Raised when a model does not load; `text` is the stack trace's."""

    def __init__(self, model_name: str, text: str) -> None:
        super().__init__(model_name, text)
        self.model_name = model_name
        self.text = text


class _Stopped(BaseException):
    """Raised in the middle of a job when the pool has asked the worker to stop."""


def say_hello(channel: Channel) -> None:
    """Tell the pool who is here, with a descriptor that tells of this process's end and no other's."""
    fd = os.pidfd_open(os.getpid()) if hasattr(os, "pidfd_open") else None
    channel.send(Kind.HELLO, b"%d" % os.getpid(), [] if fd is None else [fd])
    if fd is not None:
        os.close(fd)


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when the one that started it ends (its thread, to be exact)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def ignore_terminal_signals() -> None:
    """Ctrl-C goes to every process of the terminal, and a service manager's SIGTERM to every one of the
    service: what is to end, and when, is for the pool to say."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def load_models(config: WorkerConfig, threads: int) -> dict[str, Any]:
    """Every model by its name; `LoadFailed` for the first that does not load."""
    models: dict[str, Any] = {}
    name = ""
    limit_threads(threads)
    try:
        loaders = pickle.loads(config.loaders) if isinstance(config.loaders, bytes) else config.loaders  # nosec B301  # our own process wrote it
        limit_threads(threads)  # of what has just been imported
        for name, load in loaders.items():
            models[name] = load()
            if models[name] is None:
                raise ValueError(f"the function that should load model {name!r} returned None")
    except Exception as error:
        raise LoadFailed(name, error_text(error)) from error
    limit_threads(threads)
    return models


def say_load_failed(channel: Channel, error: LoadFailed) -> None:
    """Tell the pool, which cannot serve."""
    packed = encode((error.model_name, error.text)).pack()
    with contextlib.suppress(OSError):
        channel.send(Kind.LOAD_FAILED, packed.body, packed.fds)


def run_worker(channel: Channel, config: WorkerConfig, models: dict[str, Any] | None = None) -> None:
    """A worker's life, after it has said hello."""
    try:
        if models is None:
            models = load_models(config, config.threads)
        else:
            limit_threads(config.threads)
        segments.keepers.append(bool)  # told of spares: nothing to do, `_frames` looks after them
        worker = _Worker(channel, models)
        signal.signal(signal.SIGTERM, worker.on_signal)
        channel.send(Kind.READY)
        for frame in _frames(channel):
            worker.run(frame)
    except LoadFailed as error:
        say_load_failed(channel, error)
    except (_Stopped, BrokenPipeError, ConnectionResetError):
        pass


def _frames(channel: Channel) -> Iterator[Frame]:
    """The jobs, as they come; memory that is spare is given back when none has come for a while."""
    poll = select.poll()
    poll.register(channel, select.POLLIN)
    while True:
        timeout = segments.expire()
        if timeout is not None and not poll.poll(timeout * 1000):
            continue
        frame = channel.receive()
        if frame is None:
            return
        yield frame


class _Worker:
    """Runs jobs. The pool hangs up before it sends a signal, so a signal that finds no job needs no
    answer."""

    def __init__(self, channel: Channel, models: dict[str, Any]) -> None:
        self._channel = channel
        self._models = models
        self._is_in_job = False
        self._sending = threading.Lock()  # a thread of the model's may report while the answer goes out

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        """End the job that runs, if the pool wants that; others may send signals, too."""
        if self._is_in_job and self._channel.is_hung_up():
            self._is_in_job = False
            raise _Stopped

    def run(self, frame: Frame) -> None:
        """Run a job and send what came of it."""
        # The arguments' memory is held until the answer is out: the pool may need it for another try.
        memory: object = None
        kind = Kind.DONE
        self._is_in_job = True
        try:
            if self._channel.is_hung_up():
                raise _Stopped
            (function, model_name, number, arguments, keywords), memory = decode(frame.body, frame.fd)
            with progress.reporting(partial(self._report, number)):
                result = function(self._models[model_name], *arguments, **keywords)
            answer = _answer(result)
        except _Stopped:
            raise
        except BaseException as error:
            kind, answer = Kind.FAILED, _failure(error)
        finally:
            self._is_in_job = False
        self._send(kind, answer)
        del memory

    def _report(self, number: int, value: Any) -> None:
        self._send(Kind.PROGRESS, encode((number, value)).pack())

    def _send(self, kind: Kind, packed: Packed) -> None:
        try:
            with self._sending:
                self._channel.send(kind, packed.body, packed.fds)
        finally:
            packed.close()


def _answer(result: Any) -> Packed:
    try:
        return encode(result).pack()
    except Exception as error:
        raise ValueError(f"what the function returned cannot be sent back: {error}") from error


def _failure(error: BaseException) -> Packed:
    message = "".join(traceback.format_exception_only(type(error), error)).strip()
    text = error_text(error)
    try:
        brought_over = error.with_traceback(None)
        pickle.loads(pickle.dumps(brought_over))  # nosec B301  # our own process wrote it
        return encode((message, text, brought_over)).pack()
    except Exception:
        return encode((message, text, None)).pack()


def error_text(error: BaseException) -> str:
    """The stack trace, from the user's own code on."""
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename == __file__:
        frames = frames.tb_next
    try:
        return "".join(traceback.format_exception(type(error), error, frames))
    except Exception:  # its __str__ raises
        return f"{type(error).__name__}, which cannot be shown"
