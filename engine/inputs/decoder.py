"""What decodes the rows of a type, and what comes out of one row.

Each module beside this one is a type, and has `make(settings, files, takes)`: its decoder for a model that
takes these inputs, or (None) nobody knows what. It raises `LoadError` where the two do not fit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

from engine.inputs.framing import Frame
from engine.rows import Array

Files = Mapping[str, bytes]  # those beside the model's own, by name


class Decoded(NamedTuple):
    """One row: an array for each of the model's inputs, in its order.

    `mask` says which tokens of a text count, `frame` where in an image that was sent the model looks.
    """

    arrays: tuple[Array, ...] = ()
    mask: Array | None = None
    frame: Frame | None = None


class Decoder(Protocol):
    """Called by one thread at a time."""

    def decode(self, data: bytes) -> Decoded:
        """One row; a `CallerError` with a sentence where it cannot be decoded."""
        ...

    def example(self) -> Decoded | None:
        """A row to try the model with; None where nobody can know one."""
        ...
