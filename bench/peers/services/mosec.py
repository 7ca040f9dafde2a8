"""Mosec: a worker with dynamic batches, and its own JSON."""

from __future__ import annotations

from typing import Any

from mosec import Server, Worker

from bench.peers.services.program import MAX_BATCH, WAIT, WORKERS, Program


class Predict(Worker):
    """Takes `{"vector": […]}`."""

    def __init__(self) -> None:
        super().__init__()
        self._program = Program()

    def forward(self, data: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """One batch."""
        return [{"y": row} for row in self._program.rows([each["vector"] for each in data])]


if __name__ == "__main__":
    server = Server()
    server.append_worker(Predict, num=WORKERS, max_batch_size=MAX_BATCH, max_wait_time=round(1000 * WAIT))
    server.run()
