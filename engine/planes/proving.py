"""The worker's planes where there is a fleet token: they hear only the gateway that has proved to hold it.
Edge of `common.proving`, which decides."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from common import wire
from common.errors import WireError
from common.link.worker import Handler
from common.log import OncePer, event
from common.proving import WorkerProver

log = logging.getLogger("pipeline.worker")

UNHEARD = 6  # introductions that nobody answered, after which that is said


class Guard:
    """Stands before the handlers of both planes. What does not pass gets no answer, and is counted."""

    def __init__(self, prover: WorkerProver, control: Handler, data: Handler) -> None:
        self._prover = prover
        self._control = control
        self._data = data
        self._noted = OncePer(10.0)
        self.refused = 0

    def survey(self, frame: memoryview) -> bytes | None:
        """A survey's answer."""
        answer = self._pass(frame, self._prover.answer_survey, self._control)
        if self._prover.refused >= UNHEARD:
            self._note("the gateway does not prove that it has our fleet token: is it the same one?")
        return answer

    def request(self, frame: memoryview) -> bytes | None:
        """The answer to a frame of the link. The gateway's first asks who is there."""
        return self._pass(frame, self._prover.answer_request, self._greet)

    def _greet(self, frame: memoryview) -> bytes | None:
        if len(frame) == len(_WHO) and frame == _WHO:
            return self._control(frame)
        return self._data(frame)

    def _pass(
        self,
        frame: memoryview,
        through: Callable[[memoryview, Handler], bytes | None],
        handler: Handler,
    ) -> bytes | None:
        try:
            return through(frame, handler)
        except WireError as error:
            self.refused += 1
            self._note(str(error))
            return None

    def _note(self, sentence: str) -> None:
        suppressed = self._noted.allow(sentence, time.monotonic())
        if suppressed is not None:
            event(log, logging.WARNING, "not heard", because=sentence, more=suppressed)


_WHO = wire.encode(wire.Status())
