"""Trying a model's file in a process of its own before this one loads it: what crashes, hangs or wants too
much memory costs that process, and the file is refused.

A worker has threads, which do not survive a fork. So before it starts any it forks one process, which waits
and forks another for each file, with the libraries imported already. What passed is not tried again.
"""

from __future__ import annotations

import contextlib
import faulthandler
import importlib
import os
import resource
import select
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import torch

from common import wire
from common.channel import Channel, Frame, pair
from common.errors import LoadError
from common.forking import fork
from common.processes import ending
from engine.registry import Registry
from engine.runtimes.formats import FORMATS, detect, import_format
from engine.runtimes.options import LoadOptions
from engine.runtimes.runtime import first_line
from engine.runtimes.source import Source, source_size

ORDER, VERDICT = 1, 2
TIME, RATE = 60.0, 5e6  # seconds that a file may take, and bytes a second on top
MEMORY, FACTOR = 4 << 30, 16  # bytes that it may take, and so many times its own on top
REMEMBERED = 1024  # files that passed
# What a format's library imports when it is first used, which takes seconds.
_ALSO = {"torch_export": ("torch._export.serde.serialize", "torch.export.passes", "torch.fx.passes")}
_LONGEST_SENTENCE = 100_000
_LONGEST_REFERENCE = 4096


class Verdict(msgspec.Struct, frozen=True):
    """What became of a file: why it is refused, or nothing; and its format, where that was found out."""

    refusal: str = ""
    kind: str = ""


class Trials:
    """Has files tried; made by `open_trials`. Thread-safe."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._lock = threading.Lock()
        self._passed: dict[wire.VersionKey, None] = {}

    def check(self, load: wire.Load, source: Source) -> None:
        """Raise `LoadError` unless the file loads and runs as `load` says."""
        key = msgspec.structs.replace(load.key, model="", version="")
        with self._lock:
            if key in self._passed or _is_reference(load, source):
                return
            verdict = self._try(load, source)
            if verdict.refusal:
                raise LoadError(verdict.refusal)
            self._passed[key] = None
            if len(self._passed) > REMEMBERED:
                del self._passed[next(iter(self._passed))]

    def _try(self, load: wire.Load, source: Source) -> Verdict:
        with _opened(source) as fd:
            try:
                self._channel.send(ORDER, wire.encode(load), [fd])
                answer = self._channel.receive()
            except OSError:
                answer = None
        if answer is None:
            raise LoadError("the process that tries files is gone: restart the worker, or give --trust_files")
        return msgspec.msgpack.decode(answer.body, type=Verdict)


def _is_reference(load: wire.Load, source: Source) -> bool:
    """Whether it only names code, which is the operator's own, and may take what it likes."""
    return source_size(source) < _LONGEST_REFERENCE and detect(source, load.file) == "python"


@contextlib.contextmanager
def open_trials(allowed: LoadOptions) -> Iterator[Trials]:
    """Fork the process that tries files, for as long as the block takes: before there are threads or sockets.
    `allowed` is what the operator lets models do."""
    ours, theirs = pair()

    def run() -> None:
        ours.close()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # it ends when the worker does
        os.dup2(os.open(os.devnull, os.O_RDWR), 0)  # which may be a worker's only sign that its gateway lives
        _serve(Channel(theirs), allowed)

    pid = fork(run)
    theirs.close()
    channel = Channel(ours)
    try:
        yield Trials(channel)
    finally:
        channel.close()
        os.waitpid(pid, 0)


@contextlib.contextmanager
def _opened(source: Source) -> Iterator[int]:
    try:
        fd = os.open(source, os.O_RDONLY) if isinstance(source, Path) else os.memfd_create("weights")
    except OSError as error:
        raise LoadError(f"the weights cannot be read: {error.strerror}") from error
    with open(fd, "rb" if isinstance(source, Path) else "wb", closefd=True) as file:
        if not isinstance(source, Path):
            file.write(source)
            file.flush()
        yield fd


# --- in the process that waits


def _serve(channel: Channel, allowed: LoadOptions) -> None:
    kind = ""
    while (frame := channel.receive()) is not None:
        # Now, as what is imported here every trial finds, and while nobody else imports the same.
        for each in {kind, _expected_kind(frame)} - {""}:
            _import(each)
        verdict = _judge(channel, frame, allowed)
        kind = verdict.kind
        with contextlib.suppress(OSError):  # the worker has gone, which the next receive sees
            channel.send(VERDICT, msgspec.msgpack.encode(verdict))


