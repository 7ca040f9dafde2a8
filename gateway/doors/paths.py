"""Which requests a door answers by itself, without the app: known from method and path alone. Pure."""

from __future__ import annotations

import re

from common.media import INPUT_TYPES

PREDICT = re.compile(rf"/models/([^/]+)(?:/versions/([^/]+))?/(predict|{'|'.join(INPUT_TYPES)})\Z")
INFER = re.compile(r"/v2/models/([^/]+)(?:/versions/([^/]+))?/infer\Z")


def is_direct(method: str, path: str) -> bool:
    """Whether a request is a prediction, of whatever model."""
    if method != "POST":
        return False
    return path == "/predict" or PREDICT.match(path) is not None or INFER.match(path) is not None
