"""What a process holds of the machine, and what all of them leave in its common places."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import psutil

SHM = Path("/dev/shm")


class Footprint(NamedTuple):
    """Bytes that are resident, and counts."""

    rss: int
    descriptors: int
    sockets: int
    memfds: int
    threads: int


def footprint(process: psutil.Process) -> Footprint:
    """What it holds now; `psutil.Error` where it has ended."""
    targets = []
    folder = Path(f"/proc/{process.pid}/fd")
    with suppress(FileNotFoundError):
        for name in folder.iterdir():
            with suppress(OSError):  # it was closed meanwhile
                targets.append(os.readlink(name))
    with process.oneshot():
        return Footprint(
            process.memory_info().rss,
            len(targets),
            sum(target.startswith("socket:") for target in targets),
            sum(target.startswith("/memfd:") for target in targets),
            process.num_threads(),
        )


def left(temporary: Path) -> list[str]:
    """Names in /dev/shm, and of the temporary files of processes whose TMPDIR that is."""
    files = [str(path) for path in temporary.rglob("*") if not path.is_dir()]
    return sorted([*map(str, SHM.iterdir()), *files])
