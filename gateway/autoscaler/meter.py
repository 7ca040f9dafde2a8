"""What the dispatcher counts for the autoscaler. Pure."""

from __future__ import annotations

from gateway.autoscaler.traffic import Batches


class Meter:
    """Rows that came and batches that came back, since they were read last."""

    def __init__(self) -> None:
        self.arrived = 0
        self.batches = Batches()

    def read(self) -> tuple[int, Batches]:
        """(Rows, batches) since the last time."""
        read = self.arrived, self.batches
        self.arrived, self.batches = 0, Batches()
        return read
