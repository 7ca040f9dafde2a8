"""A transformer encoder with random weights, as TorchScript: made, and run without any server.

`-m bench.encoder make FILE` writes it; `-m bench.encoder run FILE SECONDS THREADS` prints rows a second in
batches of 32.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import torch
from torch import nn

LAYERS, WIDTH, HEADS, LENGTH, VOCABULARY = 6, 384, 6, 32, 1000
BATCH = 32


class Encoder(nn.Module):
    """Token ids of shape (n, 32), int64, to one float32 vector of 384 for each row."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, WIDTH)
        layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 4 * WIDTH, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=False)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        pooled: torch.Tensor = self.encoder(self.embedding(ids)).mean(1)
        return pooled


def make(path: str) -> None:
    """Write the encoder."""
    torch.manual_seed(1)
    torch.backends.mha.set_fastpath_enabled(False)
    with torch.inference_mode():
        program: Any = torch.jit.trace(  # type: ignore[no-untyped-call]
            Encoder().eval(), torch.zeros(BATCH, LENGTH, dtype=torch.int64)
        )
        program.save(path)


def run(path: str, seconds: float, threads: int) -> None:
    """Run batches for so long; print rows a second."""
    torch.set_num_threads(threads)
    program = torch.jit.load(path)  # type: ignore[no-untyped-call]
    ids = torch.randint(0, VOCABULARY, (BATCH, LENGTH))
    rows = 0
    with torch.inference_mode():
        for _ in range(3):
            program(ids)
        began = time.perf_counter()
        while time.perf_counter() - began < seconds:
            program(ids)
            rows += BATCH
    print(rows / (time.perf_counter() - began))


if __name__ == "__main__":
    if sys.argv[1] == "make":
        make(sys.argv[2])
    else:
        run(sys.argv[2], float(sys.argv[3]), int(sys.argv[4]))
