"""Exports ResNet-18 or ResNet-50 of torchvision: float32 (rows, 3, 224, 224) to scores (rows, 1000).

python scripts/export_resnet.py --depth 50
python gw.py deploy exported/resnet50.ts --config exported/resnet50.toml
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser

import torch
from exporting import EXIT_OK, NORMALISED, options, torchvision_model, write_settings
from saving import save


def main(argv: list[str] | None = None) -> int:
    parser = ArgumentParser(description="Export a ResNet of torchvision.")
    parser.add_argument("--depth", type=int, choices=(18, 50), default=18, help="layers (default: 18)")
    given = options(parser, argv)
    path = given.out / f"resnet{given.depth}"
    network, labels = torchvision_model(path.name, random=given.random)
    save(network, {"image": torch.rand(2, 3, 224, 224)}, path)
    write_settings(
        path,
        labels,
        model='input_type = "image"\noutput_type = "classification"\n',
        tables=f"[model.image]\nsize = [224, 224]\nshorter_side = 256\n{NORMALISED}",
    )
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
