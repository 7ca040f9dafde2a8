"""Exports Faster R-CNN of torchvision: float32 (rows, 3, 640, 640) from 0 to 1 to a dict for each row, of
boxes (found, 4), labels and scores (found,).

    python scripts/export_faster_rcnn.py
    python gw.py deploy exported/faster_rcnn.ts --config exported/faster_rcnn.toml

It calls `torchvision::nms` and `torchvision::roi_align`: workers need torchvision too. The torch.export
program takes one image at a time, as the numbers of what it finds differ.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from pathlib import Path

import torch
from exporting import EXIT_OK, options, torchvision_model, write_settings
from saving import exported, scripted, write
from torch import nn

SIDE = 640


class Detector(nn.Module):
    """One tensor of images in, and of what comes out only what was found."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> list[dict[str, torch.Tensor]]:
        if torch.jit.is_scripting():  # there it also gives the losses of training
            _, found = self.network(list(images.unbind(0)))
            return found
        return self.network(list(images.unbind(0)))


def export_program(detector: nn.Module, path: Path) -> None:
    """Write the .pt2, or say why there is none: not every torchvision's detectors can be exported."""
    try:
        write(path, exported(detector, {"images": torch.rand(1, 3, SIDE, SIDE)}, rows=None))
    except Exception as error:  # torch.export raises a dozen kinds, none of them its own
        reason = str(error).strip().splitlines()[0]
        print(f"no {path.name}: this torchvision's detectors cannot be exported: {reason}", file=sys.stderr)


def main(argv: list[str] | None = None) -> int:
    given = options(ArgumentParser(description="Export Faster R-CNN of torchvision."), argv)
    path = given.out / "faster_rcnn"
    network, labels = torchvision_model(
        "fasterrcnn_mobilenet_v3_large_320_fpn",
        random=given.random,
        weights_backbone=None,
        min_size=SIDE,
        max_size=SIDE,
    )
    detector = Detector(network).eval().requires_grad_(False)
    write(path.with_suffix(".ts"), scripted(detector))
    export_program(detector, path.with_suffix(".pt2"))
    write_settings(
        path,
        labels,
        model='input_type = "image"\noutput_type = "detections"\n',
        tables=f'[model.image]\nsize = [{SIDE}, {SIDE}]\nresize = "pad"\n',
    )
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
