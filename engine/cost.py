"""What a loaded model costs in memory, as far as that can be told cheaply.

Of a torch model its parameters and buffers are counted. Other libraries do not say what they keep, so there
it is what the process grew by as the model was loaded and run for the first time. It is never less than the
file: constants of a program are in no parameter, and a process that had memory to spare does not grow.
Prediction caches are not in it (`--cache_size` bounds them), nor is what a batch needs while it runs.
"""

from __future__ import annotations

import itertools

import psutil
import torch

from engine.runtimes.runtime import Runtime
from engine.runtimes.torch_call import TorchRuntime


class Meter:
    """Begins to measure as it is made. Only one load at a time can be measured."""

    def __init__(self) -> None:
        self._before = _resident()

    def cost(self, runtime: Runtime, file_size: int) -> int:
        """Bytes of a model that was loaded since."""
        if isinstance(runtime, TorchRuntime):
            return max(file_size, tensor_bytes(runtime.function))
        return max(file_size, _resident() - self._before)


def tensor_bytes(function: object) -> int:
    """Bytes of a module's parameters and buffers, each counted once; 0 for what is no module."""
    if not isinstance(function, torch.nn.Module):
        return 0
    storages = (each.untyped_storage() for each in itertools.chain(function.parameters(), function.buffers()))
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


def _resident() -> int:
    rss: int = psutil.Process().memory_info().rss
    return rss
