"""Which part of an image a model sees, and at which size. Pure arithmetic."""

from __future__ import annotations

from typing import NamedTuple

from common.media import ImageOptions

Size = tuple[int, int]  # width and height


class Frame(NamedTuple):
    """Where the model looks: its pixel (x, y) lies at (left + x × step_x, top + y × step_y) of the image that
    was sent, which has `width` × `height` pixels, upright."""

    width: int
    height: int
    left: float = 0.0
    top: float = 0.0
    step_x: float = 1.0
    step_y: float = 1.0


class Plan(NamedTuple):
    """Scale the `box` (left, top, right, bottom) of an image to `size`, and put it at `at` of a canvas."""

    box: tuple[float, float, float, float]
    size: Size
    canvas: Size
    at: Size
    frame: Frame


def plan(options: ImageOptions, size: Size | None, image: Size) -> Plan:
    """What to do with an image of so many pixels for a model that takes `size`, or (None) any."""
    if size is None:
        return _stretched(image, _scaled(image, options.shorter_side))
    if options.resize == "stretch":
        return _stretched(image, size)
    return _padded(image, size) if options.resize == "pad" else _cropped(image, size, options.shorter_side)


def _scaled(image: Size, shorter: int | None) -> Size:
    """The size that an image has with a shorter side of that length; the longer one is rounded down."""
    width, height = image
    if shorter is None:
        return image
    return (shorter, shorter * height // width) if width <= height else (shorter * width // height, shorter)


def _stretched(image: Size, size: Size) -> Plan:
    width, height = image
    frame = Frame(width, height, 0.0, 0.0, width / size[0], height / size[1])
    return Plan((0.0, 0.0, float(width), float(height)), size, size, (0, 0), frame)


def _cropped(image: Size, size: Size, shorter: int | None) -> Plan:
    """The middle of an image that was scaled until it covers the size, without ever making all of that."""
    width, height = image
    if shorter is None:
        factor = max(size[0] / width, size[1] / height)
        scaled = max(size[0], round(width * factor)), max(size[1], round(height * factor))
    else:
        scaled = _scaled(image, shorter)
    if scaled[0] < size[0] or scaled[1] < size[1]:  # the rest is filled
        return _padded(image, size, scaled)
    step_x, step_y = width / scaled[0], height / scaled[1]
    left = round((scaled[0] - size[0]) / 2) * step_x
    top = round((scaled[1] - size[1]) / 2) * step_y
    right, bottom = min(left + size[0] * step_x, width), min(top + size[1] * step_y, height)
    return Plan((left, top, right, bottom), size, size, (0, 0), Frame(*image, left, top, step_x, step_y))


def _padded(image: Size, size: Size, scaled: Size | None = None) -> Plan:
    """All of an image in the middle of a canvas; what does not fit in is cut."""
    width, height = image
    if scaled is None:
        factor = min(size[0] / width, size[1] / height)
        scaled = max(1, round(width * factor)), max(1, round(height * factor))
    step_x, step_y = width / scaled[0], height / scaled[1]
    inner = min(scaled[0], size[0]), min(scaled[1], size[1])
    at = (size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2
    cut_left, cut_top = (scaled[0] - inner[0]) // 2 * step_x, (scaled[1] - inner[1]) // 2 * step_y
    box = (
        cut_left,
        cut_top,
        min(cut_left + inner[0] * step_x, width),
        min(cut_top + inner[1] * step_y, height),
    )
    frame = Frame(width, height, cut_left - at[0] * step_x, cut_top - at[1] * step_y, step_x, step_y)
    return Plan(box, inner, size, at, frame)
