"""Hosts for tests: network, process and mount namespaces, each with a cable to one switch.

    with open_hosts(3) as hosts:
        hosts[0].popen(["python", "gw.py", ...])
        hosts[1].cut()

A host has an address (10.77.0.10 and up), a name (host0 and up; all know each other's), processes and a
/dev/shm of its own, and the machine's files. Nothing here has a name that the machine knows: namespaces last
as long as the processes in them, and the first process of each ends with ours, however that ends. So nothing
is left over, any number of test runs get on side by side, and the machine's own network is never touched.

What is not like on real hosts: there is one kernel, one clock and one disk.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tests.hosts.wire import enter_network

WIRE = Path(__file__).with_name("wire.py")
TOOLS = ("ip", "bridge", "iptables", "unshare", "nsenter")
SECONDS = 60.0

# The first process of a host: it reaps whoever loses its parent there, and ends with its standard input.
# Congestion is controlled as most hosts do it, by what packets are lost, whatever this machine prefers.
INIT = """
set -e
mount -t tmpfs none /dev/shm
printf '%s' "$2" >/dev/shm/hosts
mount --bind /dev/shm/hosts /etc/hosts
rm /dev/shm/hosts
hostname "$1"
echo reno >/proc/sys/net/ipv4/tcp_congestion_control
trap '' CHLD
echo ready
exec cat >/dev/null
"""


def missing_for_hosts() -> str:
    """What stands in the way of hosts here, as a sentence; empty for nothing."""
    if os.geteuid() != 0:
        return "Hosts are made of namespaces, and only root may make those."
    lacking = [tool for tool in TOOLS if shutil.which(tool) is None]
    if lacking:
        return f"Hosts need {', '.join(lacking)}: apt install iproute2 iptables util-linux"
    tried = subprocess.run(["unshare", "--net", "--pid", "--fork", "--mount-proc", "true"], check=False)
    return "This machine does not let root make namespaces." if tried.returncode else ""


class Process(subprocess.Popen[Any]):
    """A process of a host, handled as any `Popen`, though what we started is `nsenter`, which waits for it
    and ends as it does."""

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.inner_pid or self.pid, number)
                if number == signal.SIGCONT:
                    os.kill(self.pid, number)  # which stops itself where it sees what it waits for stopped

    @property
    def inner_pid(self) -> int | None:
        """The pid, out here, of the process itself; None while there is none yet, or no more."""
        return _only_child(self.pid)


class Host:
    """One host of `open_hosts`."""

    def __init__(self, number: int, init: subprocess.Popen[str], switch: _Switch) -> None:
        self.number = number
        self.name = f"host{number}"
        self.ip = _address(number)
        self.is_alive = True
        self.port = f"p{number}"  # of the switch
        self._unshare = init
        self._switch = switch
        self.wire: subprocess.Popen[str] | None = None  # what carries its packets, where that is a process
        pid = _only_child(init.pid)
        assert pid is not None
        self.init_pid = pid
        self.network = f"/proc/{pid}/ns/net"
        self._processes: list[Process] = []

    def popen(self, command: Sequence[str | Path], **options: Any) -> Process:
        """Start a program here; `options` are `Popen`'s. It ends with the host at the latest."""
        options.setdefault("stdin", subprocess.DEVNULL)
        where = options.pop("cwd", None) or os.getcwd()
        enter = ["nsenter", f"--target={self.init_pid}", "--net", "--pid", "--mount", "--uts"]
        process = Process([*enter, "--", "env", f"--chdir={where}", *map(str, command)], **options)
        self._processes.append(process)
        return process

    def run(
        self, command: Sequence[str | Path], *, check: bool = True, timeout: float = SECONDS, **options: Any
    ) -> subprocess.CompletedProcess[str]:
        """Run a program here to its end; what it printed comes back as text."""
        process = self.popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)
        try:
            out, err = process.communicate(timeout=timeout)
        except BaseException:
            process.kill()
            process.communicate()
            raise
        assert not check or process.returncode == 0, f"{self.name}: {command} failed: {out}{err}"
        return subprocess.CompletedProcess(command, process.returncode, out, err)

    @contextmanager
    def on_network(self) -> Iterator[None]:
        """The calling thread is on this host's network meanwhile; a socket that it opens stays there."""
        with _on_network(self.network):
            yield

    def cut(self) -> None:
        """Let nothing through, either way, and tell nobody: no connection ends, no carrier is lost."""
        self._switch.run("bridge", "link", "set", "dev", self.port, "state", "0")

    def mend(self) -> None:
        """Undo `cut`."""
        self._switch.run("bridge", "link", "set", "dev", self.port, "state", "3")

    def crash(self) -> None:
        """Power off: whatever ran here is gone, and none of it says good-bye."""
        self.cut()
        os.kill(self.init_pid, signal.SIGKILL)
        self.close()

    def lose(self, share: float) -> None:
        """Drop this share of all packets that arrive here from now on, by chance; 0 for none."""
        self._rules(
            [] if share == 0 else ["-m", "statistic", "--mode", "random", "--probability", str(share)]
        )

    def delay(self, seconds: float) -> None:
        """Have every packet to and from here take so long, each way; the hosts have a delay."""
        assert self.wire is not None, "open_hosts was not asked for a delay"
        assert self.wire.stdin is not None
        self.wire.stdin.write(f"{seconds}\n")
        self.wire.stdin.flush()

    def ignore(self, other: Host) -> None:
        """One way: what the other sends does not arrive here; what is sent from here still arrives there."""
        self._rules(["-s", other.ip])

    def heed_all(self) -> None:
        """Undo `lose` and `ignore`."""
        self._rules([])

    def _rules(self, dropped: list[str]) -> None:
        with self.on_network():
            _run("iptables", "-w", "-F", "INPUT")
            if dropped:
                _run("iptables", "-w", "-A", "INPUT", "!", "-i", "lo", *dropped, "-j", "DROP")

    def close(self) -> None:
        """End all that runs here, and with it the host."""
        self.is_alive = False
        assert self._unshare.stdin is not None
        self._unshare.stdin.close()
        self._unshare.wait(SECONDS)
        for process in self._processes:  # killed by the kernel, when the first process of the host had ended
            process.wait(SECONDS)
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    with suppress(BrokenPipeError):
                        stream.close()


