"""A photograph through the gateway: `python -m bench.inputs`.

A JPEG of 640 × 480 pixels is sent as the body, decoded and classified by a worker with a small network. The
figure that counts is what the gateway spends on it: it does not decode.
"""

from __future__ import annotations

import io
import json
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageFilter

from bench.client import Client
from bench.figures import Figure
from bench.programs import Server, gateway
from bench.run import Run, run_benchmark
from bench.wrk import drive

WIDTH, HEIGHT = 640, 480
CLIENTS = 8
CLASSES = 10
MOST_CPU = 0.3  # milliseconds of the gateway's CPU for each request


class Rate(NamedTuple):
    """Requests a second, seconds until half of the answers came, and milliseconds of CPU for each request: of
    the gateway itself, and of its workers."""

    rate: float
    p50: float
    cpu: float
    workers: float


def photograph(seed: int = 0) -> bytes:
    """A JPEG with as much in it as a photograph has: noise of many sizes."""
    draw = np.random.default_rng(seed)
    picture = Image.new("RGB", (WIDTH, HEIGHT), (110, 120, 130))
    for radius in (40, 12, 4, 1):
        noise = Image.fromarray(draw.integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8))
        picture = Image.blend(picture, noise.filter(ImageFilter.GaussianBlur(radius)), 0.45)
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=88)
    return file.getvalue()


def network() -> bytes:
    """A small convolutional network, untrained, as TorchScript."""
    torch.manual_seed(0)
    layers = torch.nn.Sequential(
        torch.nn.Conv2d(3, 16, 3, stride=2), torch.nn.ReLU(),
        torch.nn.Conv2d(16, 32, 3, stride=2), torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(32, CLASSES),
    ).eval()  # fmt: skip
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(torch.jit.trace(layers, torch.zeros(1, 3, 64, 64)), file)  # type: ignore[no-untyped-call]
    return file.getvalue()


def inputs(run: Run) -> list[Figure]:
    """Decode and classify, with the cache that every model has."""
    photo = run.directory / "photo.jpg"
    photo.write_bytes(photograph())
    with gateway(run.directory) as server:
        with Client(server.port) as client:
            image = {"size": [64, 64], "resize": "stretch"}
            settings = {"input_type": "image", "output_type": "classification", "image": image}
            client.ask("PUT", "/models/cnn", json.dumps(settings).encode())
            said = client.ask("PUT", "/models/cnn/versions/1?file=model.ts", network())
        if not said["status"]:
            raise RuntimeError(f"the network was refused: {said}")
        _ask(server, photo, 1, run.seed())
        found = []
        for n in range(run.repeats):
            run.say(f"inputs: run {n + 1} of {run.repeats}")
            found.append(_ask(server, photo, run.seconds, run.seed()))
    run.details["inputs"] = [each._asdict() for each in found]
    size = photo.stat().st_size / 1000
    return [
        Figure(
            f"a JPEG of {WIDTH} × {HEIGHT}, decoded and classified", median(r.rate for r in found),
            "requests/s", note=f"{size:.0f} kB, {CLIENTS} clients, one worker",
        ),
        Figure("  half are answered within", 1000 * median(r.p50 for r in found), "ms"),
        Figure("  gateway CPU for each", median(r.cpu for r in found), "ms", at_most=MOST_CPU),
        Figure("  worker CPU for each", median(r.workers for r in found), "ms"),
    ]  # fmt: skip


def _ask(server: Server, photo: Path, seconds: float, seed: int) -> Rate:
    """Ask for so long."""
    before = server.cpu()
    load = drive(
        server, "files.lua", clients=CLIENTS, seconds=seconds, file=photo, route="/models/cnn/image",
        content_type="image/jpeg", seed=seed,
    )  # fmt: skip
    if load.errors:
        raise RuntimeError(f"{load.errors} of {load.requests} requests were refused")
    own, workers = (
        1000 * (now - then) / load.requests for now, then in zip(server.cpu(), before, strict=True)
    )
    return Rate(load.rate, load.p50, own, workers)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; an exit code."""
    return run_benchmark("bench.inputs", "A photograph through the gateway.", inputs, argv)


if __name__ == "__main__":
    sys.exit(main())
