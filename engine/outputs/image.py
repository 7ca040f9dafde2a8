"""Answers that are images: maps of what is where, in colours, or a model's own pixels, as PNG."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from common.errors import ModelError
from common.media import MAX_COLOURS, OutputOptions
from common.models import ModelSettings
from engine.inputs.decoder import Decoded, Files
from engine.inputs.framing import Frame
from engine.outputs.encoder import Named, numbers, objects, pick
from engine.rows import Array


class ImageEncoder:
    """`image`, BYTES. In the file of a map a pixel is its class's number, and the palette has the colours."""

    def __init__(self, options: OutputOptions) -> None:
        self._options = options
        colours = [*options.palette, *make_palette()[len(options.palette) :]]
        self._palette = bytes(value for colour in colours for value in colour)

    def encode(self, outputs: Named, rows: Sequence[Decoded]) -> list[tuple[str, Array]]:
        """As `Encoder` says."""
        found = pick(outputs, self._options.name)
        make = self._map if self._options.pixels == "classes" else self._picture
        return [("image", objects([make(each, row.frame) for each, row in zip(found, rows, strict=True)]))]

    def _map(self, scores: Array, frame: Frame | None) -> bytes:
        """A map of scores, of shape (classes, height, width), or of classes, of shape (height, width)."""
        scores = _without_depth(scores) if scores.ndim == 3 and scores.shape[0] == 1 else scores
        classes = scores.argmax(axis=0) if scores.ndim == 3 else scores
        if classes.ndim != 2 or classes.dtype.kind not in "biuf":
            raise ModelError(
                "a map has the shape [classes, height, width] or [height, width], and the model gives"
                f" {scores.dtype} {list(scores.shape)}"
            )
        if not 0 <= classes.min() <= classes.max() < MAX_COLOURS:
            raise ModelError(f"a map has classes from 0 to {MAX_COLOURS - 1}, and the model gives others")
        image = Image.fromarray(classes.astype(np.uint8))
        if frame is not None and self._options.fit:
            image = _fitted(image, frame)
        image.putpalette(self._palette)
        return _as_png(image)

    def _picture(self, pixels: Array, frame: Frame | None) -> bytes:
        """Pixels of shape (1 or 3, height, width), (height, width, 3) or (height, width)."""
        if pixels.ndim == 3 and pixels.shape[0] in (1, 3):
            pixels = pixels.transpose(1, 2, 0)
        pixels = _without_depth(pixels) if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels
        if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] != 3):
            raise ModelError(f"a picture has one channel or three, and the model gives {list(pixels.shape)}")
        if pixels.dtype != np.uint8:
            scaled = np.nan_to_num(numbers(pixels, "pixels") * np.float32(self._options.scale))
            pixels = np.rint(scaled).clip(0, 255).astype(np.uint8)
        return _as_png(Image.fromarray(np.ascontiguousarray(pixels)))


def make_palette() -> list[tuple[int, int, int]]:
    """The colours of the Pascal VOC challenge: the bits of a class's number, spread over three channels."""
    colours = []
    for number in range(MAX_COLOURS):
        channels = [0, 0, 0]
        for bit in range(8):
            channels[bit % 3] |= (number >> bit & 1) << (7 - bit // 3)
        colours.append((channels[0], channels[1], channels[2]))
    return colours


def _without_depth(array: Array) -> Array:
    return array.squeeze(0 if array.shape[0] == 1 else -1)


def _fitted(image: Image.Image, frame: Frame) -> Image.Image:
    """A map as it lies in the image that was sent; what the model did not see is of class 0."""
    back = (1 / frame.step_x, 0, -frame.left / frame.step_x, 0, 1 / frame.step_y, -frame.top / frame.step_y)
    return image.transform(
        (frame.width, frame.height), Image.Transform.AFFINE, back, Image.Resampling.NEAREST
    )


def _as_png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=3)
    return file.getvalue()


def make(settings: ModelSettings, files: Files) -> ImageEncoder:
    """The encoder of a model's settings."""
    return ImageEncoder(settings.output)
