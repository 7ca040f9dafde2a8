"""`GET /openapi.json`, and `GET /docs`, a page that shows it: what is answered the same every time."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

from common.errors import NotFound
from gateway.doors.pages.documents_api import OPENAPI, PAGE, PART
from gateway.doors.shape import encode
from gateway.openapi.document import make_document
from gateway.openapi.operation import JSON, Described

STATIC = Path(__file__).parents[2] / "static"
PAGE_FILE = "docs.html"
PARTS = {"docs.css": "text/css; charset=utf-8", "docs.js": "text/javascript; charset=utf-8"}

# A page may load its own parts and ask its own gateway, and nothing else; no other may show it in a frame.
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "img-src {images}",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "Cache-Control": "no-cache",  # kept, and asked for by its ETag: a new release is seen at once
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Vary": "Accept-Encoding",
}


class Document:
    """Bytes that never change, plain and compressed."""

    def __init__(self, body: bytes, media_type: str, images: str = "data:") -> None:
        self._body = body
        self._packed = gzip.compress(body, 9, mtime=0)
        self._tag = hashlib.sha256(body).hexdigest()[:32]
        self._media_type = media_type
        self._policy = POLICY.format(images=images)

    def answer(self, request: Request) -> Response:
        """The whole of it, or 304 to whoever has it."""
        packed = "gzip" in request.headers.get("accept-encoding", "")
        tag = f'"{self._tag}{"-gzip" if packed else ""}"'
        headers = {**HEADERS, "ETag": tag, "Content-Security-Policy": self._policy}
        known = [
            each.strip().removeprefix("W/") for each in request.headers.get("if-none-match", "").split(",")
        ]
        if tag in known or "*" in known:
            return Response(status_code=304, headers=headers)
        if packed:
            headers["Content-Encoding"] = "gzip"
        body = self._packed if packed else self._body
        return Response(body, headers=headers, media_type=self._media_type)


def document_routes(app: Callable[[], Starlette]) -> list[Described]:
    """For the app, whose routes are described; all is made when it is first asked for."""

    @cache
    def openapi() -> Document:
        return Document(encode(make_document(app().routes)), JSON)

    @cache
    def static(name: str, media_type: str) -> Document:
        return Document((STATIC / name).read_bytes(), media_type)

    async def show_openapi(request: Request) -> Response:
        return openapi().answer(request)

    async def show_page(request: Request) -> Response:
        return static(PAGE_FILE, "text/html; charset=utf-8").answer(request)

    async def show_part(request: Request) -> Response:
        part = request.path_params["part"]
        if part not in PARTS:
            raise NotFound(f"there is no {part} here: {' and '.join(PARTS)} are")
        return static(part, PARTS[part]).answer(request)

    return [
        Described("/openapi.json", show_openapi, get=OPENAPI),
        Described("/docs", show_page, get=PAGE),
        Described("/docs/{part}", show_part, get=PART),
    ]
