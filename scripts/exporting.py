"""What the scripts that export other libraries' models share: where to write, which weights, which settings.

Each writes NAME.ts and NAME.pt2, and NAME.toml with which `gw.py deploy` serves either.
"""

from __future__ import annotations

import importlib
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

import torch
from saving import write

EXIT_OK, EXIT_MISSING = 0, 1

# What every picture's channels were normalised by where ImageNet's pictures were learnt from.
NORMALISED = "mean = [0.485, 0.456, 0.406]\nstd = [0.229, 0.224, 0.225]\n"


def options(parser: ArgumentParser, argv: list[str] | None) -> Namespace:
    """What was given; `out` is a folder, which is made."""
    parser.add_argument(
        "--out", type=Path, default=Path("exported"), help="where to write (default: exported/)"
    )
    parser.add_argument(
        "--random", action="store_true", help="random weights, where nothing can be downloaded"
    )
    given = parser.parse_args(argv)
    given.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    return given


def imported(module: str) -> Any:
    """A module of a library that may not be there; ends the process with a sentence where it is not."""
    library = module.partition(".")[0]
    try:
        return importlib.import_module(module)
    except Exception as error:  # a torchvision that was built for another torch raises a RuntimeError
        print(
            f"{library} cannot be imported here ({error}): install one that was built for torch"
            f" {torch.__version__}",
            file=sys.stderr,
        )
        sys.exit(EXIT_MISSING)


def torchvision_model(name: str, *, random: bool, **options: Any) -> tuple[Any, list[str]]:
    """A network of torchvision's, in evaluation mode, and what its classes are called."""
    models = imported("torchvision.models")
    weights = models.get_model_weights(name).DEFAULT
    made = models.get_model(name, weights=None if random else weights, **options)
    return made.eval(), list(weights.meta["categories"])


def write_settings(path: Path, labels: list[str], *, model: str, tables: str) -> None:
    """Write `path`.toml for `gw.py deploy`, and the labels that it names, if there are any."""
    named = ""
    if labels:
        write(path.with_suffix(".labels.txt"), "".join(f"{each}\n" for each in labels).encode())
        named = f'labels_file = "{path.name}.labels.txt"\n'
    write(path.with_suffix(".toml"), f"[model]\n{model}{named}\n{tables}".encode())
