"""What a run measures, in which order, and about how long that takes. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from bench.peers.catalog import LIMIT, OURS, PEERS

KINDS = ("neighbours", "kill", "overload", "zipf")
FAULT_WORKERS = {"neighbours": 2, "kill": 2, "overload": 2, "zipf": 4}
FAULT_WORKLOAD = {
    "neighbours": "mlp784", "kill": "transformer", "overload": "transformer", "zipf": "transformer"
}  # fmt: skip
_STOP_AND_CHECK = 1.5  # seconds beside each server's own


class Times(NamedTuple):
    """Seconds: of a load, of the warm-up before it, of one client alone, and of what the faults take;
    `filling` is of caches."""

    load: float
    warm_up: float = 1.0
    alone: float = 1.0
    neighbours: float = 3.0
    kill: float = 7.0
    killed_after: float = 3.0
    calm: float = 3.0
    crowd: float = 4.0
    filling: float = 30.0

    def load_of(self, workload: str) -> float:
        """Where answers come in batches of 32, a few a second, one more or less is to count for little."""
        return 2 * self.load if workload == "transformer" else self.load

    @classmethod
    def of(cls, seconds: float, *, is_quick: bool) -> Times:
        """For loads of so many seconds."""
        if is_quick:
            return cls(1.0, neighbours=1.5, kill=5.0, killed_after=2.0, calm=1.5, crowd=2.0, filling=5.0)
        return cls(seconds, alone=max(1.0, round(seconds / 3)))


class Cell(NamedTuple):
    """One measurement: a server that is started for it, or none. `kind` is `load` or one of `KINDS`."""

    kind: str
    peer: str
    workload: str
    workers: int
    variant: str = ""
    rotation: int = 0

    @property
    def name(self) -> str:
        """Of its file."""
        parts = [self.kind, self.workload, self.peer, self.variant, str(self.workers), str(self.rotation)]
        return "-".join(part for part in parts if part)


def cells(
    peers: Sequence[str], workloads: Sequence[str], rotations: int, *, has_processes: bool
) -> list[Cell]:
    """All of them. In each rotation another server begins, so that none is always measured first; faults come
    once, at the end."""
    found = []
    for rotation in range(rotations):
        for workload in workloads:
            order = rotated(entries(peers, workload, has_processes=has_processes), rotation)
            found += [each._replace(rotation=rotation) for each in order]
    for kind in KINDS:
        workload = FAULT_WORKLOAD[kind]
        if workload in workloads:
            found += [Cell(kind, peer, workload, FAULT_WORKERS[kind]) for peer in peers]
    return found


def rotated(entries: Sequence[Cell], by: int) -> list[Cell]:
    """The same in a circle, begun elsewhere: a third of the way further each time."""
    at = by * max(1, len(entries) // 3) % len(entries) if entries else 0
    return [*entries[at:], *entries[:at]]


def entries(peers: Iterable[str], workload: str, *, has_processes: bool) -> list[Cell]:
    """What is loaded in one rotation. Ours is measured with one worker and with two; beside the transformer,
    the same program without any server too."""
    found: list[Cell] = []
    for name in peers:
        own = PEERS[name].workers[workload]
        found.append(Cell("load", name, workload, own))
        if name != OURS:
            continue
        if workload == "transformer":
            found.append(Cell("load", LIMIT, workload, own))
        found.append(Cell("load", name, workload, 3 - own))
        if workload == "mlp784":
            found.append(Cell("load", name, workload, own, "binary"))
        if workload == "tiny" and has_processes:
            found.append(Cell("load", name, workload, own, "gateways"))
    return found


def duration(cells: Iterable[Cell], times: Times) -> float:
    """Seconds that they take, more or less."""
    return sum(_seconds(each, times) for each in cells)


def _seconds(cell: Cell, times: Times) -> float:
    if cell.peer == LIMIT:
        return times.load_of(cell.workload) + 3.0
    took = {
        "load": times.warm_up + times.load_of(cell.workload) + times.alone,
        "neighbours": times.neighbours,
        "kill": times.kill + 2.0,
        "overload": times.warm_up + times.calm + times.crowd + 3.0,
        "zipf": (times.filling if PEERS[cell.peer].remembers else times.warm_up) + times.load + 2.0,
    }
    return PEERS[cell.peer].start + _STOP_AND_CHECK + took[cell.kind]


def left(cells: Iterable[Cell], done: Iterable[str]) -> Iterator[Cell]:
    """Those that are not done, by their names."""
    known = set(done)
    return (cell for cell in cells if cell.name not in known)
