"""The spans of one request: the whole of it at the gateway, and below it the way to a worker and back, under
which the worker puts its own."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from common.errors import PipelineError
from common.tracing import Parent, Spans, fail, parent_from, traceparent_of
from gateway.scheduling.requests import Answer, ModelKey

if TYPE_CHECKING:
    from opentelemetry.trace import Span


class Tracing:
    """Asked once for each request that is admitted."""

    def __init__(self, spans: Spans) -> None:
        self._spans = spans

    def begin(self, traceparent: bytes | None, key: ModelKey, door: str, rows: int) -> RequestTrace | None:
        """The trace of a request; None where it has no spans."""
        wanted, parent = self._spans.parent_of(None if traceparent is None else traceparent.decode("latin-1"))
        return RequestTrace(self._spans, parent, key, door, rows) if wanted else None


class RequestTrace:
    """Invariant: every span is ended once. A request that is sent again has another flight."""

    __slots__ = ("_flight", "_spans", "_whole")

    def __init__(self, spans: Spans, parent: Parent | None, key: ModelKey, door: str, rows: int) -> None:
        told = {
            "pipeline.model": key.model, "pipeline.version": key.version, "pipeline.door": door,
            "pipeline.rows": rows,
        }  # fmt: skip
        self._spans = spans
        self._whole = spans.begin("predict", "server", parent, time.time_ns(), **told)
        self._flight: Span | None = None

    def sent(self) -> str:
        """It goes to a worker now; what to tell that."""
        self._land("worker_lost")
        self._flight = self._spans.begin("flight", "client", parent_from(self._whole), time.time_ns())
        return traceparent_of(self._flight)

    def ended(self, answer: Answer | PipelineError) -> None:
        """It was answered."""
        if isinstance(answer, PipelineError):
            self._land(answer.code)
            fail(self._whole, answer.code)
        else:
            whole = self._whole
            whole.set_attribute("pipeline.worker", answer.by.worker)
            whole.set_attribute("pipeline.cache_hit", answer.hit)
            whole.set_attribute("pipeline.queue_seconds", answer.queue)
            self._land()
        self._whole.end()

    def _land(self, error: str = "") -> None:
        if self._flight is not None:
            if error:
                fail(self._flight, error)
            self._flight.end()
            self._flight = None
