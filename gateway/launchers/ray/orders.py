"""What the launcher orders of the driver, and what that answers: one line of JSON each, in turn. Pure."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from gateway.launchers.launcher import LaunchState, WorkerSpec


class Needs(msgspec.Struct, frozen=True):
    """What a worker takes of its node."""

    cpus: float
    gpus: float
    memory: int | None
    resources: Mapping[str, float]

    @classmethod
    def of(cls, spec: WorkerSpec) -> Needs:
        """Those of the workers that a spec describes."""
        return cls(spec.cpus, spec.gpus, spec.memory, spec.resources)

    @property
    def amounts(self) -> dict[str, float]:
        """How much of what, by Ray's names; without what it needs none of."""
        memory = float(self.memory or 0)
        amounts = {"CPU": self.cpus, "GPU": self.gpus, "memory": memory, **self.resources}
        return {name: amount for name, amount in amounts.items() if amount}

    def count_room(self, nodes: list[Mapping[str, float]]) -> int | None:
        """How many such workers fit on nodes that have so much left; None for no end of them."""
        amounts = self.amounts
        if not amounts:
            return None
        # Ray counts in ten-thousandths: 0.3 of a processor three times is 0.9, and not a little less.
        return sum(
            min(int(node.get(name, 0.0) / amount + 1e-4) for name, amount in amounts.items())
            for node in nodes
        )


class Start(msgspec.Struct, tag=True, frozen=True):
    """Order workers: of each id, the flags of its worker."""

    workers: Mapping[str, tuple[str, ...]]
    environment: Mapping[str, str]
    needs: Needs


class Stop(msgspec.Struct, tag=True, frozen=True):
    """Have a worker end by itself within `grace` seconds."""

    id: str
    grace: float


class Kill(msgspec.Struct, tag=True, frozen=True):
    """End what is left of a worker, now."""

    id: str


class See(msgspec.Struct, tag=True, frozen=True):
    """Say which workers there are."""


class Room(msgspec.Struct, tag=True, frozen=True):
    """Say how many more would fit."""

    needs: Needs


class Order(msgspec.Struct, frozen=True):
    """One line to the driver."""

    number: int
    order: Start | Stop | Kill | See | Room


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line from the driver: to `See`, state and reason of each worker; to `Room`, a number or nothing.
    `error` is the sentence of one that could not be carried out."""

    number: int
    seen: dict[str, tuple[LaunchState, str]] = {}
    room: int | None = None
    error: str = ""
