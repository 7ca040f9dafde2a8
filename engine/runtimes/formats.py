"""Which runtime executes a file: one kind so far."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from common.errors import LoadError
from common.tensor import TensorSpec
from engine.runtimes import torch_state
from engine.runtimes.runtime import Runtime
from engine.runtimes.torch_file import Source

DEFAULT_ARCHITECTURE = "sample"


@dataclass(frozen=True)
class LoadOptions:
    """How to load a model where its file does not say it."""

    architecture: str | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    inputs: tuple[TensorSpec, ...] | None = None
    allow_pickle: bool = False
    allow_code: tuple[str, ...] = ()
    trusted: tuple[str, ...] = ()


def load_runtime(source: Source, kind: str | None, options: LoadOptions, device: torch.device) -> Runtime:
    """A warm runtime of a model of that kind, None to find it from the file; `LoadError` says why not."""
    if kind not in (None, "torch"):
        raise LoadError(f"there is no runtime for models of type {kind!r}: use torch")
    return torch_state.load(source, options.architecture or DEFAULT_ARCHITECTURE, device)
