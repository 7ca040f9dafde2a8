"""Runtime of a torch state_dict in a named architecture. Loads tensors only, never code."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from common.errors import LoadError
from common.tensor import TensorSpec
from engine.rows import Array
from engine.runtimes.networks import architectures
from engine.runtimes.torch_file import Source, read_tensors

# What one row of each architecture is; a state_dict does not say.
SIGNATURES: dict[str, tuple[TensorSpec, ...]] = {"sample": (TensorSpec("vector", "FP32", (2,)),)}

# Matrix products take other paths for the last few rows, and so differ in the last bit with the number of
# rows beside one (seen on CPU for 1, 2 and odd numbers, with one thread and two). Filled up to a multiple of
# this, a row has the same answer in every company, so that neither batches nor the cache change results.
ROWS_MULTIPLE = 16


class TorchStateRuntime:
    """A network in evaluation mode on one device."""

    def __init__(self, network: nn.Module, inputs: tuple[TensorSpec, ...], device: torch.device) -> None:
        self.inputs = inputs
        self._network = network
        self._device = device
        self._outputs = (TensorSpec("result", "FP32", ()),)

    def run(self, arrays: list[Array]) -> tuple[tuple[TensorSpec, ...], list[Array]]:
        rows = len(arrays[0])
        with torch.inference_mode():
            tensors = [torch.from_numpy(_filled_up(array)) for array in arrays]
            if self._device.type != "cpu":
                tensors = [tensor.pin_memory().to(self._device, non_blocking=True) for tensor in tensors]
            answers = self._network(*tensors).float().cpu().numpy()[:rows]
        if answers.shape[1:] != self._outputs[0].row_shape:
            self._outputs = (TensorSpec("result", "FP32", answers.shape[1:]),)
        return self._outputs, [answers]


def _filled_up(array: Array) -> Array:
    rows = len(array)
    if rows % ROWS_MULTIPLE == 0:
        return array
    filled = np.zeros((rows - rows % -ROWS_MULTIPLE, *array.shape[1:]), array.dtype)
    filled[:rows] = array
    return filled


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
    state = read_tensors(source)
    network = architectures[architecture]()
    _check_state(state, network)
    try:
        # `assign` keeps the file's own tensors: no second copy of weights that may be gigabytes.
        network.load_state_dict(state, strict=True, assign=True)
        network.requires_grad_(False).to(device).eval()
        runtime = TorchStateRuntime(network, SIGNATURES[architecture], device)
        _warm_up(runtime)
    except Exception as error:
        raise LoadError(f"the weights fit, but the network does not run with them: {error}") from error
    return runtime


def _check_state(state: Any, network: nn.Module) -> None:
    if not isinstance(state, dict):
        raise LoadError(f"the file holds a {type(state).__name__}, not a state_dict of tensors")
    for key, value in state.items():
        if not isinstance(value, torch.Tensor):
            raise LoadError(
                f"the file holds a {type(value).__name__} under {_short(key)}, where a state_dict "
                "has a tensor: save the network's state_dict() alone"
            )
    wanted = network.state_dict()
    missing, extra = wanted.keys() - state.keys(), state.keys() - wanted.keys()
    if missing or extra:
        lists = [", ".join(sorted(map(_short, keys))[:20]) or "none" for keys in (missing, extra)]
        raise LoadError(f"keys do not fit: missing {lists[0]}; unexpected {lists[1]}")
    for key, tensor in state.items():
        _check_tensor(key, tensor, wanted[key])


def _check_tensor(key: str, tensor: torch.Tensor, wanted: torch.Tensor) -> None:
    if tensor.shape != wanted.shape:
        raise LoadError(
            f"shapes do not fit: {key} has {list(tensor.shape)}, the network's has {list(wanted.shape)}"
        )
    if tensor.dtype != wanted.dtype:
        raise LoadError(f"{key} is {tensor.dtype}, the network's is {wanted.dtype}")
    if tensor.layout != torch.strided or tensor.device.type != "cpu":
        raise LoadError(f"{key} is a {tensor.layout} tensor on {tensor.device}, not one of plain numbers")
    if not torch.isfinite(tensor).all():
        raise LoadError(f"{key} holds numbers that are not finite")


def _short(key: object) -> str:
    return repr(key)[:80]


def _warm_up(runtime: TorchStateRuntime) -> None:
    """The first call of a network pays for allocations and kernels' choice."""
    for rows in (ROWS_MULTIPLE, 2 * ROWS_MULTIPLE):
        runtime.run([np.zeros((rows, *spec.row_shape), dtype=np.float32) for spec in runtime.inputs])
