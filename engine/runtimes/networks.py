"""The torch architectures that a state_dict alone can be loaded into, by name; nothing runs them here.

A state_dict holds tensors and no code, so the code that gives them a meaning has to be on the worker.
Parameter names are a contract with everybody who trained weights elsewhere: renaming one breaks their files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from common.errors import LoadError
from common.tensor import TensorSpec
from engine.runtimes.options import LoadOptions, import_allowed
from engine.runtimes.runtime import Specs, first_line


class SampleNetwork(nn.Module):
    """Learns a function of two numbers: float32 rows of shape (n, 2) in, float32 of shape (n, 1) out.

    Its six parameters are fc1, fc2 and output_layer, each with a weight and a bias.
    """

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(2, 20)
        self.fc2 = nn.Linear(20, 20)
        self.output_layer = nn.Linear(20, 1)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        hidden = torch.relu(self.fc1(rows))
        hidden = torch.relu(self.fc2(hidden))
        answers: torch.Tensor = self.output_layer(hidden)
        return answers


class LinearNetwork(nn.Module):
    """y = X @ coefs: rows of shape (n, features) in, (n,) out where coefs is a vector, or (n, answers).

    Its one parameter is coefs, float32 or float64, of shape (features,) or (features, answers); rows and
    answers are of the same type.
    """

    def __init__(self, coefs: torch.Tensor) -> None:
        super().__init__()
        self.coefs = nn.Parameter(coefs, requires_grad=False)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return rows @ self.coefs


architectures: dict[str, Callable[[], nn.Module]] = {
    "sample": SampleNetwork,
}

SIGNATURES: dict[str, Specs] = {"sample": (TensorSpec("vector", "FP32", (2,)),)}

LINEAR = "linear"
_FLOATS = {torch.float32: "FP32", torch.float64: "FP64"}


def choose_architecture(options: LoadOptions, state: Mapping[str, Any]) -> str:
    """The one asked for; where none was, `linear` if the state is `coefs` alone, else `sample`."""
    return options.architecture or (LINEAR if state.keys() == {"coefs"} else "sample")


def build_network(
    name: str, options: LoadOptions, state: Mapping[str, Any]
) -> tuple[nn.Module, Specs | None]:
    """A network of the architecture that has room for the state, and what its rows are, if that is known.

    `LoadError` for an architecture that is not known or not allowed, or does not come to be.
    """
    if ":" in name:
        return _build_named_class(name, options), options.inputs
    options.refuse("arguments", because=f"the architecture {name!r} takes none")
    if name == LINEAR:
        return _build_linear(state)
    if name not in architectures:
        known = ", ".join([*architectures, LINEAR])
        raise LoadError(f"the architecture {name[:80]!r} is not known: give one of {known}, or module:Class")
    return architectures[name](), SIGNATURES[name]


def _build_linear(state: Mapping[str, Any]) -> tuple[nn.Module, Specs]:
    coefs = state.get("coefs")
    if not isinstance(coefs, torch.Tensor):
        raise LoadError("a linear model's state is one tensor, coefs, and this one has none")
    if coefs.dtype not in _FLOATS or coefs.ndim not in (1, 2) or 0 in coefs.shape:
        raise LoadError(
            f"coefs is {coefs.dtype} {list(coefs.shape)}: it has to be float32 or float64, "
            "of shape [features] or [features, answers]"
        )
    return LinearNetwork(coefs), (TensorSpec("x", _FLOATS[coefs.dtype], (coefs.shape[0],)),)


def _build_named_class(name: str, options: LoadOptions) -> nn.Module:
    named = import_allowed(name, options.allow_code)
    if not (isinstance(named, type) and issubclass(named, nn.Module)):
        raise LoadError(f"{name} is no class of torch modules")
    try:
        return named(**options.arguments)
    except Exception as error:  # whatever the class's own code raises
        raise LoadError(f"{name} cannot be made with these arguments: {first_line(error)}") from error
