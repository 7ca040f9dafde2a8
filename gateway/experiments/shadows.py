"""Comparing a shadow's answer with the one that was given. Pure."""

from __future__ import annotations

import math

from common.errors import PipelineError
from common.tensor import BYTES, DATATYPES, values
from gateway.experiments.experiments import Arm
from gateway.scheduling.requests import Answer

MAX_COMPARED = 4096  # numbers of one answer; more would keep others waiting


class Pair:
    """One request's two answers, in whichever order they come; both are dropped once they are compared."""

    __slots__ = ("_given", "_shadow", "_shown")

    def __init__(self, shadow: Arm) -> None:
        self._shadow = shadow
        self._given: Answer | PipelineError | None = None
        self._shown: Answer | PipelineError | None = None

    def given(self, answer: Answer | PipelineError) -> None:
        """What the client was answered."""
        self._given = _kept(answer)
        self._compare()

    def shown(self, answer: Answer | PipelineError) -> None:
        """What the shadow says."""
        self._shown = _kept(answer)
        self._compare()

    def _compare(self) -> None:
        given, shown = self._given, self._shown
        if isinstance(given, Answer) and isinstance(shown, Answer):
            self._shadow.compare(mean_absolute_difference(given, shown))
        elif given is not None and shown is not None:
            self._shadow.compare(None)


def mean_absolute_difference(one: Answer, other: Answer) -> float | None:
    """The mean of |a − b| over all numbers of two answers, the first `MAX_COMPARED` if they have more.

    None where they differ in shape or datatype, hold text, have no numbers, or the mean is not finite.
    """
    kinds = [[(spec.datatype, spec.row_shape) for spec in each.outputs] for each in (one, other)]
    sizes = [[buffer.nbytes for buffer in each.buffers] for each in (one, other)]
    if kinds[0] != kinds[1] or sizes[0] != sizes[1] or any(kind == BYTES for kind, _ in kinds[0]):
        return None
    total, count = 0.0, 0
    for spec, a, b in zip(one.outputs, one.buffers, other.buffers, strict=True):
        room = (MAX_COMPARED - count) * DATATYPES[spec.datatype].itemsize
        numbers = values(a[:room], spec.datatype), values(b[:room], spec.datatype)
        differences = [abs(x - y) for x, y in zip(*numbers, strict=True)]
        total += sum(differences)
        count += len(differences)
    return total / count if count and math.isfinite(total) else None


def _kept(answer: Answer | PipelineError) -> Answer | PipelineError:
    """An answer that outlives the frame it came in."""
    if isinstance(answer, PipelineError):
        return answer
    return answer._replace(buffers=tuple(memoryview(bytes(buffer)) for buffer in answer.buffers))
