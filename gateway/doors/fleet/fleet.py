"""REST for single workers: to have one leave."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from common.errors import NotFound
from gateway.doors.answers import json_response
from gateway.doors.fleet.fleet_api import DRAIN, Drained, Leaving
from gateway.fleet.fleet import Fleet
from gateway.openapi.operation import Described


def fleet_routes(fleet: Fleet) -> list[Described]:
    """`/fleet` for the app."""

    async def drain(request: Request) -> Response:
        name = request.path_params["worker"]
        found = [worker for worker in fleet.roster if name in (worker.name, worker.id)]
        if not found:
            raise NotFound(f"there is no worker {name}: GET /status says which there are")
        for worker in found:
            fleet.dismiss(worker.id)
        leaving: list[Leaving] = [
            {"name": each.name, "id": each.id, "state": each.state.value} for each in found
        ]
        drained: Drained = {"status": True, "message": "OK", "workers": leaving}
        return json_response(drained)

    return [Described("/fleet/{worker}/drain", drain, post=DRAIN)]
