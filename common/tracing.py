"""Spans for OpenTelemetry: who a request's trace is, and where its spans go. The only file that imports it.

Nothing is imported unless somebody asks for spans: the extra `otel` is for these alone.
"""

from __future__ import annotations

import math
import random
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from common.errors import PipelineError

if TYPE_CHECKING:
    from opentelemetry.trace import Span, Tracer

HEADER = b"traceparent"
EXPORT_TIME = 2.0  # for a collector to take a batch of spans
CLOSE_TIME = 3.0  # for what is left of them at the end
_SAMPLED = 1

# W3C Trace Context, 3.2: later versions may go on behind what we know.
_FORM = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")


class Parent(NamedTuple):
    """A span of somebody else's that ours belong under."""

    trace: int
    span: int
    sampled: bool


def read_parent(traceparent: str) -> Parent | None:
    """What a `traceparent` says; None for what is none, which counts as absent (W3C, 4.3)."""
    match = _FORM.fullmatch(traceparent)
    if match is None or match[1] == "ff" or (match[1] == "00" and match[5]):
        return None
    trace, span = int(match[2], 16), int(match[3], 16)
    return Parent(trace, span, bool(int(match[4], 16) & _SAMPLED)) if trace and span else None


class Spans:
    """Makes spans. Which requests have any is decided where a trace begins: with us for the share `rate` of
    those that come without a parent.

    Each of these is chosen with that chance, whatever became of the others; drawn is how many are not chosen
    until the next one is, which costs a request that is not no more than counting down.
    """

    def __init__(
        self, tracer: Tracer, rate: float = 0.0, chance: Callable[[], float] = random.random
    ) -> None:
        self._tracer = tracer
        self._rate = rate
        self._chance = chance  # in [0, 1)
        self._left = self._gap()

    def parent_of(self, traceparent: str | None) -> tuple[bool, Parent | None]:
        """(whether a request has spans, what they are under)."""
        parent = None if traceparent is None else read_parent(traceparent)
        if parent is not None:
            return parent.sampled, parent
        self._left -= 1
        if self._left >= 0:
            return False, None
        self._left = self._gap()
        return True, None

    def _gap(self) -> float:
        """Of a geometric distribution, by its inverse."""
        if self._rate >= 1:
            return 0
        return math.log1p(-self._chance()) // math.log1p(-self._rate) if self._rate > 0 else math.inf

    def begin(self, name: str, kind: str, parent: Parent | None, began: int, **told: Any) -> Span:
        """A span that began at a time in unix nanoseconds; `kind` is server, client, internal or consumer."""
        from opentelemetry import trace

        context = None
        if parent is not None:
            flags = trace.TraceFlags(trace.TraceFlags.SAMPLED)
            within = trace.SpanContext(parent.trace, parent.span, is_remote=True, trace_flags=flags)
            context = trace.set_span_in_context(trace.NonRecordingSpan(within))
        kinds = trace.SpanKind[kind.upper()]
        return self._tracer.start_span(name, context, kinds, attributes=told, start_time=began)


def parent_from(span: Span) -> Parent:
    """What spans below this one are under."""
    context = span.get_span_context()
    return Parent(context.trace_id, context.span_id, True)


def traceparent_of(span: Span) -> str:
    """What tells another process to go on below this span."""
    context = span.get_span_context()
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-01"


def fail(span: Span, word: str) -> None:
    """The span's work ended in an error."""
    from opentelemetry.trace import Status, StatusCode

    span.set_status(Status(StatusCode.ERROR, word))
    span.set_attribute("error.type", word)


@contextmanager
def open_spans(url: str | None, service: str, rate: float = 0.0, **about: str) -> Iterator[Spans | None]:
    """Spans that go to the collector at `url` as OTLP over HTTP (protobuf), None without one. `about` is this
    process. A collector that is away costs the spans, and nothing else; the last ones get a moment."""
    if url is None:
        yield None
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ModuleNotFoundError as error:
        raise PipelineError(f"--otel needs {error.name}: pip install 'pipeline-inference[otel]'") from None
    exporter = OTLPSpanExporter(f"{url.rstrip('/')}/v1/traces", timeout=EXPORT_TIME)
    resource = Resource.create({"service.name": service, **about})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    try:
        yield Spans(provider.get_tracer("pipeline"), rate)
    finally:
        # The library would wait half a minute for a collector that is away.
        closing = threading.Thread(target=provider.shutdown, daemon=True)
        closing.start()
        closing.join(CLOSE_TIME)
