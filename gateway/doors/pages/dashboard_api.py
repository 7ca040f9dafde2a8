"""What the dashboard's page is, for the OpenAPI document."""

from __future__ import annotations

from common.errors import NotFound
from gateway.auth.roles import Role
from gateway.doors.pages.documents_api import DOCUMENTS, IF_NONE_MATCH, kept
from gateway.openapi.operation import Operation, Parameter, Shape

DASHBOARD = Operation(
    name="dashboard",
    role=Role.OPEN,
    tag=DOCUMENTS,
    summary="A page that shows the fleet, its traffic, models, experiments and jobs",
    parameters=(IF_NONE_MATCH,),
    answers=kept("The page", Shape(media_type="text/html")),
)
DASHBOARD_PART = Operation(
    name="dashboardPart",
    role=Role.OPEN,
    tag=DOCUMENTS,
    summary="What the dashboard is made of",
    parameters=(Parameter("part", "path", "a file that the page names", str, "app.js"), IF_NONE_MATCH),
    answers=kept(
        "The file",
        *(Shape(media_type=f"text/{kind}") for kind in ("html", "css", "javascript", "plain")),
    ),
    errors=(NotFound,),
)
