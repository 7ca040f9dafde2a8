"""What starts and stops workers, whatever engine that is: the contract of every launcher. Pure.

A launcher only orders: what an engine says of a worker is never believed for routing, as engines take seconds
to a minute to notice a host that fell silent. Who serves is said by the workers themselves, at the fleet.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol


class LaunchState(str, enum.Enum):
    """What an engine says of a worker that was ordered."""

    PENDING = "pending"  # ordered, and not placed or not started yet: it counts as ordered
    RUNNING = "running"  # its process runs; whether it serves, the fleet knows
    GONE = "gone"  # it ended, or its engine gave it up; kept until `stop` has been called for it


@dataclass(frozen=True)
class Launched:
    """A worker as its engine sees it. `why`: of one that is gone, how it ended; of one that is pending, what
    it waits for; empty where nobody knows."""

    state: LaunchState
    why: str = ""


@dataclass(frozen=True, kw_only=True)
class WorkerSpec:
    """How to start a worker: the flags of `worker.py` beside its name and incarnation, which the launcher
    adds, and what it takes of its host. `memory` is in bytes."""

    service: str = "pipeline"  # whose workers these are: several gateways may share one engine
    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    cpus: float = 1.0
    gpus: float = 0.0
    memory: int | None = None
    resources: Mapping[str, float] = field(default_factory=dict)  # of the engine's own kinds


class Launcher(Protocol):
    """Starts and stops workers. Every method may raise `LaunchError`, and each is safe to call again.

    Ids are ours: `ids.fresh_ids` makes them, they name the service and an incarnation, and none is ever used
    twice. Nobody else starts a worker again that ended: whether there is to be another is the gateway's to
    say.
    """

    async def start(self, n: int, spec: WorkerSpec) -> list[str]:
        """Order n workers; their ids, at once: none has to run yet."""
        ...

    async def stop(self, id: str, grace: float) -> None:
        """Have a worker end: ask it, and force it after `grace` seconds; returns as soon as that is ordered.
        Idempotent: of an id that nobody knows, or that has ended, nothing is left."""
        ...

    async def alive(self) -> dict[str, Launched]:
        """Every worker of this service that was ordered and not forgotten, also those of before a restart
        of the gateway."""
        ...

    async def capacity(self, spec: WorkerSpec) -> int | None:
        """How many more of these would find room now; None where nobody knows."""
        ...
