"""Probes: `/health/live`, `/health/ready` and `/health/startup`, which need no protocol."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from gateway.doors.answers import json_response
from gateway.doors.monitoring.health_api import LIVE, READY, STARTUP
from gateway.doors.shape import failure
from gateway.observing.health import Health
from gateway.openapi.operation import Described


class HealthDoor:
    """200, or 503 and why."""

    def __init__(self, health: Health) -> None:
        self._health = health

    def routes(self) -> list[Described]:
        """For the app."""
        return [
            Described("/health/live", self.live, get=LIVE),
            Described("/health/ready", self.ready, get=READY),
            Described("/health/startup", self.startup, get=STARTUP),
        ]

    async def live(self, _request: Request) -> Response:
        """Whoever is answered knows."""
        return _answer("")

    async def ready(self, _request: Request) -> Response:
        """Whether a prediction would be answered now."""
        return _answer(self._health.why_not_ready())

    async def startup(self, _request: Request) -> Response:
        """Whether what was there before is there again."""
        return _answer(self._health.starting)


def _answer(why_not: str) -> Response:
    if why_not:
        return json_response(failure(why_not), 503, {"retry-after": "1"})
    return json_response({"status": True, "message": "OK"})
