"""The three models that every server runs, each one TorchScript file, and their reference answers.

`-m bench.peers.workloads FOLDER` writes `NAME.ts` and `NAME.json` for each; nothing else here needs torch.
"""

from __future__ import annotations

import json
import sys
import warnings
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from bench.executor.payloads import Payloads, Tensor

if TYPE_CHECKING:
    import torch

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = "000127a35b5f462b8ec68fb4d905ac36"
REFERENCES = 64
POOL = 2000  # different requests, one after the other


class Workload(NamedTuple):
    """A model and its rows."""

    name: str
    title: str
    tensor: Tensor

    @property
    def width(self) -> int:
        """Elements of a row."""
        return self.tensor.shape[0]

    def values(self, number: str) -> list[float] | list[int]:
        """A row by its number, always the same one."""
        return Payloads(self.tensor, lambda *_: b"").values(number)


WORKLOADS = {
    each.name: each
    for each in (
        Workload("tiny", "the sample network, 2–20–20–1", Tensor("vector", "FP32", (2,))),
        Workload("mlp784", "a perceptron, 784–512–512–10", Tensor("x", "FP32", (784,))),
        Workload(
            "transformer", "a transformer encoder, 6 layers of 384, 32 tokens", Tensor("ids", "INT64", (32,))
        ),
    )
}


class Reference(msgspec.Struct, frozen=True):
    """What rows of these numbers are answered."""

    numbers: list[str]
    answers: list[list[float]]


def read_reference(folder: Path, workload: str) -> Reference:
    """As `write` left it."""
    return msgspec.json.decode((folder / f"{workload}.json").read_bytes(), type=Reference)


def inputs(count: int) -> list[str]:
    """Numbers of rows, none of which is a reference's."""
    return [str(REFERENCES + n) for n in range(count)]


def write(folder: Path) -> None:
    """Every model's file and its reference answers."""
    import torch

    torch.manual_seed(1)
    for workload in WORKLOADS.values():
        program = _program(workload, folder)
        numbers = [str(n) for n in range(REFERENCES)]
        rows = torch.tensor([workload.values(number) for number in numbers])
        with torch.inference_mode():
            answers = program(rows).reshape(REFERENCES, -1).tolist()
        (folder / f"{workload.name}.json").write_text(json.dumps({"numbers": numbers, "answers": answers}))


def _program(workload: Workload, folder: Path) -> Any:
    import torch

    path = folder / f"{workload.name}.ts"
    if workload.name == "transformer":
        from bench.encoder import make

        make(str(path))
        return torch.jit.load(str(path))  # type: ignore[no-untyped-call]
    network = _sample() if workload.name == "tiny" else _perceptron()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        program: Any = torch.jit.trace(network.eval(), torch.zeros(1, workload.width))  # type: ignore[no-untyped-call]
    program.save(str(path))
    return program


def _sample() -> torch.nn.Module:
    import base64
    import io

    import torch

    from engine.runtimes.networks import SampleNetwork

    (file,) = (ROOT / "data").glob(f"{SAMPLE}_*.b64")
    network = SampleNetwork()
    network.load_state_dict(torch.load(io.BytesIO(base64.b64decode(file.read_bytes())), weights_only=True))
    return network


def _perceptron() -> torch.nn.Module:
    from torch import nn

    from bench.perceptron import WIDTHS

    layers = [nn.Linear(*pair) for pair in pairwise(WIDTHS)]
    return nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])


if __name__ == "__main__":
    write(Path(sys.argv[1]))
