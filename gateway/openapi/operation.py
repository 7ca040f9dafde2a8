"""What is said of an operation of REST for the OpenAPI document, and the route that carries it.

The shapes of bodies are types that msgspec knows: the structs that decode what comes, the TypedDicts that
what is answered is made of. So the document cannot say other than the code.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from typing import Any, Literal, NamedTuple

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from common.errors import PipelineError
from gateway.auth.asking import admit, client_of, while_allowed
from gateway.auth.roles import Role, role_of_method
from gateway.doors.shape import Failure

Endpoint = Callable[[Request], Awaitable[Response]]

JSON = "application/json"
BINARY = "application/octet-stream"


class Tag(NamedTuple):
    """What operations are grouped under."""

    name: str
    description: str


class Parameter(NamedTuple):
    """One value in a request beside its body; those in the path are always required, others never."""

    name: str
    place: Literal["path", "query", "header"]
    description: str
    type: Any = str
    example: Any = None


class Header(NamedTuple):
    """One header of an answer."""

    name: str
    description: str
    type: Any = str


class Shape(NamedTuple):
    """What a body looks like: any of `types`, of which bytes and pages have none."""

    types: tuple[Any, ...] = ()
    examples: Mapping[str, Any] = {}
    media_type: str = JSON
    required: bool = True
    content_types: Mapping[str, str] = {}  # of the parts of a form


class Answer(NamedTuple):
    """What one status is answered with; several shapes differ in their media types."""

    description: str
    shapes: tuple[Shape, ...] = ()
    headers: tuple[Header, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One method of one path.

    `errors` are what it may raise beside what any operation may be answered; their statuses are read from
    them. `body` is any of several media types. `refusal` is the type of every error's body. `role` is what it
    needs, where that is not what its method says (`role_of_method`).
    """

    name: str
    tag: Tag
    summary: str
    answers: Mapping[int, Answer]
    description: str = ""
    parameters: tuple[Parameter, ...] = ()
    body: tuple[Shape, ...] = ()
    errors: tuple[type[PipelineError], ...] = ()
    refusal: Any = Failure
    role: Role | None = None

    def role_for(self, method: str) -> Role:
        """What whoever asks for it has to hold, where tokens say who does."""
        return self.role or role_of_method(method)


class Described(Route):
    """A route that says what it does: one operation for each method that it takes."""

    def __init__(self, path: str, endpoint: Endpoint, /, **operations: Operation) -> None:
        """`operations` are named for their methods, in lower case."""
        roles = {name.upper(): each.role_for(name.upper()) for name, each in operations.items()}

        @wraps(endpoint)
        async def admitted(request: Request) -> Response:
            role = roles.get(request.method, roles.get("GET", Role.ADMIN))
            await admit(request.scope, role)
            client = client_of(request.scope)
            if client is not None:
                request = Request(request.scope, while_allowed(client, role, request.receive))
            return await endpoint(request)

        super().__init__(path, admitted, methods=list(roles))
        self.operations = operations
        self.roles = roles


class NotOffered(Route):
    """A path that is there only to be refused with a sentence: no part of what is offered, or described."""
