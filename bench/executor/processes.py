"""CPU seconds and memory of a server's processes on this machine, while it is measured."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

import psutil

from bench.results import Process


class Processes:
    """Those given and all that descend from them. Invariant: what was seen of one is kept when it ends."""

    def __init__(self, pids: Iterable[int]) -> None:
        try:
            self._roots = [psutil.Process(pid) for pid in pids]
        except psutil.Error as error:
            raise ValueError(f"a process of the server cannot be looked at: {error}") from None
        self._seen: dict[int, Process] = {}
        self._before: dict[int, float] = {}

    def start(self) -> None:
        """CPU is counted from now on."""
        self.look()
        self.look()
        self._before = {pid: process.cpu_s for pid, process in self._seen.items()}

    def look(self) -> None:
        """See what they use now."""
        for root in self._roots:
            with contextlib.suppress(psutil.Error):
                for process in (root, *root.children(recursive=True)):
                    self._see(process)

    def _see(self, process: psutil.Process) -> None:
        with contextlib.suppress(psutil.Error), process.oneshot():
            times, rss = process.cpu_times(), process.memory_info().rss
            before = self._seen.get(process.pid)
            most = max(rss, before.rss_max if before else 0)
            self._seen[process.pid] = Process(process.name(), process.pid, times.user + times.system, most)

    def used(self) -> list[Process]:
        """What each used since the start."""
        return [
            Process(each.name, pid, each.cpu_s - self._before.get(pid, 0.0), each.rss_max)
            for pid, each in self._seen.items()
        ]


def listeners(host: str, port: int) -> list[int]:
    """The processes that listen there, where that is this machine and we may know."""
    if not (host.startswith("127.") or host == "::1"):
        return []
    try:
        found = psutil.net_connections("tcp")
    except psutil.Error:
        return []
    return sorted(
        {
            each.pid
            for each in found
            if each.pid and each.status == psutil.CONN_LISTEN and each.laddr.port == port
        }
    )
