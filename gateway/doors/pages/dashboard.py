"""`GET /dashboard`: a page of files in `static/dashboard`, which asks this gateway as anybody may."""

from __future__ import annotations

from functools import cache

from starlette.requests import Request
from starlette.responses import Response

from common.errors import NotFound
from gateway.doors.pages.dashboard_api import DASHBOARD, DASHBOARD_PART
from gateway.doors.pages.documents import STATIC, Document
from gateway.openapi.operation import Described

FOLDER = STATIC / "dashboard"
PAGE_FILE = "dashboard.html"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".txt": "text/plain; charset=utf-8",
}

# Its own parts and its own gateway, and pictures that it was given by either.
IMAGES = "'self' data: blob:"


def dashboard_routes() -> list[Described]:
    """For the app; every file is read when it is first asked for."""

    @cache
    def parts() -> frozenset[str]:
        return frozenset(path.name for path in FOLDER.iterdir() if path.suffix in TYPES)

    @cache
    def part(name: str) -> Document:
        path = FOLDER / name
        return Document(path.read_bytes(), TYPES[path.suffix], images=IMAGES)

    async def show_page(request: Request) -> Response:
        return part(PAGE_FILE).answer(request)

    async def show_part(request: Request) -> Response:
        name = request.path_params["part"]
        if name not in parts():
            raise NotFound(f"there is no {name} here: the page is at /dashboard")
        return part(name).answer(request)

    return [
        Described("/dashboard", show_page, get=DASHBOARD),
        Described("/dashboard/{part}", show_part, get=DASHBOARD_PART),
    ]
