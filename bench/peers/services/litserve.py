"""LitServe: batches by `batch` and `unbatch`."""

from __future__ import annotations

import litserve
import torch

from bench.peers.services.program import MAX_BATCH, PORT, WAIT, WORKERS, Program

API_SERVERS = 2  # processes that speak HTTP: faster than one on two cores


class Predict(litserve.LitAPI):
    """Takes `{"vector": […]}`."""

    def setup(self, device: str) -> None:
        """In the process that will run it."""
        self._program = Program()

    # Types here would have FastAPI check every request and answer against them.

    def decode_request(self, request):  # type: ignore[no-untyped-def]
        """The row."""
        return request["vector"]

    def batch(self, inputs: list[list[float]]) -> torch.Tensor:
        """Rows together."""
        return torch.tensor(inputs, dtype=self._program.dtype)

    def predict(self, x: torch.Tensor) -> torch.Tensor:
        """One batch."""
        return self._program.run(x)

    def unbatch(self, output: torch.Tensor) -> list[list[float]]:
        """Rows again."""
        return output.tolist()

    def encode_response(self, output):  # type: ignore[no-untyped-def]
        """The answer."""
        return {"y": output}


if __name__ == "__main__":
    server = litserve.LitServer(
        Predict(max_batch_size=MAX_BATCH, batch_timeout=WAIT),
        accelerator="cpu", devices=1, workers_per_device=WORKERS, timeout=60,
    )  # fmt: skip
    server.run(
        host="127.0.0.1", port=PORT, num_api_servers=API_SERVERS, generate_client_file=False,
        log_level="warning", access_log=False,
    )  # fmt: skip
