"""Which worker refused which version, why, and when it is asked again. Pure."""

from __future__ import annotations

import math
from typing import NamedTuple

from common.wire import LoadAnswer
from gateway.scheduling.requests import ModelKey

PAUSE_MIN, PAUSE_MAX = 5.0, 300.0  # before a worker is asked again; doubled each time
SILENT = "it did not load it in time"


class _Refusal(NamedTuple):
    sentence: str
    pause: float
    until: float


class Refusals:
    """A refusal ends when the worker holds the version after all, leaves, or somebody changes the version."""

    def __init__(self) -> None:
        self._refusals: dict[ModelKey, dict[str, _Refusal]] = {}

    def add(self, key: ModelKey, worker: str, sentence: str, now: float) -> bool:
        """A worker refuses a version; whether that is news."""
        refused = self._refusals.setdefault(key, {})
        before = refused.get(worker)
        pause = PAUSE_MIN if before is None else min(2 * before.pause, PAUSE_MAX)
        refused[worker] = _Refusal(sentence, pause, now + pause)
        return before is None

    def of(self, key: ModelKey) -> dict[str, str]:
        """What each worker says that refused a version."""
        return {worker: refusal.sentence for worker, refusal in self._refusals.get(key, {}).items()}

    def spared(self, key: ModelKey, now: float) -> set[str]:
        """The workers that are not to be asked for a version now."""
        return {worker for worker, refusal in self._refusals.get(key, {}).items() if now < refusal.until}

    def next_due(self, now: float) -> float:
        """When the next of them may be asked again."""
        times = [refusal.until for refused in self._refusals.values() for refusal in refused.values()]
        return min((time for time in times if time > now), default=math.inf)

    def forget(self, key: ModelKey, worker: str | None = None) -> None:
        """A version, of one worker or of all, may be tried as if for the first time."""
        refused = self._refusals.get(key, {})
        for each in [worker] if worker is not None else list(refused):
            refused.pop(each, None)
        if not refused:
            self._refusals.pop(key, None)

    def forget_worker(self, worker: str) -> None:
        """A worker is gone."""
        for key in list(self._refusals):
            self.forget(key, worker)


def sentence_of(answer: LoadAnswer | None) -> str:
    """Why a version was not loaded: the last line of the stack trace, without the name of our own error."""
    if answer is None:
        return SILENT
    lines = answer.trace.strip().splitlines() or ["no reason given"]
    kind, colon, sentence = lines[-1].partition(": ")
    return sentence if colon and kind.rpartition(".")[2] == "LoadError" else lines[-1]
