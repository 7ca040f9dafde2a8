"""What the scripts that train and export share: where to write, and both kinds of torch program."""

from __future__ import annotations

import argparse
import io
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

ROOT = Path(__file__).resolve().parent.parent
ROWS = torch.export.Dim("rows", min=1, max=4096)

Free = Mapping[str, Mapping[int, torch.export.Dim]]  # the dimensions beside the rows that are free, by input


def arguments(description: str, argv: list[str] | None, *, out: Path = ROOT / "data") -> Path:
    """Where to write, of the one flag that such a script has; the folder is made."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--out", type=Path, default=out, help=f"where to write (default: {out.name}/)")
    where: Path = parser.parse_args(argv).out
    where.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    return where


def save(
    network: nn.Module,
    example: Mapping[str, torch.Tensor],
    path: Path,
    *,
    free: Free | None = None,
) -> None:
    """Write `path`.ts and `path`.pt2: the network in evaluation mode, as TorchScript and by torch.export.

    `example` is what it is called with, by the names of its parameters, two rows of each. The number of rows
    is free; `free` says which other dimensions are, by input.
    """
    network.eval().requires_grad_(False)
    write(path.with_suffix(".ts"), scripted(network))
    write(path.with_suffix(".pt2"), exported(network, example, free))


def scripted(network: nn.Module) -> bytes:
    """TorchScript, compiled from the source of `forward`."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch would rather have torch.export
        torch.jit.save(torch.jit.script(network), buffer)
    return buffer.getvalue()


def traced(network: nn.Module, example: Mapping[str, torch.Tensor]) -> bytes:
    """TorchScript of what happened to the example, for source that cannot be compiled."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(torch.jit.trace(network, example_kwarg_inputs=dict(example)), buffer)
    return buffer.getvalue()


def exported(
    network: nn.Module,
    example: Mapping[str, torch.Tensor],
    free: Free | None = None,
    *,
    rows: torch.export.Dim | None = ROWS,
) -> bytes:
    """A torch.export program for any number of rows; for as many as the example has where `rows` is None."""
    lengths = {} if rows is None else {0: rows}
    shapes = tuple({**lengths, **(free or {}).get(name, {})} for name in example)
    of_their_own = tuple(each.clone() for each in example.values())  # of a view, all would be saved
    program = torch.export.export(network, of_their_own, dynamic_shapes=shapes, strict=False)
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    return buffer.getvalue()


def write(path: Path, data: bytes) -> None:
    """Write a file, and say so."""
    path.write_bytes(data)
    print(f"wrote {path}", flush=True)
