"""`GET /metrics`, for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client import generate_latest as write
from starlette.requests import Request
from starlette.responses import Response

from gateway.doors.monitoring.metrics_api import METRICS
from gateway.doors.monitoring.status import StatusDoor
from gateway.metrics.page import Page
from gateway.metrics.text import CONTENT_TYPE
from gateway.openapi.operation import Described


class MetricsDoor:
    """Asks the workers, as `/status` does and together with it; one that is slow is shown as it was."""

    def __init__(self, page: Page, status: StatusDoor) -> None:
        self._page = page
        self._status = status
        self._process = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self._process)

    def routes(self) -> list[Described]:
        """For the app."""
        return [Described("/metrics", self.metrics, get=METRICS)]

    async def metrics(self, _request: Request) -> Response:
        """The whole page."""
        await self._status.look()
        body = self._page.text().encode() + write(self._process)
        return Response(body, media_type=CONTENT_TYPE)
