"""How a command ends if not well: a sentence, and an exit code that scripts can go by."""

from __future__ import annotations

import base64
import binascii
from typing import Any

EXIT_OK, EXIT_REFUSED, EXIT_USAGE, EXIT_NO_GATEWAY, EXIT_LATER = 0, 1, 2, 3, 4

# Statuses that say: not now.
_LATER = (429, 502, 503, 504)


class Failure(Exception):
    """Raised when a command cannot do what it was asked; `code` is the process's exit code."""

    def __init__(self, sentence: str, code: int = EXIT_REFUSED) -> None:
        super().__init__(sentence)
        self.code = code


def refusal(status: int, value: Any) -> Failure | None:
    """What an answer refuses, in the shape of any door; None for one that does not."""
    is_fine = 200 <= status < 300
    if is_fine and not (isinstance(value, dict) and value.get("status") is False):
        return None
    sentence = _sentence(value) or f"the gateway answered {status} without a reason"
    if status in (401, 403):
        sentence += ": give the gateway's token by --token or PIPELINE_TOKEN"
    return Failure(sentence, EXIT_LATER if status in _LATER else EXIT_REFUSED)


def _sentence(value: Any) -> str:
    """v1 has a message and what each worker said, V2 an error, autodep errors."""
    if not isinstance(value, dict):
        return ""
    for worker in value.get("workers") or ():
        if isinstance(worker, dict) and worker.get("result") is False:
            return f"{value.get('message')}: {_last_line(str(worker.get('trace', '')))}"
    errors = value.get("errors")
    said = (
        value.get("message")
        or value.get("error")
        or (errors[0] if isinstance(errors, list | tuple) and errors else "")
    )
    return _last_line(str(said))


def _last_line(text: str) -> str:
    """What a model's stack trace ends with, where the text is the base64 of one; else the text."""
    try:
        trace = base64.b64decode(text, validate=True).decode()
    except (binascii.Error, ValueError):
        return text
    is_trace = "Error" in trace or "\n" in trace
    return trace.strip().rpartition("\n")[2].removeprefix("common.errors.LoadError: ") if is_trace else text
