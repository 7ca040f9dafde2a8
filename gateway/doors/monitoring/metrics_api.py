"""What watches the gateway from outside, for the OpenAPI document."""

from __future__ import annotations

from gateway.openapi.operation import Answer, Operation, Shape, Tag

WATCHING = Tag("Watching", "For what looks after the gateway: metrics and probes.")

METRICS = Operation(
    name="metrics",
    tag=WATCHING,
    summary="Figures for Prometheus",
    description="In its text format 0.0.4.",
    answers={200: Answer("Every figure as it is now", (Shape(media_type="text/plain"),))},
)
