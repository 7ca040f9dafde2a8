"""What the document and its page are, for the document itself."""

from __future__ import annotations

from typing import Any

from common.errors import NotFound
from gateway.auth.roles import Role
from gateway.openapi.operation import Answer, Header, Operation, Parameter, Shape, Tag

DOCUMENTS = Tag("Documents", "This description, and pages.")

ETAG = Header("ETag", "names these very bytes: with it in `If-None-Match` the answer is 304")
UNCHANGED = Answer("Whoever asks has it already", headers=(ETAG,))


def kept(description: str, *shapes: Shape) -> dict[int, Answer]:
    """What is answered to who has it, and to who has not."""
    return {200: Answer(description, shapes, (ETAG,)), 304: UNCHANGED}


IF_NONE_MATCH = Parameter("If-None-Match", "header", "the ETag of what is known already")

OPENAPI = Operation(
    name="openapi",
    role=Role.OPEN,
    tag=DOCUMENTS,
    summary="This description, as OpenAPI 3.1",
    parameters=(IF_NONE_MATCH,),
    answers=kept("The document", Shape((dict[str, Any],))),
)
PAGE = Operation(
    name="docs",
    role=Role.OPEN,
    tag=DOCUMENTS,
    summary="This description, as a page",
    parameters=(IF_NONE_MATCH,),
    answers=kept("The page", Shape(media_type="text/html")),
)
PART = Operation(
    name="docsPart",
    role=Role.OPEN,
    tag=DOCUMENTS,
    summary="What the page is made of",
    parameters=(Parameter("part", "path", "`docs.css` or `docs.js`", str, "docs.js"), IF_NONE_MATCH),
    answers=kept("The file", Shape(media_type="text/css"), Shape(media_type="text/javascript")),
    errors=(NotFound,),
)
