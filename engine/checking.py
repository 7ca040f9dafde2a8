"""Would this file serve? What `worker.py --check` says without any network."""

from __future__ import annotations

import base64
import binascii
from pathlib import Path

import torch

from common.errors import LoadError
from common.tensor import TensorSpec
from engine.bundles import unpack
from engine.runtimes.formats import FORMATS, detect, load_runtime
from engine.runtimes.options import LoadOptions
from engine.runtimes.source import Source, read_source


def check_file(path: Path, device: torch.device, options: LoadOptions | None = None) -> str:
    """A sentence that says what the file is; `LoadError` when it would not serve.

    Takes a file of any format that a runtime is here for, and the base64 text of one as `PUT /set_weights`
    takes it, wrapped or not.
    """
    source, kind = _source(path)
    runtime = load_runtime(source, kind, options or LoadOptions(), device)
    takes, gives = _described(runtime.inputs), _described(runtime.outputs)
    return f"{path} serves: {FORMATS[kind].title} on {runtime.device}, rows of {takes} to {gives}."


def _source(path: Path) -> tuple[Source, str]:
    source, name, _ = unpack(path, path.name)
    try:
        return source, detect(source, name)
    except LoadError as error:
        try:
            data = base64.b64decode(read_source(path).translate(None, b" \t\r\n"), validate=True)
        except binascii.Error:
            raise error from None
    if not data:
        raise LoadError("the file is empty")
    try:
        return data, detect(data)
    except LoadError as error:
        raise LoadError(f"it is base64 text, and of what it stands for, {error}") from None


def _described(specs: tuple[TensorSpec, ...] | None) -> str:
    if specs is None:
        return "a shape that it does not say"
    return ", ".join(f"{spec.datatype} {list(spec.row_shape)}" for spec in specs)
