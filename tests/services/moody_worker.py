"""end to end: a worker in the mood that the file MOOD names. In none it is as any other; else it is "slow"
(half a second a batch), answers "garbage", or is "hungry": its model wants more memory than there is."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

import worker
from engine.planes.data import DataPlane
from engine.runtimes import torch_state
from engine.runtimes.runtime import Array, Runtime

MOOD = "MOOD"
SLOW = 0.5
HUNGER = 256 << 20  # bytes for a batch: more than its limit leaves


def mood() -> str:
    try:
        return Path(os.environ[MOOD]).read_text()
    except FileNotFoundError:
        return ""


class MoodyRuntime:
    """A runtime that is slow, or hungry, where the mood is."""

    def __init__(self, runtime: Runtime) -> None:
        self.inputs, self.outputs, self.device = runtime.inputs, runtime.outputs, runtime.device
        self._runtime = runtime

    def run(self, arrays: list[Array]) -> Any:
        now = mood()
        if now == "slow":
            time.sleep(SLOW)
        if now == "hungry":
            np.ones(HUNGER, np.uint8)
        return self._runtime.run(arrays)


load, handle = torch_state.load, DataPlane.handle


def load_moody(*arguments: Any) -> Any:
    return MoodyRuntime(load(*arguments))


def handle_moodily(self: DataPlane, frame: memoryview) -> bytes:
    answer = handle(self, frame)
    return os.urandom(len(answer)) if mood() == "garbage" else answer


if __name__ == "__main__":
    torch_state.load = load_moody
    DataPlane.handle = handle_moodily  # type: ignore[method-assign]
    sys.exit(worker.main())
