"""What a process holds of the machine, and what all of them leave in its common places."""

from __future__ import annotations

import os
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import psutil

SHM = Path("/dev/shm")


class Footprint(NamedTuple):
    """Bytes that are resident, and counts; clients' connections are theirs, and not among them."""

    rss: int
    descriptors: int
    sockets: int
    memfds: int
    threads: int


def footprint(process: psutil.Process, doors: Collection[int] = ()) -> Footprint:
    """What it holds now, of which `doors` are clients' ports; `psutil.Error` where it has ended."""
    targets = []
    folder = Path(f"/proc/{process.pid}/fd")
    with suppress(FileNotFoundError):
        for name in folder.iterdir():
            with suppress(OSError):  # it was closed meanwhile
                targets.append(os.readlink(name))
    clients = sum(
        each.pid == process.pid and each.status == psutil.CONN_ESTABLISHED and each.laddr.port in doors
        for each in psutil.net_connections("tcp")
    )
    with process.oneshot():
        return Footprint(
            process.memory_info().rss,
            len(targets) - clients,
            sum(target.startswith("socket:") for target in targets) - clients,
            sum(target.startswith("/memfd:") for target in targets),
            process.num_threads(),
        )


def left(temporary: Path) -> list[str]:
    """Names in /dev/shm, and of the temporary files of processes whose TMPDIR that is."""
    files = [str(path) for path in temporary.rglob("*") if not path.is_dir()]
    return sorted([*map(str, SHM.iterdir()), *files])
