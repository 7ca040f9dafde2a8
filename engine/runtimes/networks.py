"""The torch architectures that a state_dict alone can be loaded into, by name; nothing runs them here.

A state_dict holds tensors and no code, so the code that gives them a meaning has to be on the worker.
Parameter names are a contract with everybody who trained weights elsewhere: renaming one breaks their files.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn


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


architectures: dict[str, Callable[[], nn.Module]] = {
    "sample": SampleNetwork,
}
