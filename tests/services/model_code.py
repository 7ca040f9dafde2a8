"""end to end: code of models that a worker imports where its operator allows it (`--allow_code`)."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from torch import nn


class Scorer(nn.Module):
    """One layer and its softmax: float32 (n, 4) to (n, classes). Raises for rows beyond its limit."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.layer = nn.Linear(4, classes)
        self.limit = nn.Parameter(torch.ones(1))

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        if (rows.abs() > self.limit).any():
            raise ValueError("a row is beyond the limit")
        return self.layer(rows).softmax(1)


class SmallCnn(nn.Module):
    """Two layers over images of 8 by 8: float32 (n, 1, 8, 8) to (n, 3)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.head = nn.Linear(144, 3)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.conv(image)).flatten(1))


class Fails(nn.Module):
    """Loads, takes rows of zeros, and raises for all others: there is nothing at index 1 of its table."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.zeros(1), requires_grad=False)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.table[rows.flatten(1).abs().ceil().clamp(0, 1).amax(1).long()]


def sums(x: Any, *, factor: float) -> dict[str, Any]:
    """Two outputs."""
    return {"scaled": x * np.float32(factor), "sum": x.sum(axis=1)}


def products(x: Any, *, factor: float) -> dict[str, Any]:
    """The same outputs, and other numbers in them."""
    return {"scaled": x * np.float32(-factor), "sum": x.prod(axis=1)}


def fails(x: Any, *, factor: float) -> dict[str, Any]:
    """Fails on everything but zeros."""
    if x.any():
        raise ValueError("this function fails on everything but zeros")
    return sums(x, factor=factor)


def shouts(text: Any) -> Any:
    """Texts, louder."""
    return np.array([each.decode().upper() for each in text], np.object_)


def slow_sums(x: Any, *, factor: float) -> dict[str, Any]:
    """The same answers, a tenth of a second later."""
    time.sleep(0.1)
    return sums(x, factor=factor)
