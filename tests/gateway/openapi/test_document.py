"""Pure: every route of the app is described, and what the document says holds by itself."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator
from starlette.routing import WebSocketRoute

from common import errors
from common.errors import PipelineError
from common.media import INPUT_TYPES
from gateway.core import Doors
from gateway.openapi.document import REFUSALS, make_document
from gateway.openapi.operation import Described, NotOffered
from tests.gateway.site import open_site

METHODS = {"get", "put", "post", "delete", "patch", "options", "head", "trace"}
VALUES = {
    "model": "default", "version": "1", "name": "sum-2", "part": "docs.js", "id": "none", "worker": "none",
}  # fmt: skip


class Made:
    """The app's routes, what is answered without the app, and the document of it all."""

    def __init__(self, doors: Doors) -> None:
        self.routes = [
            route for route in doors.app.routes if not isinstance(route, NotOffered | WebSocketRoute)
        ]
        self.find_direct = doors.find_direct
        self.document = json.loads(json.dumps(make_document(self.routes), default=vars))

    def operations(self) -> Iterator[tuple[str, str, Any]]:
        for path, item in self.document["paths"].items():
            for method in item.keys() & METHODS:
                yield method, path, item[method]

    def resolve(self, schema: dict[str, Any]) -> dict[str, Any]:
        return {"$ref": "#/it", "it": schema, "components": self.document["components"]}


@pytest.fixture
async def made() -> Made:
    async with open_site() as site:
        return Made(Doors(site, max_upload=1000))


async def test_every_route_is_described_by_its_methods_and_its_parameters(made):
    for route in made.routes:
        assert isinstance(route, Described), f"{route.path}: describe it as gateway.openapi.operation says"
        described = {method.upper() for method in route.operations}
        assert route.methods - {"HEAD"} == described
        for operation in route.operations.values():
            named = {each.name for each in operation.parameters if each.place == "path"}
            assert named == set(route.param_convertors), operation.name


async def test_the_document_has_every_route_and_nothing_else(made):
    routes = {
        (method.lower(), route.path_format) for route in made.routes for method in route.methods - {"HEAD"}
    }
    assert {(method, path) for method, path, _ in made.operations()} == routes
    assert len(routes) >= 38


async def test_what_is_answered_without_the_app_is_described_too(made):
    direct = {path for method, path, _ in made.operations() if _is_direct(made, method, path)}
    assert direct == {
        "/predict",
        *[f"/models/{{model}}/{kind}" for kind in ("predict", *INPUT_TYPES)],
        *[f"/models/{{model}}/versions/{{version}}/{kind}" for kind in ("predict", *INPUT_TYPES)],
        "/v2/models/{model}/infer",
        "/v2/models/{model}/versions/{version}/infer",
    }


def _is_direct(made: Made, method: str, path: str) -> bool:
    return made.find_direct(method.upper(), path.format(**VALUES)) is not None


async def test_the_document_is_valid_openapi_3_1(made):
    assert [str(error) for error in OpenAPIV31SpecValidator(made.document).iter_errors()] == []
    assert made.document["openapi"] == "3.1.0"


async def test_every_schema_is_valid_and_its_patterns_are_those_of_json_schema(made):
    for name, schema in made.document["components"]["schemas"].items():
        jsonschema.Draft202012Validator.check_schema(schema)
        for pattern in re.findall(r'"pattern": "([^"]*)"', json.dumps(schema)):
            assert "\\A" not in pattern, name
            assert "\\Z" not in pattern, name


async def test_every_example_has_the_shape_that_is_documented(made):
    count = 0
    for _, _, operation in made.operations():
        content = operation.get("requestBody", {}).get("content", {})
        shown = [
            (media["schema"], each["value"])
            for media in content.values()
            for each in media.get("examples", {}).values()
        ]
        shown += [
            (each["schema"], each["example"]) for each in operation.get("parameters", ()) if "example" in each
        ]
        for schema, example in shown:
            jsonschema.Draft202012Validator(made.resolve(schema)).validate(example)
            count += 1
    assert count > 20


async def test_operations_have_names_of_their_own_and_a_summary(made):
    operations = [operation for _, _, operation in made.operations()]
    assert len({operation["operationId"] for operation in operations}) == len(operations)
    assert all(operation["summary"] and operation["tags"] for operation in operations)


async def test_every_503_says_when_to_come_back(made):
    responses = made.document["components"]["responses"]
    for _, path, operation in made.operations():
        name = operation["responses"]["503"]["$ref"].rpartition("/")[2]
        assert "Retry-After" in responses[name]["headers"], path


def test_every_error_that_doors_translate_has_a_sentence():
    statuses = {
        kind.status
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, PipelineError)
    }
    assert statuses - {200, 499} <= set(REFUSALS)  # of 499 nobody reads: whoever asked took it back
