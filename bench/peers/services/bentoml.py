"""BentoML: a batchable API; a request is a batch of one row, and its dispatcher merges them."""

from __future__ import annotations

import bentoml

from bench.peers.services.program import IS_WHOLE, MAX_BATCH, WORKERS, Program

Number = int if IS_WHOLE else float


@bentoml.service(workers=WORKERS, traffic={"timeout": 60, "max_concurrency": 4096})
class Predict:
    """Takes `{"vectors": [[…]]}`."""

    def __init__(self) -> None:
        self._program = Program()

    @bentoml.api(batchable=True, max_batch_size=MAX_BATCH, max_latency_ms=60_000)
    def predict(self, vectors: list[list[Number]]) -> list[list[float]]:  # type: ignore[valid-type]
        """One batch."""
        return self._program.rows(vectors)
