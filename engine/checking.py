"""Would this file serve? What `worker.py --check` says without any network."""

from __future__ import annotations

import base64
import binascii
from pathlib import Path

import torch

from common.errors import LoadError
from engine.registry import DEFAULT_ARCHITECTURE
from engine.runtimes import torch_state


def check_file(path: Path, device: torch.device) -> str:
    """A sentence that says what the file is; `LoadError` or `OSError` when it would not serve.

    Takes what `torch.save` wrote, and the base64 text of it that `PUT /set_weights` takes.
    """
    data = path.read_bytes()
    source: bytes | Path = path
    if not data.startswith((b"PK", b"\x80")):
        try:
            source = base64.b64decode(data, validate=True)
        except binascii.Error:
            raise LoadError("it is neither a file that torch.save wrote nor the base64 text of one") from None
    runtime = torch_state.load(source, DEFAULT_ARCHITECTURE, device)
    takes = ", ".join(f"{spec.datatype} {list(spec.row_shape)}" for spec in runtime.inputs)
    return f"{path} serves: architecture {DEFAULT_ARCHITECTURE!r} on {device}, rows of {takes}."
