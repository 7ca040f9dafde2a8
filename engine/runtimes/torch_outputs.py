"""What a torch network returned, as named tensors whose first dimension is the rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from common.errors import ModelError

Tensors = list[tuple[str, torch.Tensor]]

# What NumPy has no type for, or no protocol a datatype, widened without loss.
_WIDENED = {torch.float16, torch.bfloat16}

# Detections of one row: torchvision's detectors give 100 to 300. Every row has room for so many, as outputs
# of rows of one shape are of one shape; where there are more, those of the highest scores stay.
MAX_DETECTIONS = 300
SCORES = "scores"
NO_SCORE = -1.0  # of the room that is left: below every threshold


def name_outputs(answer: Any) -> Tensors:
    """Names and tensors of what a network returned: `result`, `result_0` and so on of several, a dict's keys;
    and of detections, a list of one dict for each row, the keys of those."""
    if isinstance(answer, torch.Tensor):
        return [("result", _widened(answer))]
    named: Sequence[tuple[Any, Any]] = ()
    if isinstance(answer, dict):
        named = list(answer.items())
    elif isinstance(answer, list) and answer and all(_is_detections(each) for each in answer):
        named = _stack_detections(answer)
    elif isinstance(answer, (tuple, list)):
        named = [(f"result_{at}", tensor) for at, tensor in enumerate(answer)]
    if not named or not all(isinstance(n, str) and isinstance(t, torch.Tensor) for n, t in named):
        raise ModelError(f"the model answered with a {type(answer).__name__}, not with tensors")
    return [(name, _widened(tensor)) for name, tensor in named]


def _is_detections(each: Any) -> bool:
    """Whether this is what a detector says of one image: tensors whose first dimension is what it found."""
    return (
        isinstance(each, dict)
        and SCORES in each
        and all(isinstance(name, str) and isinstance(tensor, torch.Tensor) for name, tensor in each.items())
        and len({tensor.shape[:1] for tensor in each.values()}) == 1
        and each[SCORES].ndim == 1
    )


def _stack_detections(rows: Sequence[dict[str, torch.Tensor]]) -> Tensors:
    """(rows, MAX_DETECTIONS, …) of each key; masks and the like, which would be hundreds of images for each
    row, are left out."""
    keys = [name for name, tensor in rows[0].items() if tensor.ndim <= 2]
    best = [row[SCORES].argsort(descending=True, stable=True)[:MAX_DETECTIONS] for row in rows]
    return [
        (name, torch.stack([_filled(row[name][of], name) for row, of in zip(rows, best, strict=True)]))
        for name in keys
    ]


def _filled(found: torch.Tensor, name: str) -> torch.Tensor:
    room = found.new_full((MAX_DETECTIONS, *found.shape[1:]), NO_SCORE if name == SCORES else 0)
    room[: len(found)] = found
    return room


def _widened(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.float() if tensor.dtype in _WIDENED else tensor
