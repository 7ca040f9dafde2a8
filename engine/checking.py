"""Would this file serve? What `worker.py --check` says without any network."""

from __future__ import annotations

import base64
import binascii
from pathlib import Path

import torch

from common.errors import LoadError
from engine.registry import DEFAULT_ARCHITECTURE
from engine.runtimes import torch_state

_TORCH_STARTS = (b"PK", b"\x80")  # a zip archive, or the bare pickle that torch wrote before 1.6


def check_file(path: Path, device: torch.device) -> str:
    """A sentence that says what the file is; `LoadError` when it would not serve.

    Takes what `torch.save` wrote, and the base64 text of it that `PUT /set_weights` takes, wrapped or not.
    """
    runtime = torch_state.load(_source(path), DEFAULT_ARCHITECTURE, device)
    takes = ", ".join(f"{spec.datatype} {list(spec.row_shape)}" for spec in runtime.inputs)
    return f"{path} serves: architecture {DEFAULT_ARCHITECTURE!r} on {device}, rows of {takes}."


def _source(path: Path) -> bytes | Path:
    try:
        with path.open("rb") as file:
            start = file.read(2)
            if not start or start.startswith(_TORCH_STARTS):
                return path
            text = start + file.read()
    except OSError as error:
        raise LoadError(f"the weights cannot be read: {error.strerror}") from None
    try:
        return base64.b64decode(text.translate(None, b" \t\r\n"), validate=True)
    except binascii.Error:
        raise LoadError("it is neither a file that torch.save wrote nor the base64 text of one") from None
