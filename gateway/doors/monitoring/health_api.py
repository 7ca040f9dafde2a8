"""What probes are answered, for the OpenAPI document."""

from __future__ import annotations

from common.errors import Overloaded
from gateway.auth.roles import Role
from gateway.doors.monitoring.metrics_api import WATCHING
from gateway.doors.shape import Done
from gateway.openapi.operation import Answer, Operation, Shape

_OK = {200: Answer("It is so", (Shape((Done,)),))}

LIVE = Operation(
    name="live", role=Role.OPEN, tag=WATCHING, summary="Whether the gateway is there", answers=_OK
)
READY = Operation(
    name="ready",
    role=Role.OPEN,
    tag=WATCHING,
    summary="Whether a worker can answer the default model now",
    description="503 says why not. Where no default model is set, any that serves counts. A gateway that"
    " has scaled to zero is ready: its first request starts a worker.",
    answers=_OK,
    errors=(Overloaded,),
)
STARTUP = Operation(
    name="startup",
    role=Role.OPEN,
    tag=WATCHING,
    summary="Whether what was there before is there again",
    description="The state directory is read, and the folder of models loaded.",
    answers=_OK,
    errors=(Overloaded,),
)
