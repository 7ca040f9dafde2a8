"""All processes of a server, its children's children too: their CPU seconds and memory, and their end."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Collection, Mapping
from typing import NamedTuple

import psutil

MARK = "BENCH_SERVER"  # in the environment of every process of it, whoever its parent is by now
_LOOK_TIME = 0.05


class Memory(NamedTuple):
    """Bytes: resident, which counts shared pages once a process, and proportional, which shares them."""

    rss: int
    pss: int


class Tree:
    """Those that descend from `root`, and those that bear the mark. Nobody else is ever touched."""

    def __init__(self, root: int, mark: str) -> None:
        self.root = root
        self._mark = mark

    def processes(self) -> list[psutil.Process]:
        """Those that are alive now."""
        found = {process.pid: process for process in psutil.process_iter(["ppid", "status"])}
        alive = {pid: each for pid, each in found.items() if each.info["status"] != psutil.STATUS_ZOMBIE}
        parents = {pid: each.info["ppid"] or 0 for pid, each in alive.items()}
        marked = {pid for pid, each in alive.items() if _mark(each) == self._mark}
        return [alive[pid] for pid in sorted(members(parents, {self.root} | marked))]

    def cpu(self) -> dict[int, float]:
        """CPU seconds of each so far."""
        found = {}
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                times = process.cpu_times()
                found[process.pid] = float(times.user + times.system)
        return found

    def memory(self) -> Memory:
        """Of all of them."""
        rss = pss = 0
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                told = process.memory_full_info()
                rss, pss = rss + told.rss, pss + told.pss
        return Memory(rss, pss)

    def busiest(self, seconds: float, library: str) -> psutil.Process | None:
        """Of those that have this library loaded, the one that works most in so many seconds; the root only
        where there is no other."""
        before = self.cpu()
        time.sleep(seconds)
        spent = {pid: cpu - before.get(pid, 0.0) for pid, cpu in self.cpu().items()}
        having = [each for each in self.processes() if each.pid in spent and _has_loaded(each, library)]
        having.sort(key=lambda each: (each.pid != self.root, spent[each.pid]))
        return having[-1] if having else None

    def end(self, seconds: float) -> None:
        """Kill what is left after so many seconds, and wait until it has gone."""
        limit = time.monotonic() + seconds
        while (left := self.processes()) and time.monotonic() < limit:
            time.sleep(_LOOK_TIME)
        while left:
            for process in left:
                with contextlib.suppress(psutil.Error):
                    process.kill()
            time.sleep(_LOOK_TIME)
            left = self.processes()


def members(parents: Mapping[int, int], roots: Collection[int]) -> set[int]:
    """The roots that are there and all that descend from them, by each process's parent. Pure."""
    children: dict[int, list[int]] = {}
    for pid, parent in parents.items():
        children.setdefault(parent, []).append(pid)
    found: set[int] = set()
    waiting = [root for root in roots if root in parents]
    while waiting:
        pid = waiting.pop()
        if pid not in found:
            found.add(pid)
            waiting += children.get(pid, [])
    return found


def used(before: Mapping[int, float], after: Mapping[int, float]) -> float:
    """Seconds between two looks; a process that was not there before began at 0. Pure."""
    return sum(seconds - before.get(pid, 0.0) for pid, seconds in after.items())


def _mark(process: psutil.Process) -> str | None:
    with contextlib.suppress(psutil.Error, OSError):
        value: str | None = process.environ().get(MARK)
        return value
    return None


def _has_loaded(process: psutil.Process, library: str) -> bool:
    with contextlib.suppress(psutil.Error):
        return any(library in each.path for each in process.memory_maps())
    return False