class _Switch:
    """A bridge in a network of its own."""

    def __init__(self, holder: subprocess.Popen[str]) -> None:
        self.network = f"/proc/{holder.pid}/ns/net"
        self.run("ip", "link", "add", "br0", "type", "bridge")
        self.run("ip", "link", "set", "br0", "up")

    def run(self, *command: str) -> str:
        """Run a command on the switch; what it printed."""
        with _on_network(self.network):
            return _run(*command)

    def attach(self, host: Host) -> None:
        """What is plugged in as the host's port."""
        self.run("ip", "link", "set", host.port, "master", "br0", "up")
        with host.on_network():
            _run("ip", "link", "set", "lo", "up")
            _run("ip", "address", "add", f"{host.ip}/24", "dev", "eth0")
            _run("ip", "link", "set", "eth0", "up")
        deadline = time.monotonic() + SECONDS
        while "state forwarding" not in self.run("bridge", "link", "show", "dev", host.port):
            assert time.monotonic() < deadline, f"the port of {host.name} stays shut"
            time.sleep(0.005)


@contextmanager
def open_hosts(
    count: int, *, delay: float | None = None, names: Mapping[int, str] = MappingProxyType({})
) -> Iterator[list[Host]]:
    """Hosts that reach each other, every packet `delay` seconds after it was sent, which may be none and
    `Host.delay` changes; `names` are more names of some, by number."""
    known = "".join(f"{_address(i)} host{i} {names.get(i, '')}\n" for i in range(count))
    with ExitStack() as stack:
        holder = stack.enter_context(
            _held(["unshare", "--net", "sh", "-c", "echo ready; exec cat >/dev/null"])
        )
        switch = _Switch(holder)
        hosts = []
        for number in range(count):
            init = stack.enter_context(
                _held(
                    ["unshare", "--net", "--pid", "--uts", "--fork", "--mount-proc",
                     "sh", "-c", INIT, "init", f"host{number}", f"127.0.0.1 localhost\n{known}"]
                )
            )  # fmt: skip
            host = Host(number, init, switch)
            stack.callback(host.close)
            if delay is not None:
                ends = [host.network, "eth0", switch.network, host.port]
                host.wire = stack.enter_context(_held([sys.executable, str(WIRE), str(delay / 2), *ends]))
            else:
                pair = ["ip", "link", "add", host.port, "type", "veth", "peer", "name", "eth0"]
                switch.run(*pair, "netns", str(host.init_pid))
            switch.attach(host)
            hosts.append(host)
        yield hosts


@contextmanager
def _held(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    """A process that has said one line, and ends with its standard input, so with ours at the latest."""
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "ready\n", f"{command} did not start"
        yield process
    finally:
        process.stdin.close()
        process.stdout.close()
        process.wait(SECONDS)


@contextmanager
def _on_network(network: str) -> Iterator[None]:
    own = f"/proc/self/task/{threading.get_native_id()}/ns/net"
    with open(own, "rb") as before:
        enter_network(network)
        try:
            yield
        finally:
            enter_network(f"/proc/self/fd/{before.fileno()}")


def _only_child(pid: int) -> int | None:
    with suppress(OSError):
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return int(children[0]) if children else None
    return None


def _address(number: int) -> str:
    return f"10.77.0.{10 + number}"


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
    return done.stdout
