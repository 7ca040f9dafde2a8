"""One loaded model version at work: features become requests, batches of them go through its `Execution`."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

from common.errors import InvalidRequest, PipelineError, row_error
from common.wire import Part
from engine.answering import Ran
from engine.combining import NEVER, Request, RequestQueue
from engine.execution import Execution
from engine.features import Columns, FeatureReader, Prediction, Specs, prediction, predictions
from engine.futures import Callback, PredictionFuture
from engine.metrics import Metrics
from engine.turns import Answers, InBackground, Refusal, Turns


class Serving:
    """Thread-safe. What the cache knows is answered at once, the rest waits for its turn (`turns`)."""

    def __init__(
        self,
        execution: Execution,
        queue: RequestQueue,
        *,
        in_background: InBackground,
        refuse_with: Refusal | None,
    ) -> None:
        self.execution = execution
        self.turns = Turns(queue, self._run, in_background=in_background, refuse_with=refuse_with)
        self._batch_size = queue.batch_size
        self._reader = FeatureReader(execution.inputs)

    def predict(self, features: Any, timeout: float | None) -> Prediction:
        """One row's prediction, made in this very thread; raises what became of it instead."""
        entered = time.monotonic()
        inputs, columns = self._read(features)
        known = self.execution.known(inputs, columns)
        if known is not None:
            answer = prediction(*known)
            self._count(answer, entered)
            return answer
        deadline = NEVER if timeout is None else entered + timeout
        answer = self.turns.ask(Request(inputs, columns, 1, entered, deadline))[0]
        if isinstance(answer, PipelineError):
            raise answer
        return answer

    def predict_async(
        self, features: Any, request_id: str, callback: Callback | None, timeout: float | None
    ) -> PredictionFuture:
        """The future of one row's prediction."""
        entered = time.monotonic()
        inputs, columns = self._read(features)
        future = PredictionFuture(request_id, self.turns.withdraw, callback)
        deadline = NEVER if timeout is None else entered + timeout
        request = Request(inputs, columns, 1, entered, deadline, future)
        known = self.execution.known(inputs, columns)
        if known is None:
            self.turns.ask_later(request)
        else:
            future.set_running_or_notify_cancel()
            request.answer = [prediction(*known)]
            self._count(request.answer[0], entered)
            self.turns.set_futures([request])
        return future

    def predict_batch(self, rows: Any, timeout: float | None) -> Answers:
        """Each row's prediction or error; raises only where no row was let in."""
        entered = time.monotonic()
        self.turns.check_open()
        if not hasattr(rows, "__array__"):
            rows = list(rows)
        answers: Answers = [None] * len(rows)
        deadline = NEVER if timeout is None else entered + timeout
        was_admitted = False
        # One batch after the other, so that those of other callers get their turns in between.
        for indexes, inputs, columns in self._pieces(rows, answers):
            request = Request(inputs, columns, len(indexes), entered, deadline)
            try:
                found = self.turns.ask(request, admitted=was_admitted)
            except PipelineError as error:
                if not was_admitted:
                    raise
                found = [error] * len(indexes)
            was_admitted = True
            for index, answer in zip(indexes, found, strict=True):
                answers[index] = answer
        return answers

    def add_metrics(self, total: Metrics) -> None:
        """Add what this version did to a sum."""
        with self.turns.lock:
            total.add(self.turns.metrics)

    def _read(self, features: Any) -> tuple[Specs, Columns]:
        self.turns.check_open()
        try:
            return self._reader.row(features)
        except InvalidRequest as error:
            self._count(error)
            raise

    def _count(self, answer: Any, entered: float = 0.0) -> None:
        """A row that was answered without a turn."""
        with self.turns.lock:
            self.turns.metrics.count([answer], time.monotonic() - entered)

    def _pieces(self, rows: Any, answers: Answers) -> Iterator[tuple[Sequence[int], Specs, Columns]]:
        """(where they are, what the inputs are, the rows) of at most a batch of alike rows at a time. Those
        that cannot be read get their error here."""
        size = self._batch_size
        array = self._reader.rows(rows)
        if array is not None and self._reader.inputs is not None:
            for at in range(0, len(array), size):
                piece = array[at : at + size]
                yield range(at, at + len(piece)), self._reader.inputs, [piece.tobytes()]
            return
        indexes: list[int] = []
        alike: Specs = ()
        read: list[Columns] = []
        for index, features in enumerate(rows):
            try:
                inputs, columns = self._reader.row(features)
            except InvalidRequest as error:
                self._count(error)
                answers[index] = error
                continue
            if indexes and (inputs != alike or len(indexes) == size):
                yield indexes, alike, _joined(read)
                indexes, read = [], []
            alike = inputs
            indexes.append(index)
            read.append(columns)
        if indexes:
            yield indexes, alike, _joined(read)

    def _run(self, batch: list[Request]) -> Answers:
        """Each row's answer, in order; called by one thread at a time."""
        if len(batch) == 1 or self._reader.has_fixed_shapes:
            return self._run_alike(batch)
        groups: dict[Specs, list[Request]] = {}
        for request in batch:
            groups.setdefault(request.inputs, []).append(request)
        answers = {inputs: iter(self._run_alike(group)) for inputs, group in groups.items()}
        return [next(answers[request.inputs]) for request in batch for _ in range(request.count)]

    def _run_alike(self, batch: list[Request]) -> Answers:
        now = time.monotonic()
        columns = batch[0].columns if len(batch) == 1 else _joined([each.columns for each in batch])
        timeouts = [each.deadline - now for each in batch for _ in range(each.count)]
        ran = self.execution.run(Part(batch[0].inputs, [1] * len(timeouts), timeouts), columns, now)
        return _answers(ran, len(timeouts))


def _answers(ran: Ran, rows: int) -> Answers:
    errors = ran.answer.errors
    values = predictions(ran.answer.outputs, ran.buffers, rows - len(errors))
    if not errors:
        return values
    failed = {error.index: row_error(error.code, error.message, error.trace) for error in errors}
    left = iter(values)
    return [failed[row] if row in failed else next(left) for row in range(rows)]


def _joined(rows: list[Columns]) -> Columns:
    return [b"".join(column) for column in zip(*rows, strict=True)]
