"""Exports DeepLab v3 of torchvision: float32 (rows, 3, 520, 520) to a dict of `out`, scores of 21 classes for
each pixel.

    python scripts/export_deeplab.py
    python gw.py deploy exported/deeplab.ts --config exported/deeplab.toml
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser

import torch
from exporting import EXIT_OK, NORMALISED, options, torchvision_model, write_settings
from saving import save
from torch import nn

SIDE = 520


class Out(nn.Module):
    """Without what only training has a use for."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"out": self.network(image)["out"]}


def main(argv: list[str] | None = None) -> int:
    given = options(ArgumentParser(description="Export DeepLab v3 of torchvision."), argv)
    path = given.out / "deeplab"
    network, labels = torchvision_model(
        "deeplabv3_mobilenet_v3_large", random=given.random, weights_backbone=None
    )
    save(Out(network), {"image": torch.rand(2, 3, SIDE, SIDE)}, path)
    write_settings(
        path,
        labels,
        model='input_type = "image"\noutput_type = "image"\n',
        tables=f'[model.image]\nsize = [{SIDE}, {SIDE}]\nresize = "pad"\n{NORMALISED}',
    )
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
