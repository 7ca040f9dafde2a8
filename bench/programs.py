"""Programs under measurement: started on free ports with a state of their own, always stopped at the end."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil

from bench.client import Client
from bench.serving import stop

ROOT = Path(__file__).resolve().parents[1]
START_TIME = 60.0
STOP_TIME = 20.0
FIRST = 4  # of an idle crowd: they are given models
_URL = re.compile(r"http://\S+:(\d+)")


class Server:
    """A running server and the processes it started. Its output is in `log`."""

    def __init__(self, port: int, process: subprocess.Popen[bytes], log: Path) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.log = log
        self.pid = process.pid
        self._process = psutil.Process(process.pid)
        self.crowd: subprocess.Popen[bytes] | None = None
        self.others: list[psutil.Process] = []  # started by us beside it, and counted with it

    def rss(self) -> float:
        """MiB resident in the server's own process."""
        return float(self._process.memory_info().rss) / 2**20

    def peak_rss(self) -> float:
        """The most MiB that ever were."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) / 2**10

    def cpu(self) -> tuple[float, float]:
        """CPU seconds so far of (the server's own process, every other one of it)."""
        others = [*self._process.children(recursive=True), *self.others]
        return _cpu(self._process), sum(map(_cpu, others))

    def status(self) -> dict[str, Any]:
        """The answer to `GET /status`."""
        with Client(self.port) as client:
            return client.get("/status")


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


@contextlib.contextmanager
def gateway(
    directory: Path,
    *,
    near: int = 1,
    far: int = 0,
    crowd: int = 0,
    is_busy: bool = True,
    cache_size: int = 10_000,
    models: Path | None = None,
    flags: Sequence[str] = (),
) -> Iterator[Server]:
    """A gateway with `near` workers of its own (ipc), `far` ones that dial it over ws, and a `crowd` of ones
    without a model (see bench.crowd), all ready. An idle crowd dials Unix sockets, and only its first come
    before `gather` is called; the gateway serves the folder `models`, and is given `flags`."""
    kinds = ("service", "link")
    service, link = (
        f"ws://127.0.0.1:{free_port()}" if is_busy else f"ipc://{directory}/{kind}" for kind in kinds
    )
    addresses = ["--addr_service", service, "--addr_worker", link]
    shared = [*addresses, "--cache_size", str(cache_size)]
    command = [str(ROOT / "gw.py"), "--addr_rest", "127.0.0.1:0", "--workers", str(near), *shared]
    if models is not None:
        command += ["--models", str(models)]
    command += flags
    threads = max(1, (os.cpu_count() or 1) // max(1, near + far))
    log = directory / "gateway.log"
    with contextlib.ExitStack() as stack:
        state = stack.enter_context(tempfile.TemporaryDirectory(prefix="state-", dir=directory))
        process = stack.enter_context(running([*command, "--state", state], log))
        server = Server(_announced_port(log, process), process, log)
        for n in range(far):
            worker = [str(ROOT / "worker.py"), *shared, "--threads", str(threads), "--name", f"far-{n}"]
            started = stack.enter_context(running(worker, directory / f"far-{n}.log"))
            server.others.append(psutil.Process(started.pid))
        if crowd:
            idle = [] if is_busy else ["--idle", "--first", str(FIRST)]
            many = ["-m", "bench.crowd", str(crowd), *addresses, *idle]
            server.crowd = stack.enter_context(running(many, directory / "crowd.log"))
        _wait_ready(server, near + far + (crowd if is_busy else min(crowd, FIRST)))
        yield server


def gather(server: Server, workers: int) -> None:
    """Have the rest of an idle crowd come with what its first hold, until so many workers are ready."""
    assert server.crowd is not None
    server.crowd.send_signal(signal.SIGUSR1)
    _wait_ready(server, workers)


@contextlib.contextmanager
def reference(directory: Path) -> Iterator[Server]:
    """A bare Starlette app on uvicorn (uvloop, httptools) that answers a constant."""
    port = free_port()
    command = [
        "-m", "uvicorn", "bench.reference:app", "--host", "127.0.0.1", "--port", str(port),
        "--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning",
    ]  # fmt: skip
    log = directory / "reference.log"
    with running(command, log) as process:
        _wait_listening(port, process, log)
        yield Server(port, process, log)


@contextlib.contextmanager
def running(arguments: Sequence[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Our interpreter with these arguments, its output in a file; asked to stop at the end, then killed."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=ROOT,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=_environment(),
        )
    try:
        yield process
    finally:
        stop(process, STOP_TIME)


def free_port() -> int:
    """A TCP port that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("PIPELINE_")}


def _announced_port(log: Path, process: subprocess.Popen[bytes]) -> int:
    for _ in _until_started(process, log):
        if found := _URL.search(log.read_text(errors="replace")):
            return int(found[1])
    raise AssertionError  # pragma: no cover - the loop ends by itself only by raising


def _wait_listening(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in _until_started(process, log):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
            return


def _wait_ready(server: Server, workers: int) -> None:
    end = time.monotonic() + START_TIME
    while time.monotonic() < end:
        if sum(worker["state"] == "ready" for worker in server.status()["workers"]) == workers:
            return
        time.sleep(0.05)
    raise RuntimeError(f"the workers were not ready within {START_TIME:.0f} s; see {server.log}")


def _until_started(process: subprocess.Popen[bytes], log: Path) -> Iterator[None]:
    end = time.monotonic() + START_TIME
    while process.poll() is None and time.monotonic() < end:
        yield
        time.sleep(0.05)
    said = log.read_text(errors="replace")[-2000:]
    raise RuntimeError(f"{process.args!r} did not start:\n{said}")
