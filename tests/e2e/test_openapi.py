"""End to end: what /openapi.json says of a real gateway with a real worker is so."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.e2e.processes import Gateway
from tests.e2e.rest import Answer
from tests.e2e.weights import ONE, TWO, is_right, stored

# Every operation with a body that can be shown, in an order in which each finds what it needs.
STORY = [
    "predict",
    "configureModel",
    "reconfigureModel",
    "predictModel",
    "predictVersion",
    "submitJob",
    "activateVersion",
    "putExperiment",
    "promoteArm",
    "changeAutoscaler",
    "v2Infer",
    "v2InferVersion",
    "v2Load",
    "v2Index",
]
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "response_headers_conformance",
    "unsupported_method",
)


@pytest.fixture(scope="module")
def gateway(shared_site) -> Gateway:
    """A gateway whose one worker has sample weights: the first ones, and two versions of a model `sum`."""
    gateway = shared_site.start_gateway("--workers", "1")
    gateway.wait_ready(1)
    assert gateway.set_weights(ONE, stored(ONE)).json["status"] is True
    settings = b'{"runtime":"torch","architecture":"sample"}'
    assert gateway.ask("PUT", "/models/sum", settings).json["status"] is True
    for version, nn_id in (("1", ONE), ("2", TWO)):
        assert gateway.ask("PUT", f"/models/sum/versions/{version}", stored(nn_id)).json["status"] is True
    return gateway


@pytest.fixture(scope="module")
def document(gateway) -> Any:
    return gateway.ask("GET", "/openapi.json").json


def check(document: Any, operation: Any, answer: Answer) -> None:
    """The answer is one that the document knows."""
    response = operation["responses"][str(answer.status)]
    if "$ref" in response:
        response = document["components"]["responses"][response["$ref"].rpartition("/")[2]]
    schema = response["content"][answer.headers["content-type"]]["schema"]
    whole = {"$ref": "#/it", "it": schema, "components": document["components"]}
    jsonschema.Draft202012Validator(whole).validate(answer.json)


def test_every_example_does_what_it_says(gateway, document):
    operations = {
        operation["operationId"]: (method, path, operation)
        for path, item in document["paths"].items()
        for method, operation in item.items()
    }
    shown = {
        name: operation["requestBody"]["content"]["application/json"]["examples"]
        for name, (_, _, operation) in operations.items()
        if "examples" in operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    }
    assert sorted(shown) == sorted(STORY)
    for name in STORY:
        method, path, operation = operations[name]
        parameters = operation.get("parameters", ())
        there = {each["name"]: each["example"] for each in parameters if each["in"] == "path"}
        for key, example in shown[name].items():
            body = json.dumps(example["value"]).encode()
            answer = gateway.ask(method.upper(), path.format(**there), body)
            assert answer.status == (202 if name == "submitJob" else 200), (name, key, answer)
            assert isinstance(answer.json, list) or answer.json.get("status", True), (name, key, answer)
            check(document, operation, answer)
            if (name, key) == ("predict", "row"):
                assert is_right(answer.json["result"], ONE, *example["value"]["vector"])
                assert {header.lower() for header in operation["responses"]["200"]["headers"]} <= set(
                    answer.headers
                )


@pytest.mark.parametrize(
    ("path", "method", "body", "status"),
    [
        ("/predict", "post", b"{", 400),
        ("/predict", "post", b'{"vector":[1,2,3]}', 200),
        ("/predict", "post", b" " * (9 << 20), 413),
        ("/models/{model}", "get", b"", 404),
        ("/models/{model}/activate", "post", b'{"version":"none"}', 404),
        ("/models/{model}/versions/{version}", "delete", b"", 404),
        ("/experiments/{name}/promote", "post", b"", 404),
        ("/jobs", "post", b'{"input":"file:///none.csv"}', 400),
        ("/jobs/{id}", "get", b"", 404),
        ("/jobs/{id}", "delete", b"", 404),
        ("/jobs/{id}/result", "get", b"", 404),
        ("/v2/models/{model}/infer", "post", b'{"inputs":[]}', 404),
        ("/v2/models/{model}", "get", b"", 404),
        ("/v2/models/{model}/ready", "get", b"", 404),
        ("/v2/models/{model}/infer", "post", b"{", 400),
        ("/v2/models/{model}/infer", "post", b" " * (9 << 20), 413),
    ],
)
def test_a_refusal_is_one_that_is_documented(gateway, document, path, method, body, status):
    answer = gateway.ask(
        method.upper(), path.format(model="none", version="none", name="none", id="none"), body
    )
    assert answer.status == status
    assert "error" in answer.json if path.startswith("/v2") else answer.json["status"] is False
    check(document, document["paths"][path][method], answer)


def test_what_the_server_itself_refuses_is_documented(gateway, document):
    answer = gateway.ask("POST", "/predict", b"{}", x_long="a" * 40_000)
    assert answer.status == 431
    check(document, document["paths"]["/predict"]["post"], answer)


@pytest.mark.apart
def test_schemathesis_finds_no_answer_that_is_not_documented(gateway, tmp_path):
    options = {
        "--checks": ",".join(CHECKS),
        "--header": "X-Timeout-Ms: 20000",  # a deadline of no time at all is rightly answered 504
        "--max-examples": "8",
        "--seed": "1",
        "--generation-database": "none",
        "--request-timeout": "30",
        "--warnings": "off",
        "--exclude-path-regex": "^(/events|/dashboard/live)$",  # their answers have no end
    }
    words = [word for option in options.items() for word in option]
    program = Path(sys.executable).with_name("schemathesis")
    done = subprocess.run(
        [program, "run", f"{gateway.url}/openapi.json", "--continue-on-failure", "--no-color", *words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr
    assert " passed" in done.stdout
    assert gateway.wait_ready(1)
