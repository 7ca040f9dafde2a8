"""What servers answered, whatever their shape, beside what they should have. Pure."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

TOLERANCE = 1e-3  # batches of another size add up in another order
_BINARY = "inference-header-content-length"


class Reply(NamedTuple):
    """One answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def is_right(reply: Reply, expected: Sequence[float]) -> bool:
    """Whether it is this row's."""
    if reply.status != 200:
        return False
    found = numbers(reply)
    return len(found) == len(expected) and all(
        math.isclose(one, other, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
        for one, other in zip(found, expected, strict=True)
    )


def numbers(reply: Reply) -> list[float]:
    """The elements of the answer; none where it is in no shape that is known."""
    lengths = [value for name, value in reply.headers.items() if name.lower() == _BINARY]
    if lengths:
        data = reply.body[int(lengths[0]) :]
        return list(struct.unpack(f"<{len(data) // 4}f", data[: len(data) // 4 * 4]))
    try:
        document = json.loads(reply.body)
    except ValueError:
        return []
    return list(_flat(_result(document)))


def _result(document: Any) -> Any:
    """What of the document is the result: it may be all of it."""
    if not isinstance(document, dict):
        return document
    if document.get("status") is False:  # ours says so in an answer of 200
        return None
    if "outputs" in document:
        return _data(document["outputs"])
    return next((document[key] for key in ("y", "result") if key in document), None)


def _data(outputs: Any) -> Any:
    """The first output's, of a list of them or by their names."""
    first = next(iter(outputs.values() if isinstance(outputs, dict) else outputs), None)
    return first.get("data") if isinstance(first, dict) else first


def _flat(value: Any) -> Iterator[float]:
    if isinstance(value, list):
        for each in value:
            yield from _flat(each)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield float(value)
