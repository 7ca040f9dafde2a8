"""Files and JSON that a command line names."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from cli.failure import EXIT_USAGE, Failure


def to_send(path: Path) -> Path:
    """A file that can be sent; `Failure` if it cannot be."""
    try:
        with path.open("rb"):
            return path
    except OSError as error:
        raise unreadable(path, error) from None


def read_bytes(name: str) -> bytes:
    """What is in a file; - is stdin."""
    try:
        return sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    except OSError as error:
        raise unreadable(name, error) from None


def read_body(text: str) -> bytes:
    """JSON as it was given, or as the file after an @ has it; - is stdin."""
    raw = read_bytes(text.removeprefix("@")) if text == "-" or text.startswith("@") else text.encode()
    try:
        json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise Failure(f"this is not JSON: {error}. For a file, write @FILE", EXIT_USAGE) from None
    return raw


def read_value(text: str) -> Any:
    """The value of such JSON."""
    return json.loads(read_body(text))


def unreadable(name: str | Path, error: OSError) -> Failure:
    """Why a file cannot be read."""
    return Failure(f"{name} cannot be read: {error.strerror}", EXIT_USAGE)
