"""end to end: a worker whose model runs no batch while the file named by HOLD is there, so that a test can
keep requests in flight and in the queue for as long as it likes."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import worker
from engine.runtimes import torch_state
from engine.runtimes.runtime import Array, Runtime

HOLD = "HOLD"


class HeldRuntime:
    """A runtime that waits for a file to go before it runs anything."""

    def __init__(self, runtime: Runtime, file: Path) -> None:
        self.inputs = runtime.inputs
        self.outputs = runtime.outputs
        self.device = runtime.device
        self._runtime = runtime
        self._file = file

    def run(self, arrays: list[Array]) -> Any:
        while self._file.exists():
            time.sleep(0.005)
        return self._runtime.run(arrays)


load = torch_state.load


def load_held(*arguments: Any) -> Any:
    return HeldRuntime(load(*arguments), Path(os.environ[HOLD]))


if __name__ == "__main__":
    torch_state.load = load_held
    sys.exit(worker.main())
