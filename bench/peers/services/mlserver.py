"""MLServer: a runtime over NumPy with adaptive batches. Run as a program it writes the settings that MLServer
reads into the working directory, and becomes MLServer."""

from __future__ import annotations

import json
import os
import socket
import sys
from pathlib import Path

import torch
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse

from bench.peers.services.program import MAX_BATCH, PORT, WAIT, WORKERS, WORKLOAD, Program


class Runtime(MLModel):
    """Takes one tensor."""

    async def load(self) -> bool:
        """In the process that will run it."""
        self._program = Program()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """One batch, which MLServer has made of requests."""
        rows = torch.from_numpy(NumpyCodec.decode_input(payload.inputs[0]))
        answers = self._program.run(rows.to(self._program.dtype)).numpy()
        return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output("y", answers)])


def main() -> None:
    """Write the settings and become the server."""
    ports = [PORT, _free_port(), _free_port()]
    settings = dict(zip(("http_port", "grpc_port", "metrics_port"), ports, strict=True))
    folder = Path.cwd()
    (folder / "settings.json").write_text(
        json.dumps(
            settings
            | {
                "debug": False, "host": "127.0.0.1", "parallel_workers": WORKERS, "metrics_endpoint": None,
                "environments_dir": str(folder / "envs"), "metrics_dir": str(folder),
            }
        )
    )  # fmt: skip
    (folder / "model-settings.json").write_text(
        json.dumps(
            {
                "name": WORKLOAD, "implementation": "bench.peers.services.mlserver.Runtime",
                "max_batch_size": MAX_BATCH, "max_batch_time": WAIT,
            }
        )
    )  # fmt: skip
    program = str(Path(sys.executable).with_name("mlserver"))
    os.execv(program, [program, "start", "."])


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


if __name__ == "__main__":
    main()
