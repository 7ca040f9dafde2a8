"""Runtime of a torch state_dict in a named architecture. Loads tensors only, never code."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from common.errors import LoadError
from engine.runtimes.filling import choose_multiple
from engine.runtimes.networks import build_network, choose_architecture
from engine.runtimes.options import LoadOptions
from engine.runtimes.runtime import first_line
from engine.runtimes.source import Source, source_size
from engine.runtimes.torch_call import TorchRuntime
from engine.runtimes.torch_file import read_tensors

_REPEATED = 64 << 20  # bytes that a tensor may have without having them in its file


def choose_device(wanted: str) -> torch.device:
    """`cpu`, `cuda`, or `auto`: cuda where there is one. `ValueError` when cuda is wanted and absent."""
    has_cuda = torch.cuda.is_available()
    if wanted == "cuda" and not has_cuda:
        raise ValueError("--device cuda: this torch finds no CUDA device here; give cpu or auto")
    return torch.device("cuda" if wanted != "cpu" and has_cuda else "cpu")


def load(source: Source, options: LoadOptions, device: torch.device) -> TorchRuntime:
    """A warm runtime of what `torch.save` wrote: bytes, or a file, which is mapped rather than read.

    Raises `LoadError` with a sentence when it would not serve: not a torch file, a pickle that would run
    code, missing or unexpected keys, wrong shapes or dtypes, parameters that are not finite.
    """
    return load_state(read_tensors(source), source_size(source), options, device)


def load_state(state: Any, size: int, options: LoadOptions, device: torch.device) -> TorchRuntime:
    """A warm runtime of the `size` bytes of tensors of a state_dict; `LoadError` as `load`."""
    options.refuse("methods", because="a state_dict has no use for it")
    _check_is_state(state)
    network, inputs = build_network(choose_architecture(options, state), options, state)
    _check_state(state, network)
    try:
        # `assign` keeps the file's own tensors: no second copy of weights that may be gigabytes.
        network.load_state_dict(state, strict=True, assign=True)
        network.requires_grad_(False).to(device).eval()
    except Exception as error:
        raise LoadError(f"the network does not take the weights: {first_line(error)}") from error
    multiple = choose_multiple(options, size)
    return TorchRuntime(network, options.inputs or inputs, device, rows_multiple=multiple)


def _check_is_state(state: Any) -> None:
    if not isinstance(state, dict):
        raise LoadError(f"the file holds a {type(state).__name__}, not a state_dict of tensors")
    for key, value in state.items():
        if not isinstance(value, torch.Tensor):
            raise LoadError(
                f"the file holds a {type(value).__name__} under {_short(key)}, where a state_dict "
                "has a tensor: save the network's state_dict() alone"
            )
        # A tensor can be said to repeat one number for ever, and to compute with it takes that memory.
        if value.layout == torch.strided:
            stored = value.untyped_storage().nbytes()
            if value.nbytes > max(stored, _REPEATED):
                raise LoadError(f"{_short(key)} is said to have {value.nbytes} bytes, and has {stored}")


def _check_state(state: dict[str, torch.Tensor], network: nn.Module) -> None:
    wanted = network.state_dict()
    missing, extra = wanted.keys() - state.keys(), state.keys() - wanted.keys()
    if missing or extra:
        lists = [", ".join(sorted(map(_short, keys))[:20]) or "none" for keys in (missing, extra)]
        raise LoadError(f"keys do not fit: missing {lists[0]}; unexpected {lists[1]}")
    # A buffer may well hold infinities, as the mask of an attention does; a parameter was trained.
    parameters = {key for key, _ in network.named_parameters(remove_duplicate=False)}
    for key, tensor in state.items():
        _check_tensor(key, tensor, wanted[key])
        if key in parameters and not torch.isfinite(tensor).all():
            raise LoadError(f"{key} holds numbers that are not finite")


def _check_tensor(key: str, tensor: torch.Tensor, wanted: torch.Tensor) -> None:
    if tensor.shape != wanted.shape:
        raise LoadError(
            f"shapes do not fit: {key} has {list(tensor.shape)}, the network's has {list(wanted.shape)}"
        )
    if tensor.dtype != wanted.dtype:
        raise LoadError(f"{key} is {tensor.dtype}, the network's is {wanted.dtype}")
    if tensor.layout != torch.strided or tensor.device.type != "cpu":
        raise LoadError(f"{key} is a {tensor.layout} tensor on {tensor.device}, not one of plain numbers")


def _short(key: object) -> str:
    return repr(key)[:80]
