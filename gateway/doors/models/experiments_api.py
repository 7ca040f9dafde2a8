"""What everything under `/experiments` takes and answers, for the OpenAPI document."""

from __future__ import annotations

from typing import Annotated, TypedDict

import msgspec
from msgspec import Meta

from common.errors import Conflict, DiskFull, InvalidRequest, NotFound
from gateway.doors.rest_api import WorkerLoaded
from gateway.experiments.guard import Guard
from gateway.experiments.plans import Plan
from gateway.openapi.operation import Answer, Operation, Parameter, Shape, Tag

EXPERIMENTS = Tag("Experiments", "The traffic of a model split between versions, with shadows and canaries.")


class Promotion(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /experiments/{name}/promote`, which may be empty."""

    arm: Annotated[str | None, Meta(description="the arm to promote; by default the one canary")] = None


class Estimate(TypedDict):
    """A figure, and where it lies at 95 %; the ends are null where there is too little to say."""

    value: float
    low: float | None
    high: float | None


class Latencies(TypedDict):
    """Of requests that did not fail, in milliseconds."""

    mean: Estimate
    p50: Estimate
    p95: Estimate
    p99: Estimate


class Figures(TypedDict):
    """What a version did in an experiment."""

    requests: int
    errors: int
    error_rate: Estimate
    latency_ms: Latencies


class Difference(TypedDict):
    """How an arm differs from the control: above 0 is more errors, or slower."""

    error_rate: Estimate
    latency_ms: Estimate


class ArmFigures(Figures):
    """What an arm is, and what it did."""

    weight: Annotated[float, Meta(description="as it was asked for")]
    share: Annotated[float, Meta(description="of the requests, from 0 to 1: 0 for one that was taken back")]
    difference: Annotated[Difference | None, Meta(description="null for the control itself")]


class Compared(TypedDict):
    """How far a shadow's answers were from those that were given."""

    compared: int
    left_out: Annotated[int, Meta(description="requests that were not copied, or could not be compared")]
    mean_absolute_difference: Estimate | None


class ShadowFigures(Figures, Compared):
    """What a shadow did."""


class Summary(TypedDict):
    """What an experiment is."""

    name: str
    model: str
    state: Annotated[str, Meta(description="running, tripped (a canary was taken back), promoted")]
    reason: Annotated[str, Meta(description="why it tripped")]
    promoted: Annotated[str | None, Meta(description="the arm that was promoted")]
    created: Annotated[float, Meta(description="seconds since 1970")]
    sticky: str | None
    control: str
    guard: Guard | None
    weights: dict[str, float]


class ExperimentList(TypedDict):
    """Every experiment."""

    status: bool
    message: str
    experiments: list[Summary]


class Report(Summary):
    """An experiment with its figures."""

    status: bool
    message: str
    arms: dict[str, ArmFigures]
    shadows: dict[str, ShadowFigures]


class Promoted(Report):
    """An experiment, and what became of the rollout of its winner."""

    workers_count: int
    workers: list[WorkerLoaded]


NAME = Parameter("name", "path", "an experiment's name", str, "sum-2")
REPORT = Answer("The experiment, with what it did", (Shape((Report,)),))

LIST = Operation(
    name="listExperiments",
    tag=EXPERIMENTS,
    summary="Every experiment",
    answers={200: Answer("The experiments", (Shape((ExperimentList,)),))},
)
SHOW = Operation(
    name="showExperiment",
    tag=EXPERIMENTS,
    summary="What each arm did, with 95 % intervals",
    parameters=(NAME,),
    answers={200: REPORT},
    errors=(NotFound,),
)
PUT = Operation(
    name="putExperiment",
    tag=EXPERIMENTS,
    summary="Begin an experiment, or change it",
    description="Requests that name no version are split between the arms by a hash: whoever sends the same"
    " value in the `sticky` header always has the same arm, and a change of weights moves as few as can be.",
    parameters=(NAME,),
    body=(
        Shape((Plan,), {"split": {"model": "sum", "arms": {"1": 90, "2": 10}, "sticky": "header:X-User"}}),
    ),
    answers={200: REPORT},
    errors=(InvalidRequest, NotFound, Conflict, DiskFull),
)
END = Operation(
    name="endExperiment",
    tag=EXPERIMENTS,
    summary="End an experiment: the active version answers again",
    parameters=(NAME,),
    answers={200: REPORT},
    errors=(NotFound, DiskFull),
)
PROMOTE = Operation(
    name="promoteArm",
    tag=EXPERIMENTS,
    summary="Make an arm the active version, and end the split",
    parameters=(NAME,),
    body=(Shape((Promotion,), {"arm": {"arm": "2"}}, required=False),),
    answers={200: Answer("The experiment, and what each worker said", (Shape((Promoted,)),))},
    errors=(InvalidRequest, NotFound, Conflict, DiskFull),
)
