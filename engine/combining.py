"""Who waits for a model version, which rows go together, and who runs them. Pure: it decides, others wait.

Handing a row to another thread and its answer back costs more than most models take. So callers combine
("flat combining": Hendler, Incze, Shavit and Tzafrir, SPAA 2010): whoever finds nobody at work takes the
turn, runs everything that waits as one batch, its own row first among it, and hands each its answer. Who
comes meanwhile waits, and when the turn ends the one who waits longest has the next. So nobody runs more than
one batch for others, and a batch is whatever came while the one before it ran.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from concurrent.futures import Future
from typing import Any

from common.errors import QueueFull
from common.tensor import TensorSpec

NEVER = math.inf


class Request:
    """Rows that a caller wants answered together, at most a batch of them.

    `columns[k]` holds the rows of input k, one after the other. `deadline` is on the clock of `entered`.
    `answer`, once there, has a prediction or a `PipelineError` for each row. Whoever waits for it blocks on
    `wake` or holds `future`; what `predict_async` made has a future.
    """

    __slots__ = ("answer", "columns", "count", "deadline", "entered", "future", "inputs", "wake")

    def __init__(
        self,
        inputs: tuple[TensorSpec, ...],
        columns: list[bytes],
        count: int = 1,
        entered: float = 0.0,
        deadline: float = NEVER,
        future: Future[Any] | None = None,
    ) -> None:
        self.inputs = inputs
        self.columns = columns
        self.count = count
        self.entered = entered
        self.deadline = deadline
        self.future = future
        self.wake: threading.Lock | None = None
        self.answer: list[Any] | None = None


class RequestQueue:
    """Not thread-safe: whoever owns it serialises what is done to it.

    Invariant: whenever requests wait, somebody has the turn. Having the turn is between `enter` or `pass_on`,
    which give it, and `pass_on`, which ends it; in between, `take` once.
    """

    def __init__(self, *, batch_size: int, max_wait: float, max_size: int) -> None:
        self.batch_size = batch_size
        self.max_wait = max_wait
        self.max_size = max_size
        self.rows = 0  # that wait
        self.leader: Request | None = None  # who has the turn
        self.is_closing = False  # no batch waits for others any more
        self._waiting: deque[Request] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits and nothing runs."""
        return self.leader is None

    def enter(self, request: Request, *, admitted: bool = False) -> bool:
        """Let a request wait; whether it has the turn. `QueueFull` when as many wait as may, unless the
        request goes on with one that was let in before."""
        if len(self._waiting) >= self.max_size and not admitted:
            raise QueueFull(f"{self.max_size} requests wait already: come back later")
        self._waiting.append(request)
        self.rows += request.count
        if self.leader is None:
            self.leader = request
            return True
        return False

    def due(self) -> float:
        """When the batch has to go: at once if it is full or is not to wait; else when the first of those who
        wait has waited for others as long as it may, or half as long as it has time."""
        if self.max_wait <= 0 or self.is_closing or self.rows >= self.batch_size:
            return -NEVER
        return min(
            (
                request.entered + min(self.max_wait, (request.deadline - request.entered) / 2)
                for request in self._waiting
            ),
            default=-NEVER,
        )

    def take(self) -> list[Request]:
        """The next batch: in the order they came, as many as `batch_size` rows; those whose future was
        cancelled are left out. Whoever has the turn takes once; there may be nothing left."""
        batch: list[Request] = []
        room = self.batch_size
        waiting = self._waiting
        while waiting and (waiting[0].count <= room or not batch):
            request = waiting.popleft()
            self.rows -= request.count
            if request.future is None or request.future.set_running_or_notify_cancel():
                batch.append(request)
                room -= request.count
        return batch

    def pass_on(self) -> Request | None:
        """End the turn: the request that has it now, None if nobody waits."""
        self.leader = self._waiting[0] if self._waiting else None
        return self.leader

    def leave(self, request: Request) -> bool:
        """Forget a request that nobody waits for any more; whether it waited. It may have the turn."""
        try:
            self._waiting.remove(request)
        except ValueError:
            return False
        self.rows -= request.count
        return True

    def withdraw(self, future: Future[Any]) -> bool:
        """`leave` of the request that has this future."""
        request = next((each for each in self._waiting if each.future is future), None)
        return request is not None and self.leave(request)

    def abandon(self) -> list[Request]:
        """Everything that waits, which waits no longer. Who has the turn keeps it."""
        left = list(self._waiting)
        self._waiting.clear()
        self.rows = 0
        return left
