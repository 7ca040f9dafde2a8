"""What requests about single workers take and answer, for the OpenAPI document."""

from __future__ import annotations

from typing import Annotated, TypedDict

from msgspec import Meta

from common.errors import NotFound
from gateway.doors.rest_api import FLEET
from gateway.openapi.operation import Answer, Operation, Parameter, Shape


class Leaving(TypedDict):
    """A worker that was told to leave."""

    name: str
    id: str
    state: Annotated[str, Meta(description="`draining`, until it has finished what it has")]


class Drained(TypedDict):
    """Those that were told to leave."""

    status: bool
    message: str
    workers: list[Leaving]


DRAIN = Operation(
    name="drainWorker",
    tag=FLEET,
    summary="Have a worker finish what it has, and leave",
    description="It is sent nothing new, and its process ends. One that the gateway started is replaced; one"
    " that a service manager keeps running comes back as that sees fit. Again for one that leaves already"
    " changes nothing. Where several go by the name, all of them leave.",
    parameters=(
        Parameter("worker", "path", "a worker's name or id, as `GET /status` says it", str, "gpu-7"),
    ),
    answers={200: Answer("Those that leave", (Shape((Drained,)),))},
    errors=(NotFound,),
)
