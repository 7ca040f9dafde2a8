"""What `/ws` is, for the OpenAPI document, which cannot say what a WebSocket carries."""

from __future__ import annotations

from gateway.auth.roles import Role
from gateway.doors.monitoring.live_api import LIVE
from gateway.doors.shape import Failure
from gateway.openapi.operation import Answer, Operation, Shape

SOCKET = Operation(
    name="socket",
    role=Role.OPEN,
    tag=LIVE,
    summary="Predictions over a WebSocket",
    answers={
        101: Answer("The WebSocket is open"),
        426: Answer("The request asks for no WebSocket", (Shape((Failure,)),)),
    },
)
