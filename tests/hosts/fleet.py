"""A gateway on one host and workers on others, as real programs; asked from the gateway's host."""

from __future__ import annotations

import sys
from ipaddress import ip_address
from itertools import chain
from pathlib import Path
from typing import Any

from cryptography.x509 import IPAddress

from gateway.certificates import init
from tests.e2e.processes import ROOT, START, Gateway, Process, clean_environment
from tests.e2e.rest import Client
from tests.hosts.hosts import Host

SERVICE, LINKS, REST = 54000, 54001, 54321  # every host has all ports to itself


class HostGateway(Gateway):
    """A gateway on a host; its REST door is open to that host alone."""

    port = REST

    def __init__(self, host: Host, *arguments: Any) -> None:
        super().__init__(*arguments, host.popen)
        self._host = host

    def client(self, *, timeout: float = 60.0) -> Client:
        with self._host.on_network():
            client = super().client(timeout=timeout)
            client.connect()
        return client

    def states(self) -> dict[str, str]:
        """The state of every worker it knows, by name."""
        return _states(self.status())

    def wait_states(self, timeout: float = START, **wanted: str) -> None:
        """Until these workers, and no others, are known, in these states."""
        self.wait_status(lambda status: _states(status) == wanted, f"{wanted}", timeout)

    def wait_named(self, name: str, *states: str, timeout: float = START) -> None:
        """Until a worker is in one of these states; "gone" for unknown."""
        self.wait_status(
            lambda status: _states(status).get(name, "gone") in states, f"{name} is {states}", timeout
        )


class HostFleet:
    """Whatever of it still runs ends with the hosts."""

    def __init__(self, hosts: list[Host], folder: Path, *, secure: bool = False) -> None:
        self.hosts = hosts
        self.folder = folder
        self._secure = secure
        if secure:
            init(folder / "certs", [IPAddress(ip_address(hosts[0].ip))])
        self.processes: list[Process] = []

    def _flags(self, end: str) -> tuple[str, ...]:
        """Where the fleet's sockets are, and what one end proves itself by."""
        where = f"{'wss' if self._secure else 'ws'}://{self.hosts[0].ip}"
        addresses = ("--addr_service", f"{where}:{SERVICE}", "--addr_worker", f"{where}:{LINKS}")
        if not self._secure:
            return addresses
        files = {"ca": "ca.pem", "cert": f"{end}.pem", "key": f"{end}.key"}
        of_tls = [(f"--fleet_{flag}", str(self.folder / "certs" / name)) for flag, name in files.items()]
        return (*addresses, *chain.from_iterable(of_tls))

    def start_gateway(self, *flags: str) -> HostGateway:
        """Start the gateway on the first host, and wait until it answers."""
        gateway: HostGateway = self._start(
            HostGateway, "gateway", self.hosts[0], "gw.py", "--ephemeral", *self._flags("gateway"), *flags
        )
        gateway.wait_for_line("Pipeline serves on")
        return gateway

    def start_worker(self, host: Host, *flags: str) -> Process:
        """Start a worker, named as its host is."""
        command = ("worker.py", "--name", host.name, "--threads", "1", *self._flags("worker"), *flags)
        worker: Process = self._start(_HostProcess, host.name, host, *command)
        return worker

    def _start(self, kind: type[Any], name: str, host: Host, program: str, *flags: str) -> Any:
        command = [sys.executable, str(ROOT / program), *flags]
        process = kind(host, name, command, clean_environment(), self.folder / f"{name}.log")
        self.processes.append(process)
        return process

    def check_logs(self) -> None:
        """`AssertionError` if any of them failed in a way nobody had written a sentence for."""
        for process in self.processes:
            print(f"--- {process.name}\n{process.output[-8000:]}")
        for process in self.processes:
            assert "Traceback (most recent call last)" not in process.output, process.name


class _HostProcess(Process):
    def __init__(self, host: Host, *arguments: Any) -> None:
        super().__init__(*arguments, host.popen)


def _states(status: dict[str, Any]) -> dict[str, str]:
    return {worker["name"]: worker["state"] for worker in status["workers"]}
