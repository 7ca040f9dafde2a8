"""The OpenAPI 3.1 document, made of the routes that an app has. Nothing here says what any of them does."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from gateway.auth.roles import Role
from gateway.openapi.operation import JSON, Answer, Described, Header, Operation, Parameter, Shape

Json = dict[str, Any]

TITLE = "Pipeline"
VERSION = "1"  # of the interface, not of the program
DESCRIPTION = (
    "A distributed inference service: one gateway takes requests, many workers run models. Answers are JSON"
    " unless they say otherwise. `HEAD` is answered wherever `GET` is; a method that a path does not take is"
    " 405 with `Allow`."
)
TOKENS = "`pl_…`, of `pipeline token create`, where the gateway was started with `--tokens`."
RETRY_AFTER = Header("Retry-After", "seconds to wait before the next attempt", int)

# What a refusal is called in the document, and when it is given.
REFUSALS: dict[int, tuple[str, str]] = {
    400: ("BadRequest", "The request cannot be understood, or holds values that are not allowed."),
    401: ("Unauthenticated", "The gateway asks for tokens, and none that it knows came."),
    403: ("Forbidden", "The token's role may not do that; the sentence says which may."),
    404: ("NotFound", "There is nothing of this name."),
    408: ("RequestTimeout", "The request did not arrive in time."),
    409: ("Conflict", "It does not fit what is there: another change has to come first."),
    413: ("TooLarge", "The body, or the number of rows in it, is over its limit."),
    414: ("TargetTooLong", "The path with its query is longer than 8 KiB."),
    415: (
        "UnsupportedMediaType",
        "The body is of a kind that the model does not take; the sentence says which.",
    ),
    417: ("ExpectationFailed", "No expectation but `100-continue` is understood."),
    422: ("KeyReused", "The idempotency key came before, with another body."),
    429: (
        "TooManyRequests",
        "More than this token, or this connection, may have now.",
    ),
    431: ("HeadersTooLarge", "The headers are larger than 32 KiB."),
    500: ("Failed", "The server failed on this request, or two workers died of it."),
    501: ("NotImplemented", "The method or the transfer encoding is not implemented."),
    503: ("Unavailable", "No room, no worker, or the server is shutting down: try again in a moment."),
    504: ("DeadlineExceeded", "The deadline passed before the answer came."),
    505: ("VersionNotSupported", "Only HTTP/1.1, HTTP/1.0 and HTTP/2 are spoken."),
    507: ("DiskFull", "The disk has no room for what is to be kept; nothing of it was."),
}
# The server itself may refuse any request so, before or after a door has seen it.
GUARDED = (401, 403, 429)  # where tokens are asked for
ANYWHERE = (400, 408, 413, 414, 417, 431, 500, 501, 503, 505)


def make_document(routes: Iterable[Any]) -> Json:
    """The document of those of the routes that are `Described`."""
    described = [route for route in routes if isinstance(route, Described)]
    operations = [operation for route in described for operation in route.operations.values()]
    schemas = Schemas(operations)
    paths: Json = {}
    responses: Json = {}
    for route in described:
        item = paths.setdefault(route.path_format, {})
        for method, operation in route.operations.items():
            item[method] = _operation(operation, route.roles[method.upper()], schemas, responses)
    tags = {operation.tag: None for operation in operations}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": TITLE,
            "version": VERSION,
            "description": DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "tags": [tag._asdict() for tag in tags],
        "paths": paths,
        "components": {
            "schemas": schemas.components,
            "responses": dict(sorted(responses.items())),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "description": TOKENS}},
        },
    }


class Schemas:
    """The schemas of all types that operations name, each once."""

    def __init__(self, operations: Iterable[Operation]) -> None:
        self._types = list(_types(operations))
        made, components = msgspec.json.schema_components(
            self._types, ref_template="#/components/schemas/{name}"
        )
        self._made = [_portable(schema) for schema in made]
        self.components: Json = {name: _portable(schema) for name, schema in sorted(components.items())}

    def of(self, kind: Any) -> Json:
        """The schema of a type."""
        schema: Json = self._made[self._types.index(kind)]
        return schema


def _types(operations: Iterable[Operation]) -> Iterator[Any]:
    yield int  # of Retry-After
    for operation in operations:
        yield operation.refusal
        for parameter in operation.parameters:
            yield parameter.type
        for shape in operation.body:
            yield from shape.types
        for answer in operation.answers.values():
            for header in answer.headers:
                yield header.type
            for shape in answer.shapes:
                yield from shape.types


def _portable(schema: Any) -> Any:
    """The same with docstrings in one line, and patterns as ECMA 262 has them, without \\A and \\Z."""
    if isinstance(schema, list):
        return [_portable(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    made = {name: _portable(value) for name, value in schema.items()}
    if isinstance(pattern := made.get("pattern"), str):
        made["pattern"] = pattern.replace(r"\A", "^").replace(r"\Z", "$")
    if isinstance(text := made.get("description"), str):
        made["description"] = " ".join(text.split())
    return made


def _operation(operation: Operation, role: Role, schemas: Schemas, responses: Json) -> Json:
    made: Json = {"operationId": operation.name, "tags": [operation.tag.name], "summary": operation.summary}
    if operation.description:
        made["description"] = operation.description
    if operation.parameters:
        made["parameters"] = [_parameter(each, schemas) for each in operation.parameters]
    if operation.body:
        made["requestBody"] = {
            "required": operation.body[0].required,
            "content": _content(operation.body, schemas),
        }
    answers = {str(status): _answer(answer, schemas) for status, answer in operation.answers.items()}
    guarded = () if role is Role.OPEN else GUARDED
    if guarded:
        made["security"] = [{}, {"token": [role.value]}]  # none, where the gateway asks for no tokens
    for status in {*ANYWHERE, *guarded, *(error.status for error in operation.errors)} - {*operation.answers}:
        answers[str(status)] = _refusal(status, operation.refusal, schemas, responses)
    made["responses"] = dict(sorted(answers.items()))
    return made


def _parameter(parameter: Parameter, schemas: Schemas) -> Json:
    made: Json = {
        "name": parameter.name,
        "in": parameter.place,
        "required": parameter.place == "path",
        "description": parameter.description,
        "schema": schemas.of(parameter.type),
    }
    if parameter.example is not None:
        made["example"] = parameter.example
    return made


def _refusal(status: int, kind: Any, schemas: Schemas, responses: Json) -> Json:
    """A reference to what is answered with this status; `responses` has it from then on."""
    name, description = REFUSALS[status]
    name = name if kind.__name__ == "Failure" else f"{kind.__name__}{name}"
    headers = (RETRY_AFTER,) if status in (429, 503) else ()
    responses[name] = _answer(Answer(description, (Shape((kind,)),), headers), schemas)
    return {"$ref": f"#/components/responses/{name}"}


def _answer(answer: Answer, schemas: Schemas) -> Json:
    made: Json = {"description": answer.description}
    if answer.headers:
        made["headers"] = {
            header.name: {"description": header.description, "schema": schemas.of(header.type)}
            for header in answer.headers
        }
    if answer.shapes:
        made["content"] = _content(answer.shapes, schemas)
    return made


def _content(shapes: Iterable[Shape], schemas: Schemas) -> Json:
    return {shape.media_type: _media(shape, schemas) for shape in shapes}


def _media(shape: Shape, schemas: Schemas) -> Json:
    made: Json = {}
    if len(shape.types) == 1:
        made["schema"] = schemas.of(shape.types[0])
    elif shape.types:
        made["schema"] = {"anyOf": [schemas.of(kind) for kind in shape.types]}
    elif shape.media_type != JSON:
        made["schema"] = {}  # any bytes
    if shape.examples:
        made["examples"] = {name: {"value": value} for name, value in shape.examples.items()}
    if shape.content_types:
        encoding: Mapping[str, Json] = {
            part: {"contentType": kind} for part, kind in shape.content_types.items()
        }
        made["encoding"] = encoding
    return made
