"""A chunk's rows sent through the fleet in slices, in the room that other requests leave."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import trio

from common.errors import LinkError, NotFound, Overloaded, PipelineError, Poisoned, WorkerLost
from common.tensor import TensorSpec
from gateway.fleet.fleet import Fleet
from gateway.fleet.roster import State as Life
from gateway.jobs.pace import Pace
from gateway.jobs.rows import Answered, Read, Result, Slice, halves, results_of, take_slice
from gateway.models.catalog import Version
from gateway.models.holders import Holders
from gateway.scheduling.predictions import Predictions
from gateway.scheduling.requests import Answer, ModelKey

T = TypeVar("T")

TICK = 0.002
DOOR = "jobs"  # as figures call it
STARVED = 0.25  # a slice that found no room for so long goes all the same: a job ends under any load
TIMEOUT = 60.0  # of a slice; one that takes longer is tried again in halves
RETRY, RETRY_MOST = 0.1, 5.0


class Piece(NamedTuple):
    """The answers to the rows `at` these places of a chunk, and what one of them is where they have any."""

    at: Sequence[int]
    results: Sequence[Result]
    outputs: tuple[TensorSpec, ...] = ()


class Computing:
    """Invariant: at most as many slices are on their way as workers are ready, and `live` counts them."""

    def __init__(
        self,
        predictions: Predictions,
        fleet: Fleet,
        holders: Holders,
        is_served: Callable[[ModelKey], bool],
    ) -> None:
        self.live: Counter[ModelKey] = Counter()
        self._predictions = predictions
        self._fleet = fleet
        self._holders = holders
        self._is_served = is_served  # or will be, until what needs it is over
        self._pace = Pace()
        self._places = 0  # taken; one is given back only after the pause behind its slice
        self._started = 0

    async def compute(self, version: Version, rows: Sequence[Read]) -> list[Piece]:
        """Answers to all rows that are some; what failed alone has a sentence. `NotFound` without the
        version."""
        pieces: list[Piece] = []
        start = 0
        async with trio.open_nursery() as nursery:
            while start < len(rows) and await self._room(version.key):
                most = self._pace.rows(trio.current_time())
                piece, start = take_slice(rows, start, most)
                if piece is not None:
                    self._places += 1
                    nursery.start_soon(self._run, version, rows, piece, pieces)
        if start < len(rows):
            raise NotFound(f"version {version.key.version} can no longer be had: workers refused to load it")
        return pieces

    @property
    def step(self) -> int:
        """How many rows `gently` should be given in one go."""
        self._look()
        return self._pace.step(trio.current_time())

    async def gently(self, work: Callable[..., T], *told: object) -> T:
        """Have a thread do something short, and leave others alone for a while: it takes the interpreter."""
        result, took = await trio.to_thread.run_sync(_timed, work, told, abandon_on_cancel=True)
        await trio.sleep(self._pace.pause(took, trio.current_time()))
        return result

    # --- the room

    async def _room(self, key: ModelKey) -> bool:
        """Until a slice may go; False where the version will never be there again."""
        came = trio.current_time()
        while not self._has_room(key, came):
            if not self._is_served(key):
                return False
            await trio.sleep(TICK)
        return True

    def _has_room(self, key: ModelKey, came: float) -> bool:
        self._look()
        # Who made room for others loads it again once a slice asks for it.
        is_there = self._holders.of(key) or self._holders.evicted_at(key)
        if self._places >= len(self._fleet.ids(Life.READY)) or not is_there:
            return False
        is_room = not self._predictions.waiting or trio.current_time() - came >= STARVED
        return is_room and not self._predictions.draining

    def _look(self) -> None:
        predictions = self._predictions
        others = predictions.handling.count + predictions.in_progress - self._started
        self._pace.look(others, trio.current_time())

    # --- a slice

    async def _run(self, version: Version, rows: Sequence[Read], piece: Slice, pieces: list[Piece]) -> None:
        try:
            took = await self._answer(version, rows, piece, pieces)
            await trio.sleep(self._pace.pause(took, trio.current_time()))
        finally:
            self._places -= 1

    async def _answer(
        self, version: Version, rows: Sequence[Read], piece: Slice, pieces: list[Piece]
    ) -> float:
        """Answer a slice, whatever it takes; one that fails is cut in halves, down to the row at fault. How
        much of the model's time that took."""
        answer = await self._ask_again(version, piece)
        count = len(piece.at)
        if isinstance(answer, Answered):
            results = await self.gently(results_of, answer, count)
            pieces.append(Piece(piece.at, results, answer.outputs))
            return answer.infer
        if count == 1 or isinstance(answer, Poisoned):  # each half would cost two more workers
            pieces.append(Piece(piece.at, [str(answer)] * count))
            return 0.0
        return sum([await self._answer(version, rows, half, pieces) for half in halves(rows, piece)])

    async def _ask_again(self, version: Version, piece: Slice) -> Answered | PipelineError:
        """Ask until it is answered, or fails by its own fault."""
        pause = RETRY
        while True:
            answer = await self._ask(version, piece)
            is_transient = isinstance(answer, Overloaded | LinkError | WorkerLost)
            if isinstance(answer, Answered | Poisoned) or not is_transient:
                return answer
            await trio.sleep(pause)
            pause = min(RETRY_MOST, pause * 2)

    async def _ask(self, version: Version, piece: Slice) -> Answered | PipelineError:
        answers: list[Answered | PipelineError] = []
        answered = trio.Event()
        count = len(piece.at)

        def reply(answer: Answer | PipelineError) -> None:
            if isinstance(answer, Answer):
                self._pace.learn(count, answer.by.infer)
                buffers = tuple(map(bytes, answer.buffers))
                answers.append(Answered(answer.outputs, buffers, answer.by.infer))
            else:
                answers.append(answer)
            answered.set()

        try:
            request = self._predictions.start(
                version, piece.signature, piece.buffers, count, TIMEOUT, reply, door=DOOR
            )
        except PipelineError as error:
            return error
        self._started += 1
        self.live[version.key] += 1
        try:
            await answered.wait()
        finally:
            self.live[version.key] -= 1
            self._predictions.cancel(request)  # nothing, if it was answered
        return answers[0]


def _timed(work: Callable[..., T], told: tuple[object, ...]) -> tuple[T, float]:
    """(what it gives, the processor's time that it took)."""
    began = time.thread_time()
    return work(*told), time.thread_time() - began
