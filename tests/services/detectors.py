"""A network that calls `torchvision::nms`, saved as both kinds of program by a process that has such an
operator: `python detectors.py FOLDER` writes nms.ts and nms.pt2, which answer four numbers with their sum.

The operator is registered as torchvision's own is, so a worker without torchvision lacks it.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import torch
from torch import nn

SCHEMA = "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


def register_nms() -> torch.library.Library:
    """The operator, for as long as what is returned lives; it keeps every box."""
    library = torch.library.Library("torchvision", "DEF")
    library.define(SCHEMA)
    library.impl("nms", lambda boxes, scores, threshold: torch.arange(len(boxes)), "CPU")
    torch.library.register_fake("torchvision::nms", _shape_of_nms, lib=library)
    return library


def _shape_of_nms(boxes: torch.Tensor, scores: torch.Tensor, threshold: float) -> torch.Tensor:
    count = torch.library.get_ctx().new_dynamic_size()
    return boxes.new_empty([count], dtype=torch.int64)


class Sums(nn.Module):
    """Rows of four numbers to their sums; what the operator says is asked, and adds nothing."""

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        kept = torch.ops.torchvision.nms(rows, rows[:, 0], 0.5)
        return rows.sum(1) + 0.0 * kept.numel()


def main(folder: Path) -> None:
    registered = register_nms()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(Sums()).save(str(folder / "nms.ts"))
    shapes = ({0: torch.export.Dim("rows", min=1, max=4096)},)
    program = torch.export.export(Sums(), (torch.zeros(2, 4),), dynamic_shapes=shapes, strict=False)
    torch.export.save(program, folder / "nms.pt2")
    del registered


if __name__ == "__main__":
    main(Path(sys.argv[1]))
