"""Gateways and workers as processes of their own: how tests start them, ask them and are rid of them.

A `Site` owns everything it starts. When it closes, all of it is killed by pid, and whatever these processes
had started in turn must end by itself: every one carries the site's mark in its environment, or is of the
session of a worker that was forked (`tests.e2e.warm`).
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil

from tests.e2e import warm
from tests.e2e.environment import ROOT, SERVICES, clean_environment
from tests.e2e.rest import Answer, Client
from tests.e2e.weights import upload

MARK = "E2E_SITE"
START = 120.0  # torch takes seconds to import, and many on a machine that others have most of
PAUSE, LONGEST_PAUSE = 0.01, 0.05  # between two looks at a thing that is waited for, at first and later


def wait_for(happened: Callable[[], Any], what: str, timeout: float = START) -> Any:
    """What `happened` returns as soon as it is true; `AssertionError` after `timeout` seconds."""
    began = time.monotonic()
    while True:
        found = happened()
        if found:
            return found
        waited = time.monotonic() - began
        assert waited < timeout, f"not within {timeout} s: {what}"
        # Each look is a request or a file read: what takes long should not take longer for being looked at.
        time.sleep(min(max(PAUSE, waited / 20), LONGEST_PAUSE))


class Process:
    """One program at work; both its streams go to the file `log`."""

    def __init__(
        self,
        name: str,
        command: list[str],
        environment: dict[str, str],
        log: Path,
        popen: Callable[..., Any] = subprocess.Popen,
    ) -> None:
        self.name = name
        self.log = log
        with log.open("ab") as file:
            self._popen = popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=environment,
                cwd=ROOT,
                start_new_session=True,  # what a test sends to a whole terminal must not reach pytest
            )
        self.pid = self._popen.pid

    @property
    def output(self) -> str:
        """Everything it has printed and logged."""
        return self.log.read_text(errors="replace")

    @property
    def is_alive(self) -> bool:
        """Whether it has not ended yet."""
        return self._popen.poll() is None

    def lines(self, *words: str) -> list[str]:
        """The lines of its output that hold all of these words."""
        return [line for line in self.output.splitlines() if all(word in line for word in words)]

    def wait_for_line(self, *words: str) -> str:
        """The first line with all of these words, waited for."""
        line: str = wait_for(lambda: self.lines(*words), f"{self.name} says {words}")[0]
        return line

    def said_at(self, *words: str) -> list[float]:
        """When it logged each line with all of these words, the first waited for; seconds since the epoch."""
        self.wait_for_line(*words)
        moments = [line.split()[0].replace("Z", "+00:00") for line in self.lines(*words)]
        return [datetime.fromisoformat(moment).timestamp() for moment in moments]

    def send(self, number: signal.Signals) -> None:
        """Send a signal to this process alone."""
        self._popen.send_signal(number)

    def interrupt_terminal(self) -> None:
        """What Ctrl-C does: SIGINT to this process and everything it started in its session."""
        os.killpg(self.pid, signal.SIGINT)

    def children(self) -> list[psutil.Process]:
        """What it has started, and what that has."""
        return psutil.Process(self.pid).children(recursive=True)

    def kill(self) -> None:
        """SIGKILL, and reap."""
        self._popen.kill()
        self._popen.wait()

    def wait(self, timeout: float = START) -> int:
        """Its exit code, once it has ended."""
        return self._popen.wait(timeout)


class Worker(Process):
    """A worker that its gateway did not start; its pid is how /status tells it from others."""


class Gateway(Process):
    """A gateway; asked over real sockets."""

    port = 0

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._clients: list[Client] = []

    def kill(self) -> None:
        """SIGKILL, reap, and close the connections that were made to it."""
        super().kill()
        for client in self._clients:
            client.close()

    @property
    def url(self) -> str:
        """Where its REST door is."""
        return f"http://127.0.0.1:{self.port}"

    def client(self, *, timeout: float = 30.0) -> Client:
        """A new connection to it, used again for every request."""
        client = Client(self.port, timeout=timeout)
        self._clients.append(client)
        return client

    def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> Answer:
        """One request on a connection of its own."""
        with self.client() as client:
            return client.ask(method, path, body, **headers)

    def predict(self, *row: float, **headers: str) -> Answer:
        """One prediction on a connection of its own."""
        with self.client() as client:
            return client.predict(*row, **headers)

    def set_weights(self, nn_id: str, blob: bytes) -> Answer:
        """Upload what `torch.save` wrote, as the contract says."""
        body, content_type = upload(nn_id, blob)
        return self.ask("PUT", "/set_weights", body, content_type=content_type)

    def status(self) -> dict[str, Any]:
        """What /status says now."""
        answer = self.ask("GET", "/status")
        assert answer.status == 200
        return answer.json

    def wait_status(self, holds: Callable[[dict[str, Any]], Any], what: str, timeout: float = START) -> Any:
        """Polls /status on one connection until it is as it should be; that status."""
        with self.client() as client:

            def look() -> Any:
                status = client.ask("GET", "/status").json
                return status if holds(status) else None

            return wait_for(look, what, timeout)

    def wait_ready(self, count: int, timeout: float = START) -> list[dict[str, Any]]:
        """Until exactly `count` workers are ready and there are no others; those workers."""
        workers: list[dict[str, Any]] = self.wait_status(
            lambda status: [worker["state"] for worker in status["workers"]] == ["ready"] * count,
            f"{count} workers ready, and no others",
            timeout,
        )["workers"]
        return workers

    def worker(self, pid: int) -> dict[str, Any] | None:
        """What /status says of the worker with this pid, if it knows it."""
        return next((worker for worker in self.status()["workers"] if worker["pid"] == pid), None)

    def wait_state(self, pid: int, state: str | None, timeout: float = START) -> None:
        """Until the worker with this pid is in this state of life; None: unknown to the gateway."""

        def holds(status: dict[str, Any]) -> bool:
            states = [worker["state"] for worker in status["workers"] if worker["pid"] == pid]
            return states == ([] if state is None else [state])

        self.wait_status(holds, f"worker {pid} {state}", timeout)


class Ports:
    """Free ports, held by sockets that are bound and do not listen: another may listen there (both with
    SO_REUSEADDR), and nobody is given them by chance."""

    def __init__(self) -> None:
        self._sockets: list[socket.socket] = []

    def take(self) -> int:
        """One more free port."""
        held = socket.socket()
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        self._sockets.append(held)
        port: int = held.getsockname()[1]
        return port

    def close(self) -> None:
        """Give all of them back."""
        for held in self._sockets:
            held.close()


class Site:
    """A gateway's addresses, a folder, and every process that a test starts there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = folder / "state"
        self.processes: list[Process] = []
        self.ports = Ports()
        self.rest_port = self.ports.take()
        self.addr_service = f"ws://127.0.0.1:{self.ports.take()}"
        self.addr_worker = f"ws://127.0.0.1:{self.ports.take()}"
        self.mark = uuid.uuid4().hex
        self._names: dict[str, int] = {}
        self._sessions: set[int] = set()  # of workers that were forked

    @property
    def fleet(self) -> tuple[str, ...]:
        """The flags that gateway and workers are both given."""
        return ("--addr_service", self.addr_service, "--addr_worker", self.addr_worker)

    def use_scheme(self, scheme: str) -> None:
        """Have the fleet's sockets speak another transport."""
        if scheme == "ipc":
            self.addr_service, self.addr_worker = (
                f"ipc://{self.folder}/{name}" for name in ("service", "link")
            )
            return
        self.addr_service, self.addr_worker = (f"{scheme}://127.0.0.1:{self.ports.take()}" for _ in range(2))

    def start_gateway(self, *flags: str, ephemeral: bool = True, **environment: str) -> Gateway:
        """Start a gateway at this site's addresses and wait until it answers."""
        gateway = self.spawn_gateway(*flags, ephemeral=ephemeral, **environment)
        wait_for(
            lambda: gateway.lines("Pipeline serves on") or not gateway.is_alive, "the gateway's greeting"
        )
        assert gateway.is_alive, gateway.output
        return gateway

    def spawn_gateway(self, *flags: str, ephemeral: bool = True, **environment: str) -> Gateway:
        """The same without waiting, for a gateway that may not start."""
        kept = ("--ephemeral",) if ephemeral else ("--state", str(self.state))
        rest = ("--addr_rest", f"127.0.0.1:{self.rest_port}")
        told = (*rest, *self.fleet, *kept, *flags)
        gateway: Gateway = self.spawn(Gateway, ROOT / "gw.py", *told, **environment)
        gateway.port = self.rest_port
        return gateway

    def spawn_worker(self, *flags: str, program: str | None = None, **environment: str) -> Worker:
        """Start a worker, or one of tests/services that is one; it dials by itself."""
        path = ROOT / "worker.py" if program is None else SERVICES / f"{program}.py"
        fleet = (*self.fleet, "--threads", "1")
        # What Python reads as it starts, only a process that is started heeds.
        starts = any(name.startswith("PYTHON") for name in environment)
        popen = subprocess.Popen if starts else warm.popen
        worker: Worker = self._add(Worker, path, (*fleet, *flags), environment, popen)
        self._sessions.add(worker.pid)
        return worker

    def spawn(self, kind: type[Any], program: Path, *flags: str, **environment: str) -> Any:
        """Start any program of ours as a process that the site owns."""
        return self._add(kind, program, flags, environment, subprocess.Popen)

    def _add(
        self,
        kind: type[Any],
        program: Path,
        flags: tuple[str, ...],
        environment: dict[str, str],
        popen: Callable[..., Any],
    ) -> Any:
        count = self._names[program.stem] = self._names.get(program.stem, 0) + 1
        name = f"{program.stem}-{count}"
        process = kind(
            name,
            [sys.executable, str(program), *flags],
            {**clean_environment(), MARK: self.mark, **environment},
            self.folder / f"{name}.log",
            popen,
        )
        self.processes.append(process)
        return process

    def tails(self) -> str:
        """The end of every log, for a test that failed."""
        parts = []
        for process in self.processes:
            end = "alive" if process.is_alive else f"exit code {process.wait()}"
            last = re.sub(r"(?m)^(.{400}).+$", r"\1…", "\n".join(process.output.splitlines()[-40:]))
            parts.append(f"--- {process.name} (pid {process.pid}, {end})\n{last}")
        return "\n".join(parts)

    def survivors(self) -> list[psutil.Process]:
        """Every process of the site that has not ended."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error, ProcessLookupError):
                is_ours = os.getsid(process.pid) in self._sessions or process.environ().get(MARK) == self.mark
                if is_ours and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def close(self) -> None:
        """Kill what the site started; `AssertionError` if that leaves anything behind, or if any of it
        failed in a way nobody had written a sentence for."""
        try:
            for process in self.processes:
                process.kill()
            with suppress(AssertionError):
                wait_for(lambda: not self.survivors(), "orphans end by themselves", 10.0)
            orphans = self.survivors()
            for orphan in orphans:
                orphan.kill()
        finally:
            self.ports.close()
        assert not orphans, f"left behind: {orphans}"
        for process in self.processes:
            _, trace, rest = process.output.partition("Traceback (most recent call last)")
            assert not trace, f"{process.name} failed: {rest[:4000]}"


@contextmanager
def open_site(folder: Path) -> Iterator[Site]:
    """A site that is closed whatever happens."""
    folder.mkdir(parents=True, exist_ok=True)
    site = Site(folder)
    try:
        yield site
    finally:
        site.close()
