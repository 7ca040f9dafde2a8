"""What a run is told beside its schedule."""

from __future__ import annotations

import math
from dataclasses import dataclass

from bench.executor.doors import Door, open_door
from bench.executor.payloads import VECTOR, Tensor


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Times in seconds. `ValueError` with a sentence for what makes no sense."""

    url: str
    door: str = "v1"
    path: str | None = None
    """Instead of the door's own."""
    cacert: str | None = None
    """A file of authorities, whose certificates a server over TLS may show; None: those the system knows."""
    insecure: bool = False
    """Whether a server over TLS may show any certificate."""
    tensor: Tensor = VECTOR
    """What a row of the model is."""
    connections: int = 512
    """At most, of all processes."""
    closed: int = 0
    """Clients of a closed loop; 0: an open one."""
    processes: int = 1
    warm_up: float = 2.0
    """Before what is counted."""
    timeout: float = 30.0
    """Of one request."""
    deadline: float | None = None
    """What goodput is: answers within it."""
    pids: tuple[int, ...] = ()
    """Processes of the server; where none is given, whoever listens at the URL on this machine."""

    def __post_init__(self) -> None:
        if self.connections < self.processes or self.processes < 1:
            raise ValueError("processes are at least 1, and connections at least as many as processes")
        if self.closed < 0 or 0 < self.closed < self.processes:
            raise ValueError("clients of a closed loop are at least as many as processes")
        if self.closed > self.connections and self.door not in ("grpc", "ws"):
            raise ValueError("each client of a closed loop needs a connection: give as many --connections")
        if not (0 <= self.warm_up < math.inf and 0 < self.timeout < math.inf):
            raise ValueError("the warm-up is 0 or more seconds, and the timeout more than 0")
        if self.deadline is not None and not self.deadline > 0:
            raise ValueError("the deadline is more than 0 seconds")

    def open_door(self) -> Door:
        """The door that these name; `ValueError` with a sentence."""
        return open_door(
            self.door, self.url, self.tensor, self.path, cacert=self.cacert, insecure=self.insecure
        )

    def share(self, of: int, number: int) -> int:
        """What process `number` has of so many, which all of them share."""
        return of // self.processes + (number < of % self.processes)
