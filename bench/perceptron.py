"""Models without a cache for `bench.protocols`: `-m bench.perceptron FOLDER` writes a perceptron of
784-512-512-10 with random weights, and one that answers rows of any width as they came."""

from __future__ import annotations

import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import nn

WIDTHS = (784, 512, 512, 10)


def main(folder: Path) -> None:
    """Write both."""
    torch.manual_seed(1)
    layers = [nn.Linear(*pair) for pair in pairwise(WIDTHS)]
    perceptron = nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])
    for name, network, width in (("perceptron", perceptron, WIDTHS[0]), ("same", nn.Identity(), -1)):
        version = folder / name / "1"
        version.mkdir(parents=True)
        program: Any = torch.jit.script(network.eval())
        program.save(str(version / "model.ts"))
        inputs = f'[[inputs]]\nname = "x"\nshape = [{width}]\n'
        (folder / name / "model.toml").write_text(f"cache_size = 0\n{inputs}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
