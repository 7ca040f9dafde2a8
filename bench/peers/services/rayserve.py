"""Ray Serve: a deployment with `serve.batch`, in its mode for throughput."""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

import ray
from ray import serve
from starlette.requests import Request

from bench.peers.services.program import MAX_BATCH, PORT, WAIT, WORKERS, Program


@serve.deployment(num_replicas=WORKERS, max_ongoing_requests=256, ray_actor_options={"num_cpus": 0.25})
class Predict:
    """Takes `{"vector": […]}`."""

    def __init__(self) -> None:
        self._program = Program()

    @serve.batch(max_batch_size=MAX_BATCH, batch_wait_timeout_s=WAIT)
    async def run(self, rows: list[list[float]]) -> list[list[float]]:
        """One batch."""
        return self._program.rows(rows)

    async def __call__(self, request: Request) -> dict[str, Any]:
        """One request."""
        return {"y": await self.run((await request.json())["vector"])}


def main() -> None:
    """A cluster of its own on this machine, until told to stop."""
    over = threading.Event()
    ray.init(
        num_cpus=2, include_dashboard=False, object_store_memory=200 << 20, _temp_dir=os.environ["BENCH_TEMP"]
    )
    serve.start(http_options={"host": "127.0.0.1", "port": PORT})
    deployment: Any = Predict  # the decorator's, whose types are not known here
    serve.run(deployment.bind(), route_prefix="/predict", logging_config={"enable_access_log": False})
    signal.signal(signal.SIGTERM, lambda *_: over.set())
    over.wait()
    ray.shutdown()


if __name__ == "__main__":
    main()
