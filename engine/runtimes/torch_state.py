"""Runtime of a torch state_dict in a named architecture. Loads tensors only, never code."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from common.errors import LoadError
from common.tensor import TensorSpec
from engine.runtimes.networks import architectures
from engine.runtimes.runtime import Array

# What one row of each architecture is; a state_dict does not say.
SIGNATURES: dict[str, tuple[TensorSpec, ...]] = {"sample": (TensorSpec("vector", "FP32", (2,)),)}

Source = bytes | bytearray | memoryview | Path


class TorchStateRuntime:
    """A network in evaluation mode on one device."""

    def __init__(self, network: nn.Module, inputs: tuple[TensorSpec, ...], device: torch.device) -> None:
        self.inputs = inputs
        self._network = network
        self._device = device

    def run(self, arrays: list[Array]) -> tuple[tuple[TensorSpec, ...], list[Array]]:
        with torch.inference_mode():
            tensors = [torch.from_numpy(array) for array in arrays]
            if self._device.type != "cpu":
                tensors = [tensor.pin_memory().to(self._device, non_blocking=True) for tensor in tensors]
            answers = self._network(*tensors).float().contiguous().cpu().numpy()
        return (TensorSpec("result", "FP32", answers.shape[1:]),), [answers]


def choose_device(wanted: str) -> torch.device:
    """`cpu`, `cuda`, or `auto`: cuda where there is one. `ValueError` when cuda is wanted and absent."""
    has_cuda = torch.cuda.is_available()
    if wanted == "cuda" and not has_cuda:
        raise ValueError("--device cuda: this torch finds no CUDA device here; give cpu or auto")
    return torch.device("cuda" if wanted != "cpu" and has_cuda else "cpu")


def load(source: Source, architecture: str, device: torch.device) -> TorchStateRuntime:
    """A warm runtime of what `torch.save` wrote: bytes, or a file, which is mapped rather than read.

    Raises `LoadError` with a sentence when it would not serve: not a torch file, a pickle that would run
    code, missing or unexpected keys, wrong shapes or dtypes, parameters that are not finite.
    """
    state = _read(source)
    network = architectures[architecture]()
    _check_state(state, network)
    # `assign` keeps the file's own tensors: no second copy of weights that may be gigabytes.
    network.load_state_dict(state, strict=True, assign=True)
    network.requires_grad_(False).to(device).eval()
    runtime = TorchStateRuntime(network, SIGNATURES[architecture], device)
    _warm_up(runtime)
    return runtime


def _read(source: Source) -> Any:
    try:
        if isinstance(source, Path):
            return torch.load(source, map_location="cpu", weights_only=True, mmap=True)
        return torch.load(io.BytesIO(source), map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises a dozen kinds here, none of them its own
        raise LoadError(f"this is not a file of tensors that torch.load accepts: {error}") from error


def _check_state(state: Any, network: nn.Module) -> None:
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise LoadError(f"the file holds a {type(state).__name__}, not a state_dict of tensors")
    wanted = network.state_dict()
    missing, extra = wanted.keys() - state.keys(), state.keys() - wanted.keys()
    if missing or extra:
        raise LoadError(
            f"keys do not fit: missing {sorted(missing)}, unexpected {sorted(map(str, extra))[:20]}"
        )
    for key, tensor in state.items():
        if tensor.shape != wanted[key].shape:
            shapes = f"{list(tensor.shape)}, the network's has {list(wanted[key].shape)}"
            raise LoadError(f"shapes do not fit: {key} has {shapes}")
        if tensor.dtype != wanted[key].dtype:
            raise LoadError(f"{key} is {tensor.dtype}, the network's is {wanted[key].dtype}")
        if not torch.isfinite(tensor).all():
            raise LoadError(f"{key} holds numbers that are not finite")


def _warm_up(runtime: TorchStateRuntime) -> None:
    """One row and a few: the first call of a network pays for allocations and kernels' choice."""
    for rows in (1, 8):
        runtime.run([np.zeros((rows, *spec.row_shape), dtype=np.float32) for spec in runtime.inputs])
