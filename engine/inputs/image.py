"""Images, JPEG, PNG, WebP or GIF, as arrays: upright, of the model's size, normalised. Of animations the
first picture counts; what is transparent is dropped."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
from PIL import Image

from common.errors import InvalidRequest, LoadError, TooLarge, UnsupportedMedia
from common.media import ImageOptions
from common.models import ModelSettings
from engine.inputs.decoder import Decoded, Files
from engine.inputs.framing import Plan, Size, plan
from engine.rows import NUMPY_TYPES, Array
from engine.runtimes.runtime import Specs, first_line

_FORMATS = ("JPEG", "PNG", "WEBP", "GIF")
_MAGIC = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a")
_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
_ORIENTATION = 0x0112  # EXIF's tag, and what makes an image of each of its values upright
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_EXAMPLE = 64  # pixels of each side where a model takes any number


class ImageDecoder:
    """For a model of one input of three dimensions; `LoadError` where it `takes` another, or the options make
    no sense for it."""

    def __init__(self, options: ImageOptions, takes: Specs | None) -> None:
        self._options = options
        self._mode = "L" if options.channels == "L" else "RGB"
        channels = 1 if options.channels == "L" else 3
        self._size: Size | None = None if options.size is None else (options.size[1], options.size[0])
        datatype: str = options.datatype
        if takes is not None:
            self._fit(takes, channels)
            datatype = datatype or takes[0].datatype
        self._type = np.dtype(NUMPY_TYPES.get(datatype or "FP32", np.float32))
        self._is_raw = self._type == np.uint8
        if self._type.kind != "f" and not self._is_raw:
            raise LoadError(f"images become FP32, FP16, FP64 or UINT8, and the model takes {datatype}")
        self._factor, self._offset = _linear(options, channels)

    def decode(self, data: bytes) -> Decoded:
        """One row, as `Decoder` says; `TooLarge` for more pixels than are allowed, before any is decoded, and
        `UnsupportedMedia` for another format."""
        image = _open(data, self._options.max_pixels)
        try:
            image.load()
            turn = _UPRIGHT.get(_orientation(image))
            image = _as_mode(image, self._mode)
        except Exception as error:  # Pillow's decoders raise whatever they come across
            raise _damaged(error) from error
        if turn is not None:
            image = image.transpose(turn)
        planned = plan(self._options, self._size, image.size)
        if math.prod(planned.size) > self._options.max_pixels:
            raise TooLarge(
                f"an image of {image.size[0]} × {image.size[1]} pixels would become one of"
                f" {planned.size[0]} × {planned.size[1]}: at most {self._options.max_pixels} are allowed"
            )
        if min(planned.size) < 1:
            raise InvalidRequest(f"an image of {image.size[0]} × {image.size[1]} pixels is too narrow")
        return Decoded((self._array(self._framed(image, planned)),), frame=planned.frame)

    def example(self) -> Decoded:
        """A grey image of the model's size."""
        image = Image.new(self._mode, self._size or (_EXAMPLE, _EXAMPLE), _grey(self._mode, 128))
        frame = plan(self._options, self._size, image.size).frame
        return Decoded((self._array(image),), frame=frame)

    # --- inside

    def _fit(self, takes: Specs, channels: int) -> None:
        """Take the size from what the model takes, where the options do not say; else see that it fits."""
        if len(takes) != 1 or len(takes[0].row_shape) != 3:
            raise LoadError(f"a model of images takes one input of three dimensions, not {_described(takes)}")
        height, width, depth = takes[0].row_shape
        if self._options.layout == "CHW":
            depth, height, width = takes[0].row_shape
        if self._size is None and -1 not in (height, width):
            self._size = width, height
        given = (channels, *(self._size or (-1, -1))[::-1])
        if any(-1 != want != have for want, have in zip((depth, height, width), given, strict=True)):
            raise LoadError(
                f"the model takes {self._options.layout} of {list(takes[0].row_shape)}, and images are made"
                f" {given[0]} channels of {given[1]} × {given[2]} pixels: say channels, layout or size"
            )

    def _framed(self, image: Image.Image, planned: Plan) -> Image.Image:
        box = planned.box
        if planned.size != image.size or box != (0.0, 0.0, *image.size):
            image = image.resize(planned.size, _FILTERS[self._options.filter], box=box)
        if planned.canvas == planned.size:
            return image
        canvas = Image.new(self._mode, planned.canvas, _grey(self._mode, self._options.fill))
        canvas.paste(image, planned.at)
        return canvas

    def _array(self, image: Image.Image) -> Array:
        pixels: Any = np.asarray(image)
        if pixels.ndim == 2:
            pixels = pixels[:, :, np.newaxis]
        if self._options.channels == "BGR":
            pixels = pixels[:, :, ::-1]
        if not self._is_raw:
            pixels = (pixels * self._factor + self._offset).astype(self._type)
        if self._options.layout == "CHW":
            pixels = pixels.transpose(2, 0, 1)
        found: Array = np.ascontiguousarray(pixels)
        return found


def _linear(options: ImageOptions, channels: int) -> tuple[Array, Array]:
    """(value × scale − mean) / std as value × factor + offset, for each channel."""
    for name, values in (("mean", options.mean), ("std", options.std)):
        if len(values) not in (0, 1, channels):
            raise LoadError(f"image.{name} has {len(values)} numbers, and images have {channels} channels")
    if 0 in options.std:
        raise LoadError("image.std holds a 0, by which nothing can be divided")
    mean = np.array(options.mean or (0.0,), np.float32)
    std = np.array(options.std or (1.0,), np.float32)
    return np.float32(options.scale) / std, -mean / std


def _open(data: bytes, max_pixels: int) -> Image.Image:
    """An image of which only the head was read."""
    if not data:
        raise InvalidRequest("the image is empty")
    if not data.startswith(_MAGIC) and not (data[:4] == b"RIFF" and data[8:12] == b"WEBP"):
        raise UnsupportedMedia("the image is none of JPEG, PNG, WebP and GIF, which are what is read")
    try:
        image = Image.open(io.BytesIO(data), formats=_FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise TooLarge(f"the image has more pixels than any that is read: {first_line(error)}") from None
    except Exception as error:
        raise _damaged(error) from error
    width, height = image.size
    if width * height > max_pixels:
        raise TooLarge(f"the image has {width} × {height} pixels: at most {max_pixels} are allowed")
    return image


def _damaged(error: Exception) -> InvalidRequest:
    said = first_line(error).partition(" <_io")[0]
    return InvalidRequest(f"the image cannot be decoded, it is damaged or not all of it is there: {said}")


def _orientation(image: Image.Image) -> int:
    """What EXIF says, 1 where it says nothing that can be read."""
    try:
        found = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # damaged EXIF is no reason to refuse a picture that can be seen
        return 1
    return found if isinstance(found, int) else 1


def _as_mode(image: Image.Image, mode: str) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits, which Pillow would cut off at 255
        image = Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).clip(0, 255).astype(np.uint8))
    return image if image.mode == mode else image.convert(mode)


def _grey(mode: str, level: int) -> int | tuple[int, int, int]:
    return level if mode == "L" else (level, level, level)


def _described(specs: Specs) -> str:
    return ", ".join(f"{spec.datatype} {list(spec.row_shape)}" for spec in specs) or "none"


def make(settings: ModelSettings, files: Files, takes: Specs | None) -> ImageDecoder:
    """The decoder of a model's settings."""
    return ImageDecoder(settings.image, takes)
