"""The contract's Ray: a cluster of this machine alone, whose workers look for a gateway in vain."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import sysconfig
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from pathlib import Path

import psutil

from gateway.launchers.ids import parse_id
from gateway.launchers.launcher import WorkerSpec
from gateway.launchers.ray.launcher import RayLauncher, open_ray
from tests.e2e.processes import ROOT, Ports, clean_environment, wait_for
from tests.gateway.launchers.hands import Hands

NOWHERE = ("--addr_service", "ipc:///nowhere/service", "--addr_worker", "ipc:///nowhere/link")
START = 120.0


@contextmanager
def open_head(folder: Path) -> Iterator[None]:
    """A head that is a node too; `folder` has its address and its token."""
    ports = Ports()
    address, client = f"127.0.0.1:{ports.take()}", ports.take()
    (folder / "token").write_text(secrets.token_hex(32))
    (folder / "address").write_text(address)
    settings = {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(folder / "token"),
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    with (folder / "head.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, f"{sysconfig.get_path('scripts')}/ray", "start", "--head", "--block",
             "--node-ip-address=127.0.0.1", f"--port={address.split(':')[1]}", f"--temp-dir={folder}",
             f"--ray-client-server-port={client}", "--num-cpus=8", "--include-dashboard=false",
             "--object-store-memory=80000000"],
            env=clean_environment() | settings,
            cwd=ROOT,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )  # fmt: skip
    try:
        wait_for(lambda: process.poll() is not None or has_started(folder), "Ray starts", START)
        assert has_started(folder), "Ray ended as it started"
        yield
    finally:
        print((folder / "head.log").read_text())  # pytest shows it where it did not start
        ports.close()
        process.send_signal(signal.SIGTERM)
        process.wait(START)


def has_started(folder: Path) -> bool:
    return "Ray runtime started" in (folder / "head.log").read_text()


@asynccontextmanager
async def open_hands(folder: Path) -> AsyncIterator[Hands]:
    """Workers of a service that nobody had before."""
    spec = WorkerSpec(service=f"service{uuid.uuid4().hex[:8]}", arguments=NOWHERE)

    def again() -> AbstractAsyncContextManager[RayLauncher]:
        address = (folder / "address").read_text()
        return open_ray(spec.service, address=address, token_file=str(folder / "token"))

    async with again() as launcher:
        yield Hands(launcher, spec, kill, again, patience=60.0)
        for id in await launcher.alive():
            await launcher.stop(id, 0.0)


def kill(id: str) -> None:
    """SIGKILL for a worker of this machine.

    Its command line is its children's too, until they run a program of their own: the oldest is killed.
    """
    parsed = parse_id(id)
    assert parsed is not None
    wanted = f"--name {parsed.name} --incarnation {parsed.incarnation} "
    found = {
        each.pid: each.info["ppid"]
        for each in psutil.process_iter(["cmdline", "ppid"])
        if wanted in " ".join(each.info["cmdline"] or [])
    }
    (pid,) = (pid for pid, parent in found.items() if parent not in found)
    os.kill(pid, signal.SIGKILL)
