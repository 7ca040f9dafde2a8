"""grpc.health.v1: whether requests are served, asked once or watched."""

from __future__ import annotations

from collections.abc import Callable, Collection

import trio

from common.grpc.call import Call, Method, stream, unary
from common.grpc.statuses import Refused, Status
from gateway.doors.grpc.codec import parse
from gateway.doors.grpc.messages import message

LOOK_EVERY = 0.5

_Request = message("grpc.health.v1.HealthCheckRequest")
_Response = message("grpc.health.v1.HealthCheckResponse")


class HealthDoor:
    """The server's health ("") is that of each of its services."""

    def __init__(self, is_ready: Callable[[], bool], services: Collection[str]) -> None:
        self._is_ready = is_ready
        self._services = {"", *services}

    def methods(self) -> dict[str, Method]:
        """By their names."""
        return {"Check": unary(self.check), "Watch": stream(self.watch)}

    async def check(self, _call: Call, raw: bytes) -> bytes:
        """How it is now."""
        service = parse(_Request, raw).service
        if service not in self._services:
            raise Refused(Status.NOT_FOUND, f"there is no service {service[:200]}")
        return self._look(service)

    async def watch(self, call: Call) -> None:
        """How it is now, and how it is whenever that changes."""
        raw = await call.receive()
        service = parse(_Request, raw or b"").service
        said = b""
        while True:
            now = self._look(service)
            if now != said:
                call.send(now)
                said = now
            await call.sent(0)
            await trio.sleep(LOOK_EVERY)

    def _look(self, service: str) -> bytes:
        kinds = _Response.ServingStatus
        if service not in self._services:
            word = "SERVICE_UNKNOWN"
        else:
            word = "SERVING" if self._is_ready() else "NOT_SERVING"
        answer: bytes = _Response(status=kinds.Value(word)).SerializeToString()
        return answer
