"""Typed surveys: a question to the fleet as a message, its answers as messages, each by worker."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from typing import Protocol, TypeVar

import trio

from common import wire
from common.errors import WireError
from common.log import OncePer, event
from common.tensor import Buffer

log = logging.getLogger("pipeline.fleet")

A = TypeVar("A", bound=wire.Message)


class Frame(Protocol):
    """A received frame; `view` lives as long as it does."""

    view: memoryview


class Asker(Protocol):
    """What carries surveys: the real surveyor, or the one in memory."""

    async def ask(self, question: bytes, survey_time: float, take: Callable[[Frame], bool]) -> None: ...


class Surveys:
    """Asks and decodes. Answers that are no frames, or not of the kind asked for, are counted and dropped."""

    def __init__(self, asker: Asker) -> None:
        self._asker = asker
        self._bad_frames = OncePer(10.0)
        self.bad_frames = 0
        self._in_progress: dict[trio.CancelScope, Callable[[], None]] = {}

    async def ask(
        self,
        question: wire.Message,
        kind: type[A],
        survey_time: float,
        *,
        expected: Callable[[], Collection[str]],
        buffers: Sequence[Buffer] = (),
        on_answer: Callable[[A], None] = lambda answer: None,
    ) -> dict[str, A]:
        """Answers by worker id. Over as soon as every worker that is `expected` has answered; whenever the
        fleet changes it is asked who of them is still there. `survey_time` is for those that never will.

        Raises `LinkError` when the question cannot be sent.
        """
        answers: dict[str, A] = {}
        missing = set(expected())

        def take(frame: Frame) -> bool:
            answer = self._decode(frame, kind)
            if answer is not None:
                worker: str = answer.worker  # type: ignore[attr-defined]
                if worker not in answers:
                    answers[worker] = answer
                    missing.discard(worker)
                    on_answer(answer)
            return not missing

        with trio.move_on_after(survey_time) as scope:

            def end_if_complete() -> None:
                missing.intersection_update(expected())
                if not missing:
                    scope.cancel()

            self._in_progress[scope] = end_if_complete
            try:
                end_if_complete()
                await self._asker.ask(wire.encode(question, buffers), survey_time, take)
            finally:
                del self._in_progress[scope]
        return answers

    def membership_changed(self) -> None:
        """A worker left: whoever waits for its answer may have all there are."""
        for end_if_complete in list(self._in_progress.values()):
            end_if_complete()

    def _decode(self, frame: Frame, kind: type[A]) -> A | None:
        try:
            return wire.expect(kind, frame.view)[0]
        except WireError as error:
            self.bad_frames += 1
            suppressed = self._bad_frames.allow("survey", trio.current_time())
            if suppressed is not None:
                event(log, logging.WARNING, "bad frame in a survey", error=error, more=suppressed)
            return None
