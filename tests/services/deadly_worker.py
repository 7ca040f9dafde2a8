"""end to end: a worker that one certain row kills as a fault in native code would: without a word."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

import worker
from engine.runtimes import torch_state
from engine.runtimes.runtime import Array, Runtime

DEADLY = 666.0


class DeadlyRuntime:
    """A runtime under which the process dies as soon as any number of a batch is `DEADLY`."""

    def __init__(self, runtime: Runtime) -> None:
        self.inputs, self.outputs = runtime.inputs, runtime.outputs
        self._runtime = runtime

    def run(self, arrays: list[Array]) -> Any:
        if any((array == DEADLY).any() for array in arrays):
            os.kill(os.getpid(), signal.SIGKILL)
        return self._runtime.run(arrays)


load = torch_state.load


def load_deadly(*arguments: Any) -> Any:
    return DeadlyRuntime(load(*arguments))


if __name__ == "__main__":
    torch_state.load = load_deadly
    sys.exit(worker.main())
