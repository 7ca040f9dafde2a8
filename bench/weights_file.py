"""Makes big weights and times `torch.load` of them, in a process of its own (`-m bench.weights_file FOLDER`).

For every line on stdin: new weights of 100 MB in FOLDER/weights.pt, their base64 text beside it, and one line
of JSON about them on stdout. They fit the sample network, whose tensors are views of the 100 MB.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import sys
import time
from pathlib import Path

import torch

FLOATS = 25_000_000
SHAPES = {
    "fc1.weight": (20, 2), "fc1.bias": (20,), "fc2.weight": (20, 20), "fc2.bias": (20,),
    "output_layer.weight": (1, 20), "output_layer.bias": (1,),
}  # fmt: skip


def main() -> None:
    """Answer lines on stdin until it ends."""
    folder = Path(sys.argv[1])
    storage = torch.randn(FLOATS)
    for line in sys.stdin:
        storage[:20_000].normal_(generator=torch.Generator().manual_seed(int(line)))
        torch.save(state_dict(storage), folder / "weights.pt")
        data = (folder / "weights.pt").read_bytes()
        (folder / "weights.b64").write_bytes(base64.b64encode(data))
        print(json.dumps({"bytes": len(data)} | timings(folder / "weights.pt", data)), flush=True)


def state_dict(storage: torch.Tensor) -> dict[str, torch.Tensor]:
    """The sample network's parameters, one after the other in `storage`."""
    state, at = {}, 0
    for name, shape in SHAPES.items():
        state[name] = torch.as_strided(storage, shape, torch.empty(shape).stride(), at)
        at += state[name].numel()
    return state


def timings(path: Path, data: bytes) -> dict[str, float]:
    """Seconds of `torch.load`, and of the other things nobody can do without."""
    began = time.perf_counter()
    torch.load(path, weights_only=True)
    loaded = time.perf_counter()
    hashlib.sha256(data).digest()
    hashed = time.perf_counter()
    with path.with_suffix(".copy").open("wb", buffering=0) as file:
        file.write(data)
        os.fsync(file.fileno())
    written = time.perf_counter()
    path.with_suffix(".copy").unlink()
    return {"load": loaded - began, "sha256": hashed - loaded, "fsync": written - hashed}


if __name__ == "__main__":
    main()
