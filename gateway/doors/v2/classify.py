"""The classification extension: the greatest elements of each row of an output, as text. Pure."""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping, Sequence

from common.errors import InvalidRequest
from common.tensor import BYTES, Buffer, pack_elements, values


def read_classes(name: str, parameters: Mapping[str, object]) -> int:
    """How many classes an output's parameters ask for, 0 for none; `InvalidRequest` where they say none."""
    count = parameters.get("classification", 0)
    if isinstance(count, bool) or not isinstance(count, int) or count < 0:
        raise InvalidRequest(f"output {name}: classification should be a whole number of 0 or more")
    return count


def classify(
    datatype: str, shape: tuple[int, ...], data: Buffer, count: int, labels: Sequence[str]
) -> tuple[tuple[int, ...], bytes]:
    """(shape, data of BYTES) of the `count` greatest elements of each row, the greatest first; of equals the
    one that comes first.

    An element is `score:index`, or `score:index:label` where the index has a label; a float's score has six
    digits after the point. `InvalidRequest` where the output holds text.
    """
    if datatype == BYTES:
        raise InvalidRequest("classification is of numbers, and the output is of BYTES")
    flat = values(data, datatype)
    rows, width = shape[0], math.prod(shape[1:])
    count = min(count, width)
    found: list[bytes] = []
    for start in range(0, rows * width, width or 1):
        row = flat[start : start + width]
        best = heapq.nsmallest(count, range(width), key=lambda at: (_lowness(row[at]), at))
        found += [_class(row[at], at, labels) for at in best]
    return (rows, count), pack_elements(found)


def _lowness(score: float) -> float:
    return math.inf if math.isnan(score) else -score


def _class(score: float, index: int, labels: Sequence[str]) -> bytes:
    text = f"{score:f}" if isinstance(score, float) else str(int(score))
    label = f":{labels[index]}" if index < len(labels) else ""
    return f"{text}:{index}{label}".encode()
