"""What predictions take and answer, for the OpenAPI document."""

from __future__ import annotations

from typing import Annotated, Any, TypedDict

from msgspec import Meta

from common.errors import DeadlineExceeded, InvalidRequest, NotFound, Overloaded, Poisoned, TooLarge
from gateway.auth.roles import Role
from gateway.doors.predict.predict import Body
from gateway.openapi.operation import Answer, Header, Operation, Parameter, Shape, Tag
from gateway.scheduling.predictions import MAX_TIMEOUT

PREDICTIONS = Tag("Predictions", "Rows in, results out, answered by exactly one version of a model.")

OneOfBody = Annotated[
    Body,
    Meta(
        description="One of four: a row, many rows, a row as base64 of little-endian float32, or tensors"
        " by name.",
        extra_json_schema={
            "oneOf": [{"required": [name]} for name in ("vector", "vectors", "data", "inputs")],
        },
    ),
]


class _Told(TypedDict):
    status: Annotated[bool, Meta(description="false: the model refused the row, or there are no weights")]
    message: Annotated[
        str,
        Meta(description="the nn_id, or name, of the version that answered; else base64 of a stack trace"),
    ]


class PredictedOne(_Told):
    """What a row is answered."""

    result: Annotated[
        Any, Meta(description="a number, or a list where an output has several elements; 0.0 for a failure")
    ]


class PredictedMany(_Told):
    """What many rows are answered."""

    results: Annotated[list[Any], Meta(description="one for each row, in their order; empty for a failure")]


class TensorGiven(TypedDict):
    """One output of a model, with all rows."""

    name: str
    datatype: str
    shape: Annotated[list[int], Meta(description="the number of rows, then the lengths of one row")]
    data: Annotated[list[Any], Meta(description="the elements, flat")]


class PredictedTensors(_Told):
    """What tensors are answered."""

    outputs: list[TensorGiven]


TIMEOUT = Parameter(
    "X-Timeout-Ms",
    "header",
    "the request's deadline in milliseconds, instead of the model's; past it nothing is run",
    Annotated[float, Meta(gt=0, le=MAX_TIMEOUT * 1000)],
    500,
)
PROVENANCE = (
    Header("X-Worker", "who answered"),
    Header("X-Model-Version", "the version that answered: exactly these bytes"),
    Header("X-Cache", "hit: from the worker's cache; miss: computed"),
    Header(
        "Server-Timing",
        "milliseconds in queue, waiting at the worker (batch), on the link, in the model (infer)",
    ),
)

VECTOR = {"vector": [0.3, 0.7]}
VECTORS = {"vectors": [[0.3, 0.7], [0.1, 0.2]]}
DATA = {"data": "mpmZPjMzMz8="}
INPUTS = {"inputs": [{"name": "vector", "datatype": "FP32", "shape": [1, 2], "data": [0.3, 0.7]}]}

ANSWERED = Answer(
    "What the model says; its own refusal of a row too, with `status` false, as its contract wants it",
    (Shape((PredictedOne, PredictedMany, PredictedTensors)),),
    PROVENANCE,
)
ERRORS = (InvalidRequest, TooLarge, NotFound, Overloaded, DeadlineExceeded, Poisoned)


def predict_operation(name: str, summary: str, *parameters: Parameter, description: str = "") -> Operation:
    """A prediction at one path."""
    return Operation(
        name=name,
        role=Role.PREDICT,
        tag=PREDICTIONS,
        summary=summary,
        description=description,
        parameters=(*parameters, TIMEOUT),
        body=(Shape((OneOfBody,), {"row": VECTOR, "rows": VECTORS, "base64": DATA, "tensors": INPUTS}),),
        answers={200: ANSWERED},
        errors=ERRORS,
    )


PREDICT = predict_operation(
    "predict",
    "Predict with the weights that were set",
    description="The model is `default`. Where an experiment runs on it, its `sticky` header picks the arm.",
)
