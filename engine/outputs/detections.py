"""What a model found where, as JSON: a list of objects of `box`, `index`, `score` and, where there is one,
`label`, the most certain first. A box is [left, top, right, bottom] in pixels of the image that was sent."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from common.errors import ModelError
from common.media import OutputOptions
from common.models import ModelSettings
from engine.inputs.decoder import Decoded, Files
from engine.inputs.framing import Frame
from engine.outputs.encoder import Floats, Named, numbers, objects, pick
from engine.rows import Array


class DetectionsEncoder:
    """`detections`, BYTES. `labels[i]` is what class i is called. A model's tensors are of shape
    (rows, found, 4), (rows, found) and (rows, found); what fills them up has a low score."""

    def __init__(self, options: OutputOptions, labels: Sequence[str]) -> None:
        self._options = options
        self._labels = labels

    def encode(self, outputs: Named, rows: Sequence[Decoded]) -> list[tuple[str, Array]]:
        """As `Encoder` says."""
        options = self._options
        boxes = numbers(pick(outputs, options.boxes), "boxes")
        scores = numbers(pick(outputs, options.scores), "scores")
        classes = pick(outputs, options.labels)
        if (
            boxes.shape != (len(rows), boxes.shape[1], 4)
            or not scores.shape == classes.shape == boxes.shape[:2]
        ):
            raise ModelError(
                "detections are boxes of shape [rows, found, 4] with a score and a label each, and the model"
                f" gives {list(boxes.shape)}, {list(scores.shape)} and {list(classes.shape)}"
            )
        if classes.dtype.kind not in "biuf":
            raise ModelError(f"labels are numbers, and the model gives {classes.dtype}")
        return [
            (
                "detections",
                objects(
                    [
                        msgspec.json.encode(self._found(boxes[at], scores[at], classes[at], row))
                        for at, row in enumerate(rows)
                    ]
                ),
            )
        ]

    def _found(self, boxes: Floats, scores: Floats, classes: Array, row: Decoded) -> list[dict[str, object]]:
        options = self._options
        best = np.argsort(-scores, kind="stable")[: options.max_detections]
        best = best[scores[best] >= options.threshold]
        corners = _as_corners(boxes[best], options.box_format)
        if options.fractions:
            corners = corners * _sides(row)
        if row.frame is not None:
            corners = _in_the_image(corners, row.frame)
        found: list[dict[str, object]] = []
        columns = corners.tolist(), scores[best].tolist(), classes[best].tolist()
        for box, score, which in zip(*columns, strict=True):
            index = int(which)
            label = {"label": self._labels[index]} if 0 <= index < len(self._labels) else {}
            sides = [round(side, 2) for side in box]
            found.append({"box": sides, **label, "index": index, "score": round(score, 6)})
        return found


def _as_corners(boxes: Floats, box_format: str) -> Floats:
    """Left, top, right and bottom."""
    if box_format == "xyxy":
        return boxes
    start, size = boxes[:, :2], boxes[:, 2:]
    if box_format == "cxcywh":
        start = start - size * np.float32(0.5)
    return np.concatenate([start, start + size], axis=1)


def _sides(row: Decoded) -> Floats:
    """Width and height of what the model was given, twice."""
    shape = row.arrays[0].shape if row.arrays else ()
    if len(shape) != 3:
        raise ModelError("boxes that are fractions need an image that they are fractions of")
    height, width = shape[1:] if shape[0] in (1, 3) else shape[:2]
    return np.array([width, height] * 2, np.float32)


def _in_the_image(corners: Floats, frame: Frame) -> Floats:
    step = np.array([frame.step_x, frame.step_y] * 2, np.float32)
    start = np.array([frame.left, frame.top] * 2, np.float32)
    sides = np.array([frame.width, frame.height] * 2, np.float32)
    inside: Floats = np.clip(corners * step + start, 0, sides)
    return inside


def make(settings: ModelSettings, files: Files) -> DetectionsEncoder:
    """The encoder of a model's settings."""
    return DetectionsEncoder(settings.output, settings.labels)
