"""Runtime of a safetensors file in a named architecture: a state_dict in a format that can hold no code."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as read_bytes
from safetensors.torch import load_file as read_file

from common.errors import LoadError
from engine.runtimes.options import LoadOptions
from engine.runtimes.runtime import first_line
from engine.runtimes.source import Source, open_source, source_size
from engine.runtimes.torch_call import TorchRuntime
from engine.runtimes.torch_state import load_state

LARGEST_HEADER = 8 << 20  # some 50,000 tensors; the library's own limit is more than ten times that


def load(source: Source, options: LoadOptions, device: torch.device) -> TorchRuntime:
    """A warm runtime; a file is mapped rather than read. `LoadError` as a state_dict's."""
    size = source_size(source)
    with open_source(source) as file:
        header = int.from_bytes(file.read(8), "little")
    if header > LARGEST_HEADER:
        raise LoadError(f"the file's header has {header} bytes: at most {LARGEST_HEADER} are allowed")
    try:
        state = read_file(source) if isinstance(source, Path) else read_bytes(bytes(source))
    except (SafetensorError, OSError, KeyError, ValueError, RuntimeError) as error:
        raise LoadError(f"the file is not safetensors, or not all of it: {first_line(error)}") from error
    return load_state(state, size, options, device)
