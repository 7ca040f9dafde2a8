"""What every service runs: one TorchScript program in one thread, as the environment says."""

from __future__ import annotations

import os
from typing import Any

import torch

WORKLOAD = os.environ.get("BENCH_WORKLOAD", "tiny")
PROGRAMS = os.environ.get("BENCH_PROGRAMS", ".")
PORT = int(os.environ.get("BENCH_PORT", "8000"))
WORKERS = int(os.environ.get("BENCH_WORKERS", "1"))
WAIT = float(os.environ.get("BENCH_WAIT", "0.002"))  # seconds that a batch may wait for more rows
MAX_BATCH = 32
WIDTHS = {"tiny": 2, "mlp784": 784, "transformer": 32}
IS_WHOLE = WORKLOAD == "transformer"


class Program:
    """Rows in, rows out."""

    def __init__(self) -> None:
        torch.set_num_threads(1)
        self.dtype = torch.int64 if IS_WHOLE else torch.float32
        self._program: Any = torch.jit.load(f"{PROGRAMS}/{WORKLOAD}.ts")  # type: ignore[no-untyped-call]
        self._program.eval()
        self.run(torch.zeros(1, WIDTHS[WORKLOAD], dtype=self.dtype))

    def run(self, rows: torch.Tensor) -> torch.Tensor:
        """A batch as a tensor."""
        with torch.inference_mode():
            answers: torch.Tensor = self._program(rows)
            return answers

    def rows(self, rows: list[Any]) -> list[list[float]]:
        """A batch as lists."""
        return self.run(torch.tensor(rows, dtype=self.dtype)).tolist()
