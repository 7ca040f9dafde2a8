"""The weights in data/, other files a client may send, and what the sample network makes of them in NumPy."""

from __future__ import annotations

import base64
import io
import uuid
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

DATA = Path(__file__).resolve().parents[2] / "data"
ONE = "000127a35b5f462b8ec68fb4d905ac36"
TWO = "0d3c5dffa4374c77a554ed38c9c50296"
THREE = "dfd2cd54a1ec4a408285f547f6827ea2"
TOLERANCE = 2e-6  # relative; the networks differ by a thousand times that wherever tests look


def stored(nn_id: str) -> bytes:
    """What `torch.save` wrote for one of the three networks in data/."""
    (path,) = DATA.glob(f"{nn_id}_*.b64")
    return base64.b64decode(path.read_bytes(), validate=True)


def bad_tensors() -> bytes:
    """Tensors that load and do not fit."""
    return base64.b64decode((DATA / "bad_tensors.b64").read_bytes(), validate=True)


def saved(value: Any) -> bytes:
    """What `torch.save` writes for a value."""
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def padded(nn_id: str, size: int) -> bytes:
    """The same network in a file of more than `size` bytes: one tensor is a view of a large storage."""
    state = torch.load(io.BytesIO(stored(nn_id)), weights_only=True)
    whole = torch.zeros(size // 4)
    whole[:20] = state["fc1.bias"]
    return saved({**state, "fc1.bias": whole[:20]})


@cache
def _parameters(nn_id: str) -> dict[str, Any]:
    state = torch.load(io.BytesIO(stored(nn_id)), weights_only=True)
    return {name: tensor.double().numpy() for name, tensor in state.items()}


def expected(nn_id: str, *row: float) -> float:
    """What the network answers, worked out here in float64 from the row as float32."""
    own = _parameters(nn_id)
    hidden = np.asarray(row, dtype=np.float32).astype(np.float64)
    for layer in ("fc1", "fc2"):
        hidden = np.maximum(own[f"{layer}.weight"] @ hidden + own[f"{layer}.bias"], 0)
    return float((own["output_layer.weight"] @ hidden + own["output_layer.bias"])[0])


def is_right(result: float, nn_id: str, *row: float) -> bool:
    """Whether a result is that network's, as far as float32 can say."""
    right = expected(nn_id, *row)
    return abs(result - right) <= TOLERANCE * max(1.0, abs(right))


def upload(nn_id: str, blob: bytes) -> tuple[bytes, str]:
    """(body, content type) of a whole set_weights request."""
    data = ("data", base64.b64encode(blob), "weights.b64", "application/octet-stream")
    return multipart(("nn_id", nn_id.encode(), None, None), data)


Part = tuple[str, bytes, str | None, str | None]  # name, content, file name, content type


def multipart(*parts: Part) -> tuple[bytes, str]:
    """(body, content type) of these parts, in this order."""
    boundary = uuid.uuid4().hex.encode()
    body = bytearray()
    for name, content, filename, kind in parts:
        body += b'--%b\r\ncontent-disposition: form-data; name="%b"' % (boundary, name.encode())
        if filename is not None:
            body += b'; filename="%b"' % filename.encode()
        if kind is not None:
            body += b"\r\ncontent-type: %b" % kind.encode()
        body += b"\r\n\r\n%b\r\n" % content
    body += b"--%b--\r\n" % boundary
    return bytes(body), f"multipart/form-data; boundary={boundary.decode()}"
