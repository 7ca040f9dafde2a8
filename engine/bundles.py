"""A model's file, and those beside it, out of whatever a worker was sent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from common.bundle import is_bundle, read_bundle
from common.errors import LoadError
from engine.runtimes.source import Source, open_source


class Unpacked(NamedTuple):
    """`name` is what the model's file is called, which may tell its format."""

    source: Source
    name: str
    files: Mapping[str, bytes]


def unpack(source: Source, name: str) -> Unpacked:
    """A bundle's model and other files, or the model alone; `LoadError` for what is damaged."""
    with open_source(source) as file:
        if not is_bundle(file):
            return Unpacked(source, name, {})
        bundle = read_bundle(file)
        file.seek(bundle.offset)
        model = file.read(bundle.size)
    if len(model) != bundle.size:
        raise LoadError(f"the archive ends within {bundle.name}")
    return Unpacked(model, bundle.name, bundle.files)
