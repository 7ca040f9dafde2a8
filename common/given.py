"""A setting as somebody gave it: text, and where that stands."""

from __future__ import annotations

from typing import NamedTuple

LAYERS = (FROM_FLAG, FROM_ENVIRONMENT, FROM_FILE) = "flag", "environment", "file"  # the first wins


class Given(NamedTuple):
    """`where` is what a sentence about it begins with; `layer` is flag, environment or file, `place` the line
    of a file."""

    text: str
    where: str
    layer: str
    place: str = ""
