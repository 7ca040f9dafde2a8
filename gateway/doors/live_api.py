"""What the doors that stay open are, for the OpenAPI document; it cannot say what a WebSocket carries."""

from __future__ import annotations

from common.errors import Overloaded
from gateway.doors.shape import Failure
from gateway.openapi.operation import Answer, Operation, Parameter, Shape, Tag

LIVE = Tag("Live", "Connections that stay open.")

EVENTS = Operation(
    name="events",
    tag=LIVE,
    summary="What happens, as Server-Sent Events",
    description="Workers that come and go, versions that serve, experiments, jobs; until the client goes.",
    parameters=(Parameter("Last-Event-ID", "header", "the last event that is known already"),),
    answers={200: Answer("The events", (Shape(media_type="text/event-stream"),))},
    errors=(Overloaded,),
)
SOCKET = Operation(
    name="socket",
    tag=LIVE,
    summary="Predictions over a WebSocket",
    answers={
        101: Answer("The WebSocket is open"),
        426: Answer("The request asks for no WebSocket", (Shape((Failure,)),)),
    },
)
