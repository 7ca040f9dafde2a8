"""A gateway and its workers on hosts of their own, and what can be done to them.

The fleet speaks tcp: over ws, NNG 1.11 aborts a worker that dials a gateway which is not there, once in some
hundred times (docs/decisions.md), and a chaos run would find little else.
"""

from __future__ import annotations

import resource
import signal
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from tests.chaos.schedule import Fault
from tests.chaos.traffic import Where
from tests.e2e.processes import ROOT, SERVICES, Process, clean_environment
from tests.hosts.fleet import HostGateway
from tests.hosts.hosts import Host, open_hosts

DEADLINE = 8.0  # of every request: whoever waits for a silent worker has time to be sent elsewhere
STATE_MIB = 24  # of the disk that the state is on
HEADROOM = 128 << 20  # of address space that a worker is left with: half of what its model then wants
CLOCK_STEP = 3600.0  # seconds that a clock jumps ahead, and back
LOSS, DELAY = 0.3, 0.5

SERVICE_PORT, LINK_PORT, GRPC_PORT = 54000, 54100, 8001
WHERE = Where(f"http://127.0.0.1:{HostGateway.port}", f"http://127.0.0.1:{GRPC_PORT}")


class Site:
    """The first host is the gateway's, the others have a worker each. Whatever runs ends with the hosts."""

    def __init__(self, hosts: list[Host], folder: Path) -> None:
        self.hosts = hosts
        self.folder = folder
        self.batch = folder / "batch"
        self.deaths: list[str] = []
        self._programs: dict[int, Process] = {}
        self._may_end: set[int] = set()  # hosts whose program somebody ends, or may
        self._starts = 0
        self.batch.mkdir()
        (folder / "state").mkdir()
        disk = ["mount", "-t", "tmpfs", "-o", f"size={STATE_MIB}m", "none", folder / "state"]
        hosts[0].run(disk)
        for host in hosts:
            self._set_clock(host.number, 0.0)

    @property
    def gateway(self) -> HostGateway:
        """The gateway's program; a new one after each restart."""
        found = self._programs[0]
        assert isinstance(found, HostGateway)
        return found

    @property
    def workers(self) -> range:
        """The numbers of the workers' hosts."""
        return range(1, len(self.hosts))

    def is_whole(self, status: dict[str, Any]) -> bool:
        """Whether every worker serves, and no other is known, by what /status says."""
        return sorted(worker["name"] for worker in status["workers"] if worker["state"] == "ready") == [
            self.hosts[number].name for number in self.workers
        ]

    def start(self, number: int) -> None:
        """Start a host's program; nobody waits for it."""
        address = f"tcp://{self.hosts[0].ip}"
        fleet = ["--addr_service", f"{address}:{SERVICE_PORT}", "--addr_worker", f"{address}:{LINK_PORT}"]
        if number == 0:
            flags = ["--insecure", "--timeout", str(DEADLINE), "--addr_grpc", f"127.0.0.1:{GRPC_PORT}"]
            flags += ["--state", str(self.folder / "state"), "--batch_root", str(self.batch)]
            self._programs[0] = self._spawn(HostGateway, 0, ROOT / "gw.py", [*fleet, *flags])
            return
        flags = [*fleet, "--threads", "1", "--name", self.hosts[number].name]
        self._programs[number] = self._spawn(_OnHost, number, SERVICES / "moody_worker.py", flags)

    def _spawn(self, kind: type[Any], number: int, program: Path, flags: list[str]) -> Any:
        host = self.hosts[number]
        self._starts += 1
        environment = clean_environment()
        environment["PYTHONPATH"] += f":{Path(__file__).with_name('clock')}"
        environment |= {"CHAOS_CLOCK": str(self._clock(number)), "MOOD": str(self._mood(number))}
        name = f"{host.name}-{self._starts}"
        log = self.folder / f"{name}.log"
        return kind(host, name, [sys.executable, str(program), *flags], environment, log)

    def revive(self) -> None:
        """Start what has ended; what nobody had ended, nor might have, is one of the `deaths`."""
        for number, program in list(self._programs.items()):
            if program.is_alive:
                continue
            if number not in self._may_end:
                self.deaths.append(f"{program.name}, exit code {program.wait()}: {program.output[-600:]}")
            self.start(number)
        self._may_end.clear()

    def tracebacks(self) -> list[str]:
        """What failed in a way that nobody had written a sentence for, in any program's log."""
        found = []
        for log in sorted(self.folder.glob("*.log")):
            _, trace, rest = log.read_text(errors="replace").partition("Traceback (most recent call last)")
            if trace:
                found.append(f"{log.stem}: {rest[:1500]}")
        return found

    # --- faults

    def inflict(self, fault: Fault) -> Callable[[], None]:
        """Begin a fault; what heals it."""
        actions: dict[str, Callable[[int], Callable[[], None]]] = {
            "kill worker": self._kill,
            "kill gateway": self._kill,
            "stop worker": self._stop,
            "cut worker off": self._cut,
            "cut gateway off": self._cut,
            "cut one pair": lambda n: self._filter((n, 0), (0, n)),
            "deaf worker": lambda n: self._filter((n, 0)),
            "mute worker": lambda n: self._filter((0, n)),
            "lose 30 %": self._lose,
            "delay 500 ms": self._delay,
            "garbage": lambda n: self._put_in_mood(n, "garbage"),
            "slow worker": lambda n: self._put_in_mood(n, "slow"),
            "out of memory": self._starve,
            "disk full": self._fill,
            "clock jumps": self._jump,
        }
        return actions[fault.kind](fault.target)

    def _kill(self, number: int) -> Callable[[], None]:
        self._may_end.add(number)
        self._programs[number].kill()
        return self.revive

    def _stop(self, number: int) -> Callable[[], None]:
        program = self._programs[number]
        program.send(signal.SIGSTOP)
        return lambda: program.send(signal.SIGCONT)

    def _cut(self, number: int) -> Callable[[], None]:
        self.hosts[number].cut()
        return self.hosts[number].mend

    def _filter(self, *ways: tuple[int, int]) -> Callable[[], None]:
        """Of each pair, the first host does not hear the second."""
        for deaf, unheard in ways:
            self.hosts[deaf].ignore(self.hosts[unheard])

        def heal() -> None:
            for deaf, _ in ways:
                self.hosts[deaf].heed_all()

        return heal

    def _lose(self, number: int) -> Callable[[], None]:
        self.hosts[number].lose(LOSS)
        return self.hosts[number].heed_all

    def _delay(self, number: int) -> Callable[[], None]:
        self.hosts[number].delay(DELAY)
        return lambda: self.hosts[number].delay(0.0)

    def _put_in_mood(self, number: int, mood: str) -> Callable[[], None]:
        self._mood(number).write_text(mood)
        return self._mood(number).unlink

    def _starve(self, number: int) -> Callable[[], None]:
        """Little more address space than it has, and a model that wants more: the kernel refuses it."""
        pid = self._pid(number)
        size = psutil.Process(pid).memory_info().vms
        resource.prlimit(pid, resource.RLIMIT_AS, (size + HEADROOM, resource.RLIM_INFINITY))
        self._may_end.add(number)
        calm = self._put_in_mood(number, "hungry")

        def heal() -> None:
            calm()
            if self._programs[number].is_alive:
                resource.prlimit(pid, resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            self.revive()

        return heal

    def _fill(self, number: int) -> Callable[[], None]:
        filler = self.folder / "state" / "filler"
        self.hosts[number].run(["dd", "if=/dev/zero", f"of={filler}", "bs=64k"], check=False)
        return lambda: self.hosts[number].run(["rm", filler]) and None

    def _jump(self, number: int) -> Callable[[], None]:
        self._set_clock(number, CLOCK_STEP)
        return lambda: self._set_clock(number, 0.0)

    def _set_clock(self, number: int, offset: float) -> None:
        path = self._clock(number)
        path.touch()
        with path.open("r+b") as file:  # in place, as the process has it mapped
            file.write(struct.pack("<d", offset))

    def _clock(self, number: int) -> Path:
        return self.folder / f"clock{number}"

    def _mood(self, number: int) -> Path:
        return self.folder / f"mood{number}"

    def _pid(self, number: int) -> int:
        pid: int | None = self._programs[number]._popen.inner_pid
        assert pid is not None, "it has ended"
        return pid


class _OnHost(Process):
    def __init__(self, host: Host, *arguments: Any) -> None:
        super().__init__(*arguments, host.popen)


@contextmanager
def open_site(folder: Path, workers: int) -> Iterator[Site]:
    """Hosts, a gateway and workers that serve, or will in a moment."""
    with open_hosts(1 + workers, delay=0.0) as hosts:
        site = Site(hosts, folder)
        for number in range(1 + workers):
            site.start(number)
        site.gateway.wait_for_line("Pipeline serves on")
        site.gateway.wait_status(site.is_whole, "every worker serves")
        yield site
