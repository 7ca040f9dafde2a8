"""What every door does with a prediction: admit it under the version that serves, and count how it ends."""

from __future__ import annotations

from collections.abc import Callable

import trio

from common.errors import Draining, PipelineError, RequestCancelled, TooLarge
from common.stats import Latency
from common.tensor import Buffer, TensorSpec
from common.tracing import HEADER
from common.wire import MAX_BATCH_BYTES
from gateway.auth.clients import Client
from gateway.models.catalog import Part, Version
from gateway.observing.tracing import Tracing
from gateway.scheduling.dispatch import Dispatcher
from gateway.scheduling.requests import Answer, Request, Stage
from gateway.scheduling.routing import key_of

Reply = Callable[[Answer | PipelineError], None]
Header = Callable[[bytes], bytes | None]

MAX_TIMEOUT = 3600.0


class Predictions:
    """Invariant: `in_progress` requests were admitted and have had no reply and no cancel yet.

    `join` is told of each request that takes part in an experiment.
    """

    def __init__(self, dispatcher: Dispatcher, *, timeout: float, max_rows: int) -> None:
        self.timeout = timeout
        self.max_rows = max_rows
        self.peak_waiting = 0
        self.draining = False
        self.tracing: Tracing | None = None  # where spans are wanted
        self.join: Callable[[Part, Request], None] = lambda part, request: None
        self._dispatcher = dispatcher
        self._scheduler = dispatcher.scheduler
        self._recorder = dispatcher.recorder

    @property
    def handling(self) -> Latency:
        """From admission to the answer."""
        return self._dispatcher.handling

    @property
    def waiting(self) -> int:
        """Requests in the queue now."""
        return self._scheduler.waiting

    @property
    def queue_max(self) -> int:
        """Requests that may wait."""
        return self._scheduler.queue_max

    @property
    def in_progress(self) -> int:
        """Requests admitted and not over."""
        return self._scheduler.unfinished

    def in_flight(self, worker: str) -> int:
        """Rows at a worker now."""
        return self._scheduler.in_flight(worker)

    def start(
        self,
        version: Version,
        signature: tuple[TensorSpec, ...],
        buffers: tuple[Buffer, ...],
        rows: int,
        timeout: float | None,
        reply: Reply,
        *,
        door: str,
        header: Header = lambda name: None,
        client: Client | None = None,
    ) -> Request:
        """Admit a request that came through `door` under a version that serves; `reply` comes later, exactly
        once, unless it is cancelled first. There must be no checkpoint since the catalog was asked. `header`
        gives what came beside it, by its lower-case name; `client` is who asks, where tokens say so.

        Raises `QueueFull`, `Draining`, `TooLarge` and `RateLimited`; then there is no reply, and the door
        counts it as `refused`.
        """
        if self.draining:
            raise Draining("Server is shutting down")
        if rows > self.max_rows:
            raise TooLarge(f"{rows} rows in one request: at most {self.max_rows} are allowed")
        settings = version.settings
        if timeout is None:
            timeout = self.timeout if settings.timeout is None else settings.timeout
        now = trio.current_time()
        request = Request(
            version.key,
            signature,
            buffers,
            rows,
            admitted=now,
            deadline=now + timeout,
            route=key_of(buffers) if settings.affinity is not False and settings.cache_size != 0 else None,
            reply=reply,
            count=self._recorder.of(door, version.key, "" if version.part is None else version.part.arm.name),
            client=client,
        )
        if request.size > MAX_BATCH_BYTES:
            raise TooLarge(f"the rows have {request.size} bytes: at most {MAX_BATCH_BYTES} go to a worker")
        if client is not None:
            client.predict(rows, now)
        self._dispatcher.submit(request)
        if self.tracing is not None:
            request.trace = self.tracing.begin(header(HEADER), request.key, door, rows)
        if version.part is not None:
            self.join(version.part, request)
        self.peak_waiting = max(self.peak_waiting, self._scheduler.waiting)
        return request

    def cancel(self, request: Request) -> None:
        """Whoever asked has gone: the request is never run if it still waits."""
        if request.stage is not Stage.OVER:
            if request.count is not None:
                request.count.refused(RequestCancelled.code)
            if request.trace is not None:
                request.trace.ended(RequestCancelled("whoever asked has gone"))
        self._scheduler.cancel(request)

    def refused(self, door: str, model: str, error: PipelineError) -> None:
        """A door answered a request for `model` with an error, and nothing of it was admitted."""
        self._recorder.refused(door, model, error)
