"""What everything under `/autoscaler` takes and answers, for the OpenAPI document."""

from __future__ import annotations

from typing import Annotated, Optional, TypedDict, get_type_hints

import msgspec
from msgspec import Meta

from common.errors import DiskFull, InvalidRequest, NotFound
from gateway.autoscaler.policy import Parameters
from gateway.autoscaler.scaling import Scaling
from gateway.openapi.operation import Answer, Operation, Parameter, Shape, Tag

AUTOSCALER = Tag("Autoscaler", "How many workers there are, and why: bounds, policy, pause, decisions.")
MOST = 1000

# RFC 7396: what is left out stays as it is, null is as the gateway was started.
PolicyPatch = msgspec.defstruct(
    "PolicyPatch",
    [
        (name, Optional[kind], msgspec.UNSET)  # noqa: UP045 - `kind | None` is not possible for every kind
        for name, kind in get_type_hints(Parameters, include_extras=True).items()
    ],
    forbid_unknown_fields=True,
)
ScalingPatch = msgspec.defstruct(
    "ScalingPatch",
    [
        (name, Optional[kind], msgspec.UNSET)  # noqa: UP045
        for name, kind in (get_type_hints(Scaling, include_extras=True) | {"policy": PolicyPatch}).items()
    ],
    forbid_unknown_fields=True,
)


class DecisionShown(TypedDict):
    """A decision: how many workers there should be."""

    n: int
    rule: Annotated[
        str, Meta(description="stable, trend, queue, panic, idle, cool-down, bounds or step: what said so")
    ]
    reason: str


class WorkersShown(TypedDict):
    """How many workers there are."""

    wanted: int
    ready: int
    starting: int
    draining: int
    failing: Annotated[int, Meta(description="those that could not be started, and are tried again")]


class TrafficShown(TypedDict):
    """What was seen last."""

    rows_per_second: Annotated[float, Meta(description="over the panic window")]
    rows_waiting: int
    requests_in_progress: int


class CapacityShown(TypedDict):
    """What one worker holds, as measured."""

    rows_per_second: float
    batch_ms: Annotated[float, Meta(description="what a batch takes, as they are")]


class AutoscalerShown(TypedDict):
    """What the autoscaler goes by, and what it makes of it."""

    status: bool
    message: str
    min_workers: int
    max_workers: int
    scale_to_zero: bool
    paused: bool
    policy: Parameters
    workers: WorkersShown
    decision: DecisionShown | None
    traffic: TrafficShown | None
    capacity: Annotated[CapacityShown | None, Meta(description="null until a request was answered")]


class EventShown(DecisionShown):
    """A decision that was other than the one before, or by another rule."""

    number: int
    at: Annotated[float, Meta(description="seconds since 1970")]
    before: Annotated[int, Meta(description="how many were wanted")]
    paused: Annotated[bool, Meta(description="whether it was not followed")]
    workers_ready: int
    rows_waiting: int
    requests_in_progress: int


class EventList(TypedDict):
    """The last decisions, newest first."""

    status: bool
    message: str
    events: list[EventShown]


SHOWN = Answer("What it goes by, and what it decided last", (Shape((AutoscalerShown,)),))
NO_WORKERS = "404 where the gateway starts no workers itself."

SHOW = Operation(
    name="showAutoscaler",
    tag=AUTOSCALER,
    summary="Bounds, policy, and how many workers there should be",
    description=NO_WORKERS,
    answers={200: SHOWN},
    errors=(NotFound,),
)
CHANGE = Operation(
    name="changeAutoscaler",
    tag=AUTOSCALER,
    summary="Change bounds or policy, pause or go on",
    description="What is left out stays as it is, null is as the gateway was started; kept over a restart. Up"
    f" to as many workers as the gateway was started with as `max_workers`. {NO_WORKERS}",
    body=(
        Shape(
            (ScalingPatch,),
            {
                "policy": {"policy": {"target_queue_ms": 50, "scale_down_delay": 60}},
                "pause": {"paused": True},
                "as started": {"paused": None, "policy": None},
            },
        ),
    ),
    answers={200: SHOWN},
    errors=(InvalidRequest, NotFound, DiskFull),
)
EVENTS = Operation(
    name="listDecisions",
    tag=AUTOSCALER,
    summary="The last decisions with their reasons, newest first",
    description=NO_WORKERS,
    parameters=(Parameter("limit", "query", "how many at most", Annotated[int, Meta(ge=1, le=MOST)], 100),),
    answers={200: Answer("Decisions", (Shape((EventList,)),))},
    errors=(InvalidRequest, NotFound),
)
