"""What everything under `/v2` takes and answers, for the OpenAPI document."""

from __future__ import annotations

from typing import Any

import msgspec

from common.errors import (
    Conflict,
    DeadlineExceeded,
    DiskFull,
    InvalidRequest,
    NotFound,
    Overloaded,
    Poisoned,
    TooLarge,
)
from gateway.auth.roles import Role
from gateway.doors.models.models_api import MODEL, VERSION
from gateway.doors.predict.predict_api import INPUTS, PROVENANCE, TIMEOUT
from gateway.doors.v2 import shapes
from gateway.doors.v2.codec import InferenceBody
from gateway.openapi.operation import BINARY, Answer, Header, Operation, Parameter, Shape, Tag

V2 = Tag(
    "Open Inference Protocol",
    "Version 2, as KServe and Triton speak it, with binary tensors, statistics and the model repository.",
)

LENGTH = "how many bytes of the body are JSON; raw tensors follow, each as long as its `binary_data_size`"


class IndexQuestion(msgspec.Struct):
    """What of the repository is asked for."""

    ready: bool = False


class LoadQuestion(msgspec.Struct):
    """`file:<version>/<name>` is a new version's file in base64, `config` the JSON of a ModelConfig."""

    parameters: dict[str, Any] | None = None


def _get(name: str, summary: str, kind: Any, *parameters: Parameter, role: Role = Role.ANY) -> Operation:
    errors = (NotFound,) if parameters else ()
    answers = {200: Answer(summary, (Shape((kind,)),))}
    return Operation(
        name=name,
        role=role,
        tag=V2,
        summary=summary,
        parameters=parameters,
        answers=answers,
        errors=errors,
        refusal=shapes.Refusal,
    )


def _infer(name: str, summary: str, *parameters: Parameter) -> Operation:
    return Operation(
        name=name,
        role=Role.PREDICT,
        tag=V2,
        summary=summary,
        description="Tensors are in the JSON, or raw behind it (the binary tensor extension), each as it is"
        " asked for. Bodies may be compressed with gzip or deflate.",
        parameters=(
            *parameters,
            TIMEOUT,
            Parameter("Inference-Header-Content-Length", "header", LENGTH, int),
        ),
        body=(Shape((InferenceBody,), {"row": INPUTS}), Shape(media_type=BINARY)),
        answers={
            200: Answer(
                "The outputs",
                (Shape((shapes.InferenceAnswer,)), Shape(media_type=BINARY)),
                (*PROVENANCE, Header("Inference-Header-Content-Length", LENGTH, int)),
            )
        },
        errors=(InvalidRequest, NotFound, TooLarge, Overloaded, DeadlineExceeded, Poisoned),
        refusal=shapes.Refusal,
    )


def _repository(
    name: str,
    summary: str,
    body: Shape,
    answer: Answer,
    *parameters: Parameter,
    role: Role = Role.ADMIN,
) -> Operation:
    return Operation(
        name=name,
        role=role,
        tag=V2,
        summary=summary,
        parameters=parameters,
        body=(body,),
        answers={200: answer},
        errors=(InvalidRequest, NotFound, Conflict, TooLarge, DiskFull),
        refusal=shapes.Refusal,
    )


SERVER = _get("v2Server", "What this is, and which extensions it knows", shapes.ServerMetadata)
LIVE = _get("v2Live", "Whether the gateway is there", shapes.Live, role=Role.OPEN)
READY = _get("v2Ready", "Whether a worker can answer the default model now", shapes.Ready, role=Role.OPEN)
ALL_STATISTICS = _get(
    "v2AllStatistics", "What all versions that serve did", shapes.Statistics, role=Role.READ
)

# Of the model, and of one version of it.
METADATA = [
    _get("v2Model", "What a model takes and gives", shapes.ModelMetadata, MODEL),
    _get("v2Version", "What a version takes and gives", shapes.ModelMetadata, MODEL, VERSION),
]
MODEL_READY = [
    _get(
        "v2ModelReady",
        "Whether a worker that is ready holds a model",
        shapes.ModelReady,
        MODEL,
        role=Role.OPEN,
    ),
    _get(
        "v2VersionReady",
        "Whether a worker that is ready holds a version",
        shapes.ModelReady,
        MODEL,
        VERSION,
        role=Role.OPEN,
    ),
]
CONFIG = [
    _get("v2ModelConfig", "How a model is run", shapes.ModelConfig, MODEL),
    _get("v2VersionConfig", "How a version is run", shapes.ModelConfig, MODEL, VERSION),
]
STATISTICS = [
    _get("v2ModelStatistics", "What the versions of a model did", shapes.Statistics, MODEL, role=Role.READ),
    _get("v2VersionStatistics", "What a version did", shapes.Statistics, MODEL, VERSION, role=Role.READ),
]
INFER = [
    _infer("v2Infer", "Infer with a model's active version", MODEL),
    _infer("v2InferVersion", "Infer with one version of a model", MODEL, VERSION),
]

INDEX = _repository(
    "v2Index",
    "Every version that is known, or those that are ready",
    Shape((IndexQuestion,), {"ready": {"ready": True}}, required=False),
    Answer("The versions", (Shape((list[shapes.IndexEntry],)),)),
    role=Role.READ,
)
LOAD = _repository(
    "v2Load",
    "Have a model serve again, or a version whose file comes along",
    Shape((LoadQuestion,), {"again": {}}, required=False),
    Answer("It serves", (Shape((dict[str, Any],)),)),
    MODEL,
)
UNLOAD = _repository(
    "v2Unload",
    "Have no version of a model serve",
    Shape((LoadQuestion,), {}, required=False),
    Answer("None serves", (Shape((dict[str, Any],)),)),
    MODEL,
)
