"""Trains the weights in data/: the sample network learns the sum of two numbers in [0, 1], three times.

Also writes bad_tensors.b64, a file that every worker has to refuse: it decodes and loads, and does not fit.

The same torch gives the same bytes on the same machine. Training runs in float64 and is rounded to float32 at
the end, so that a CPU which adds up in another order arrives at the same weights too (within 1e-6, measured
between torch's plain and AVX2 kernels; trained in float32, they end up far apart).
"""

from __future__ import annotations

import argparse
import base64
import io
import sys
import zlib
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from engine.runtimes.networks import SampleNetwork

EXIT_OK = 0
EXIT_NOT_LEARNED = 1

EPOCHS = 20
SAMPLES = 1_000  # drawn once; an epoch goes over all of them in a new order
LEARNING_RATE = 0.003
LARGEST_ERROR = 0.01  # mean absolute, on a grid: what data/ promises

batch_sizes = {
    "000127a35b5f462b8ec68fb4d905ac36": 1,
    "0d3c5dffa4374c77a554ed38c9c50296": 2,
    "dfd2cd54a1ec4a408285f547f6827ea2": 5,
}


def train(batch_size: int) -> SampleNetwork:
    """Return a trained network, in float32. Seeds torch's global generator: all chance comes from there."""
    torch.manual_seed(batch_size)
    network = SampleNetwork().double()
    for layer in (network.fc1, network.fc2, network.output_layer):
        layer.reset_parameters()  # drawn again, now in float64
    rows = torch.rand(SAMPLES, 2, dtype=torch.float64)
    sums = rows.sum(dim=1, keepdim=True)
    optimizer = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE)
    steps = EPOCHS * -(-SAMPLES // batch_size)
    # down to nothing at the end: the last steps settle instead of jumping about the minimum
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=steps)
    for epoch in range(1, EPOCHS + 1):
        for batch in torch.randperm(SAMPLES).split(batch_size):
            optimizer.zero_grad()
            nn.functional.mse_loss(network(rows[batch]), sums[batch]).backward()
            optimizer.step()
            schedule.step()
        print(f"  epoch {epoch:2} of {EPOCHS}: error {grid_error(network):.6f}", flush=True)
    return network.float()


def grid_error(network: SampleNetwork) -> float:
    """Return the mean absolute error on a grid of 101 × 101 points over [0, 1]²."""
    axis = torch.linspace(0, 1, 101, dtype=network.fc1.weight.dtype)
    rows = torch.cartesian_prod(axis, axis)
    with torch.no_grad():
        return float((network(rows).squeeze(1) - rows.sum(dim=1)).abs().mean())


def misfit() -> dict[str, torch.Tensor]:
    """Return tensors that do not fit: one of another shape, one missing, one that nobody asked for."""
    state = {name: torch.zeros_like(tensor) for name, tensor in SampleNetwork().state_dict().items()}
    state["fc1.weight"] = torch.zeros(20, 3)
    del state["output_layer.bias"]
    state["fc3.weight"] = torch.zeros(20, 20)
    return state


def serialize(state: Mapping[str, torch.Tensor]) -> bytes:
    """Return what `torch.save` writes for a state_dict."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def write(path: Path, blob: bytes) -> None:
    """Write a blob as standard base64, with nothing around it."""
    path.write_bytes(base64.b64encode(blob))
    print(f"wrote {path}", flush=True)


def parse(argv: list[str] | None) -> argparse.Namespace:
    root = Path(__file__).resolve().parent.parent
    parser = argparse.ArgumentParser(description="Train the sample weights.")
    parser.add_argument("--out", type=Path, default=root / "data", help="where to write (default: data/)")
    parser.add_argument("--nn_id", choices=batch_sizes, help="train this one only (default: all three)")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    options = parse(argv)
    options.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    for nn_id, batch_size in batch_sizes.items():
        if options.nn_id not in (None, nn_id):
            continue
        print(f"{nn_id}, batch size {batch_size}", flush=True)
        network = train(batch_size)
        error = grid_error(network)
        if error > LARGEST_ERROR:
            print(f"not learned: mean absolute error {error:.6f}, at most {LARGEST_ERROR}", file=sys.stderr)
            return EXIT_NOT_LEARNED
        blob = serialize(network.state_dict())
        write(options.out / f"{nn_id}_{zlib.crc32(blob):08x}.b64", blob)
    if options.nn_id is None:
        write(options.out / "bad_tensors.b64", serialize(misfit()))
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