def _expected_kind(frame: Frame) -> str:
    """The format that a file is said to have, or its name ends like."""
    load, _ = wire.expect(wire.Load, frame.body)
    suffix = Path(load.file).suffix.lower()
    named = (kind for kind, each in FORMATS.items() if suffix and suffix in each.suffixes)
    return load.settings.runtime or next(named, "")


def _import(kind: str) -> None:
    with contextlib.suppress(LoadError):
        import_format(kind)
        for module in _ALSO.get(kind, ()):
            with contextlib.suppress(ImportError):
                importlib.import_module(module)


def _judge(channel: Channel, frame: Frame, allowed: LoadOptions) -> Verdict:
    """Fork, wait and say what became of it."""
    assert frame.fd is not None
    size = os.fstat(frame.fd).st_size
    seconds = TIME + size / RATE
    ours, theirs = socket.socketpair()
    try:
        pid = fork(lambda: _try(channel, theirs, frame, allowed, size, seconds))
    except OSError as error:
        return Verdict(f"the file cannot be tried: {error.strerror}")
    finally:
        theirs.close()
        os.close(frame.fd)
    said = _hear(ours, channel, seconds)
    if said is None:
        os.kill(pid, signal.SIGKILL)
    ours.close()
    _, status = os.waitpid(pid, 0)
    if said:
        with contextlib.suppress(msgspec.MsgspecError):
            return msgspec.msgpack.decode(said, type=Verdict)
    if said is None:
        return Verdict(f"the file takes longer to load than {seconds:.1f} s, and may be made to")
    return Verdict(
        f"the file ends the process that loads it ({ending(status)}): it is damaged, or made to do that"
    )


def _hear(sock: socket.socket, channel: Channel, seconds: float) -> bytes | None:
    """What is said until the end; None where there is none in time, or nobody to tell."""
    deadline = time.monotonic() + seconds
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    poll.register(channel, getattr(select, "POLLRDHUP", 0))
    said = b""
    while (left := deadline - time.monotonic()) > 0:
        ready = dict(poll.poll(1000 * left))
        if channel.fileno() in ready:
            return None
        if sock.fileno() in ready:
            piece = sock.recv(1 << 16)
            if not piece or len(said) > 2 * _LONGEST_SENTENCE:
                return said
            said += piece
    return None


# --- in the process that may die


def _try(
    channel: Channel, sock: socket.socket, frame: Frame, allowed: LoadOptions, size: int, seconds: float
) -> None:
    channel.close()
    faulthandler.disable()
    assert frame.fd is not None
    quiet = os.open(os.devnull, os.O_RDWR)
    for fd in (1, 2):  # what a library says as it dies
        os.dup2(quiet, fd)
    _limit(size, seconds)
    torch.set_num_threads(1)
    kind = ""
    try:
        load, _ = wire.expect(wire.Load, frame.body)
        path = Path(f"/proc/self/fd/{frame.fd}")
        settings = msgspec.structs.replace(load.settings, device="cpu")
        load = msgspec.structs.replace(load, settings=settings, staged=False)
        registry = Registry(device=torch.device("cpu"), cache_size=0, allowed=allowed)
        kind = load.settings.runtime or _kind_of(path, load.file)
        registry.load_version(load, path)
        refusal = ""
    except Exception as error:  # whatever a file makes a library raise
        refusal = _sentence(error)
    sock.sendall(msgspec.msgpack.encode(Verdict(refusal[:_LONGEST_SENTENCE], kind)))


def _sentence(error: Exception) -> str:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, MemoryError) or "allocate memory" in str(cause) or "bad_alloc" in str(cause):
            return "the file takes more memory to load than a file of its size may"
        cause = cause.__cause__
    if isinstance(error, LoadError):
        return str(error)
    return f"the file does not load: {type(error).__name__}: {first_line(error)}"


def _kind_of(path: Path, name: str) -> str:
    with contextlib.suppress(LoadError):
        return detect(path, name)
    return ""


def _limit(size: int, seconds: float) -> None:
    """Memory on top of what this process has already, and time, should nobody be left to kill it."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * os.sysconf("SC_PAGE_SIZE") + MEMORY + FACTOR * size
    for what, limit in (
        (resource.RLIMIT_AS, most),
        (resource.RLIMIT_CPU, int(seconds) + 10),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(what)[1]
        limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(what, (limit, hard))
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")  # if somebody has to go, then this one
