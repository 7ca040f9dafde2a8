"""What the doors that stay open and what they tell are, for the OpenAPI document."""

from __future__ import annotations

from typing import Annotated, Any, TypedDict

from msgspec import Meta

from common.errors import Overloaded
from gateway.doors.rest_api import FLEET
from gateway.openapi.operation import Answer, Operation, Parameter, Shape, Tag

LIVE = Tag("Live", "Connections that stay open.")


class HistoryShown(TypedDict):
    """The last hour, the oldest step first; durations in milliseconds."""

    status: bool
    message: str
    step_s: Annotated[float, Meta(description="seconds from one to the next")]
    at: Annotated[list[float], Meta(description="the end of each step, in seconds since 1970")]
    requests_per_second: list[float]
    failures_per_second: Annotated[list[float], Meta(description="of these, what was an error")]
    p50: Annotated[list[float | None], Meta(description="null where nothing was answered")]
    p99: list[float | None]
    queue_requests: Annotated[list[int], Meta(description="at the end of the step, as all that follow")]
    requests_in_progress: list[int]
    workers_ready: list[int]
    workers: list[int]


class FailureShown(TypedDict):
    """Requests for one version that failed of one thing."""

    model: Annotated[str, Meta(description="empty where none of that name serves")]
    version: Annotated[str, Meta(description="empty where the request was refused before it had one")]
    code: str
    message: Annotated[str, Meta(description="of the last of them")]
    count: int
    first: Annotated[float, Meta(description="seconds since 1970")]
    last: float


class RecentShown(TypedDict):
    """What happened lately, the newest first."""

    status: bool
    message: str
    failures: list[FailureShown]
    events: Annotated[list[dict[str, Any]], Meta(description="as `/events` tells them, each with its time")]


EVENTS = Operation(
    name="events",
    tag=LIVE,
    summary="What happens, as Server-Sent Events",
    description="Workers that come and go, versions that serve, experiments, jobs; until the client goes.",
    parameters=(Parameter("Last-Event-ID", "header", "the last event that is known already"),),
    answers={200: Answer("The events", (Shape(media_type="text/event-stream"),))},
    errors=(Overloaded,),
)
HISTORY = Operation(
    name="history",
    tag=FLEET,
    summary="Request rate, latency, queue and workers over the last hour",
    answers={200: Answer("A list of each", (Shape((HistoryShown,)),))},
)
RECENT = Operation(
    name="recent",
    tag=FLEET,
    summary="What requests failed of lately, and what happened",
    description="Failures since the gateway started, up to 100 kinds; the last 200 events.",
    answers={200: Answer("Both", (Shape((RecentShown,)),))},
)
DASHBOARD_LIVE = Operation(
    name="dashboardLive",
    tag=LIVE,
    summary="All that the dashboard shows, as Server-Sent Events",
    description="`status`, `history`, `recent`, `failures` and `event`: what the requests of these names say,"
    " first all of it and then what is new.",
    answers={200: Answer("The events", (Shape(media_type="text/event-stream"),))},
    errors=(Overloaded,),
)
