"""Pure: what each route of each door needs, read from the routes themselves."""

from __future__ import annotations

from common.tokens import ROLES as TOKENS
from gateway.auth.calls import ROLES as CALLS
from gateway.auth.calls import role_of_path
from gateway.auth.roles import Role, holds
from gateway.core import Doors
from gateway.doors.grpc.services import make_methods
from gateway.doors.ws.ws import SocketDoor
from gateway.openapi.operation import Described, NotOffered
from tests.gateway.site import open_site

OPEN = {
    "GET /dashboard", "GET /dashboard/{part}", "GET /docs", "GET /docs/{part}", "GET /openapi.json",
    "GET /health/live", "GET /health/ready", "GET /health/startup", "GET /ws",
    "GET /v2/health/live", "GET /v2/health/ready",
    "GET /v2/models/{model}/ready", "GET /v2/models/{model}/versions/{version}/ready",
}  # fmt: skip
ANY = {
    "GET /jobs", "GET /jobs/{id}", "GET /v2", "GET /v2/models/{model}", "GET /v2/models/{model}/config",
    "GET /v2/models/{model}/versions/{version}", "GET /v2/models/{model}/versions/{version}/config",
}  # fmt: skip
ADMIN = {
    "PUT /set_weights", "PUT /models/{model}", "PATCH /models/{model}",
    "PUT /models/{model}/versions/{version}", "DELETE /models/{model}/versions/{version}",
    "POST /models/{model}/activate", "POST /models/{model}/rollback",
    "PUT /experiments/{name}", "DELETE /experiments/{name}", "POST /experiments/{name}/promote",
    "PUT /autoscaler", "POST /fleet/{worker}/drain",
    "POST /v2/repository/models/{model}/load", "POST /v2/repository/models/{model}/unload",
}  # fmt: skip


async def table() -> dict[str, Role]:
    async with open_site() as site:
        doors = Doors(site, max_upload=1000)
        return {
            f"{method} {route.path}": role
            for route in doors.app.routes
            if isinstance(route, Described)
            for method, role in route.roles.items()
        }


async def test_every_route_of_rest_says_what_it_needs_or_is_refused_anyway(virtual_time):
    async with open_site() as site:
        routes = Doors(site, max_upload=1000).app.routes
    rest = [route for route in routes if not isinstance(route, Described | NotOffered)]
    assert [route.endpoint.__class__ for route in rest] == [SocketDoor]  # asks by itself
    assert all(len(route.roles) >= 1 for route in routes if isinstance(route, Described))


async def test_what_is_open_and_what_changes_anything_is_written_down_here(virtual_time):
    roles = await table()
    by_role = {role: {name for name, each in roles.items() if each is role} for role in Role}
    assert by_role[Role.OPEN] == OPEN
    assert by_role[Role.ANY] == ANY
    assert by_role[Role.ADMIN] == ADMIN
    assert {name for name in by_role[Role.PREDICT] if "predict" not in name and "infer" not in name} == {
        "POST /jobs", "DELETE /jobs/{id}", "GET /jobs/{id}/result",
        *(f"POST /models/{{model}}{of}/{kind}" for of in ("", "/versions/{version}")
          for kind in ("audio", "image", "json", "tensor", "text", "vector")),
    }  # fmt: skip
    assert all(name.startswith("GET ") for name in by_role[Role.READ] - {"POST /v2/repository/index"})
    assert {"GET /status", "GET /metrics", "GET /events"} <= by_role[Role.READ]


async def test_every_method_of_grpc_has_a_role_of_its_own(virtual_time):
    async with open_site() as site:
        paths = list(make_methods(site, Doors(site, max_upload=1000)))
    assert {path.rpartition(b"/")[2].decode() for path in paths} == set(CALLS)
    assert role_of_path(b"/inference.GRPCInferenceService/New") is Role.ADMIN
    assert role_of_path(b"") is Role.ADMIN


def test_predict_and_read_have_nothing_in_common_that_is_not_everybodys():
    held = {token: {role for role in Role if holds(token, role)} for token in TOKENS}
    assert held["admin"] == set(Role)
    assert held["predict"] & held["read"] == {Role.OPEN, Role.ANY}
    assert Role.PREDICT in held["predict"]
    assert Role.READ in held["read"]
