"""Threads at one version's queue: they wait, take turns at running batches, and wake each other.

What is decided about batches and turns is `combining`'s.
"""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from common.errors import DeadlineExceeded, ModelError, PipelineError, QueueFull
from engine.combining import NEVER, Request, RequestQueue
from engine.futures import set_answer
from engine.metrics import Metrics

Answers = list[Any]  # a prediction or a `PipelineError` for each row
Refusal = Callable[[], PipelineError]
InBackground = Callable[..., None]  # (task, *arguments); raises `NotRunning` where nobody would run it


class Turns:
    """Invariant: a request that was let in is answered, whatever happens to whoever has the turn.

    Thread-safe. `run` answers the rows of a batch, in order. `refuse_with` makes the error of new requests,
    None lets them in. `metrics` are kept under `lock`.
    """

    def __init__(
        self,
        queue: RequestQueue,
        run: Callable[[list[Request]], Answers],
        *,
        in_background: InBackground,
        refuse_with: Refusal | None,
    ) -> None:
        self.metrics = Metrics()
        self.lock = threading.Lock()  # of the queue, the metrics and every request's `answer` and `wake`
        self._queue = queue
        self._run = run
        self._in_background = in_background
        self._refuse_with = refuse_with
        self._changed = threading.Condition(
            self.lock
        )  # for who fills a batch, or waits for the end of it all

    # --- coming in

    def check_open(self) -> None:
        """Raise what new requests are refused with."""
        if self._refuse_with is not None:
            raise self._refuse_with()

    def ask(self, request: Request, *, admitted: bool = False) -> Answers:
        """Wait until a request is answered, or answer it among others. Raises `QueueFull`, unless it goes on
        with one that was `admitted`, and what requests are refused with."""
        if self._enter(request, admitted=admitted) or self._wait(request):
            self._lead(request)
        answer = request.answer
        assert answer is not None
        return answer

    def ask_later(self, request: Request) -> None:
        """Let a request in that has a future; raises as `ask`."""
        if self._enter(request):
            self._give_turn(request)

    def _enter(self, request: Request, *, admitted: bool = False) -> bool:
        """Let a request in; whether it has the turn at once."""
        with self.lock:
            self.check_open()
            try:
                leads = self._queue.enter(request, admitted=admitted)
            except QueueFull:
                self.metrics.errors += request.count
                self.metrics.rejected += request.count
                raise
            if not leads and request.future is None:
                request.wake = wake = threading.Lock()
                wake.acquire()
            if self._queue.max_wait > 0:
                self._changed.notify_all()
        return leads

    def _wait(self, request: Request) -> bool:
        """Wait for the answer, or for the turn: whether it is that."""
        wake = request.wake
        assert wake is not None
        try:
            if wake.acquire(timeout=-1 if request.deadline == NEVER else seconds_left(request.deadline)):
                return self._queue.leader is request
        except BaseException:  # Ctrl-C: nobody may be kept waiting by one who has left
            self._give_up(request)
            raise
        self._give_up(request)
        return False

    def _give_up(self, request: Request) -> None:
        """Its time is over. Where it is in a batch already, what comes of it there is dropped."""
        successor = None
        with self.lock:
            self._queue.leave(request)
            if self._queue.leader is request:
                successor = self._pass_on()
            if request.answer is None:
                request.answer = [DeadlineExceeded("Deadline exceeded") for _ in range(request.count)]
                self.metrics.errors += request.count
        if successor is not None:
            self._give_turn(successor)

    def withdraw(self, future: Future[Any]) -> None:
        """A future was cancelled before it ran."""
        with self.lock:
            self.metrics.cancelled += 1
            if self._queue.withdraw(future):  # else `take` has it, and does this
                future.set_running_or_notify_cancel()

    # --- having the turn

    def _lead(self, own: Request | None) -> None:
        """Run one batch, and give the turn on. `own` is the request of this very thread."""
        batch: list[Request] = []
        answers: Answers = []
        try:
            batch = self._take()
            answers = self._run(batch) if batch else []
        except BaseException as error:
            answers = [_failure(error) for request in batch for _ in range(request.count)]
            if not isinstance(error, Exception):
                raise
        finally:
            with self.lock:
                successor = self._pass_on()
            if successor is not None:  # first of all: it needs time to wake up
                self._give_turn(successor)
            self._answer(batch, answers)
            self._hand_out(batch, own)

    def _take(self) -> list[Request]:
        queue = self._queue
        with self.lock:
            while queue.max_wait > 0 and (left := queue.due() - time.monotonic()) > 0:
                self._changed.wait(left)
            return queue.take()

    def _pass_on(self) -> Request | None:
        """With the lock: end the turn; who has it now."""
        successor = self._queue.pass_on()
        if successor is None:
            self._changed.notify_all()
        return successor

    def _give_turn(self, request: Request) -> None:
        """Tell who has the turn: the caller who waits, or a thread in the background."""
        if request.future is None:
            self._wake(request)
            return
        try:
            self._in_background(self._lead, None)
        except PipelineError as error:
            self.abandon(error)
            with self.lock:
                self._pass_on()

    def _wake(self, request: Request) -> None:
        """Wake a caller that may be given up on at the same time."""
        with self.lock:
            wake, request.wake = request.wake, None
        if wake is not None:
            wake.release()

    def _answer(self, requests: list[Request], answers: Answers) -> None:
        """Note the answers of all rows of these requests, unless they have one."""
        now = time.monotonic()
        metrics = self.metrics
        # Of types there are one or two, of answers many: this loop is on every row's way.
        count = metrics.count
        if not any(issubclass(kind, PipelineError) for kind in set(map(type, answers))):
            count = metrics.count_answered
        with self.lock:
            if answers:
                metrics.batches[len(answers)] += 1
            at = 0
            for request in requests:
                end = at + request.count
                if request.answer is None:
                    request.answer = answers[at:end]
                    count(request.answer, now - request.entered)
                at = end

    def _hand_out(self, batch: list[Request], own: Request | None) -> None:
        """Wake whoever waits. Futures are set in the background: what hangs on them may take its time."""
        futures: list[Request] = []
        for request in batch:
            if request.future is not None:
                futures.append(request)
            elif request is not own and request.wake is not None:
                request.wake.release()
        if futures and own is None:
            _set_futures(futures)
        elif futures:
            self.set_futures(futures)

    def set_futures(self, requests: list[Request]) -> None:
        """Set the futures of requests that are answered."""
        try:
            self._in_background(_set_futures, requests)
        except PipelineError:  # stopped meanwhile: better here than never
            _set_futures(requests)

    # --- beginning and end

    def open(self) -> None:
        """Let requests in."""
        with self.lock:
            self._refuse_with = None
            self._queue.is_closing = False

    def close(self, refuse_with: Refusal) -> None:
        """Let nobody in any more, and have no batch wait for others."""
        with self.lock:
            self._refuse_with = refuse_with
            self._queue.is_closing = True
            self._changed.notify_all()

    def finish(self, end: float, error: PipelineError) -> None:
        """After `close`: wait until everything is answered; what waits at `end` fails with the error."""
        with self.lock:
            in_time = self._changed.wait_for(lambda: self._queue.is_idle, seconds_left(end))
        if not in_time:
            self.abandon(error)

    def abandon(self, error: PipelineError) -> None:
        """Everything that still waits fails with this error; a batch that runs goes on."""
        with self.lock:
            left = [
                request
                for request in self._queue.abandon()
                if request.future is None or request.future.set_running_or_notify_cancel()
            ]
            for request in left:
                request.answer = [error] * request.count
                self.metrics.errors += request.count
        for request in left:
            if request.future is None:
                self._wake(request)
        _set_futures([request for request in left if request.future is not None])

    @property
    def queue_depth(self) -> int:
        """Requests that wait now."""
        return len(self._queue)


def seconds_left(deadline: float) -> float:
    """For a lock's timeout."""
    return min(max(0.0, deadline - time.monotonic()), threading.TIMEOUT_MAX)


def _set_futures(requests: list[Request]) -> None:
    for request in requests:
        assert request.future is not None
        assert request.answer is not None
        set_answer(request.future, request.answer[0])


def _failure(error: BaseException) -> ModelError:
    """Of something that not even `Execution` expects: it is told as the model's."""
    trace = "".join(traceback.format_exception(error))
    return ModelError(f"the batch was not finished: {type(error).__name__}: {error}", trace)
