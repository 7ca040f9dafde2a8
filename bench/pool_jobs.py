"""What workers of either pool load and run; it imports nothing of ours, as the other pool runs it too."""

from __future__ import annotations

import time
from typing import Any


def load_something() -> str:
    """A model that weighs nothing."""
    return "model"


def load_torch() -> Any:
    """A small torch model, once it has run."""
    import torch

    model = torch.nn.Sequential(torch.nn.Linear(100, 100), torch.nn.ReLU(), torch.nn.Linear(100, 10)).eval()
    with torch.inference_mode():
        model(torch.zeros(1, 100))
    return model


def spin(model: Any, seconds: float) -> float:
    """Use so much CPU; how long that took."""
    began = time.perf_counter()
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass
    return time.perf_counter() - began


def echo(model: Any, value: Any) -> Any:
    """The argument, which is sent back as what it is: a new copy."""
    return value
