"""What predictions of each input type take and answer, for the OpenAPI document."""

from __future__ import annotations

from typing import Annotated, Any, TypedDict

from msgspec import Meta

from common.errors import UnsupportedMedia
from common.models import MAX_LABELS
from gateway.auth.roles import Role
from gateway.doors.predict.media import BINARY, BODIES, FORM, JSON, LINES, RAW
from gateway.doors.predict.predict_api import (
    ERRORS,
    PREDICTIONS,
    PROVENANCE,
    TIMEOUT,
    OneOfBody,
    PredictedMany,
    PredictedOne,
)
from gateway.openapi.operation import Answer, Operation, Parameter, Shape

TOP_N = Parameter(
    "top_n",
    "query",
    "how many classes are answered of a row, the most probable first; else what the model's settings say",
    Annotated[int, Meta(ge=1, le=MAX_LABELS)],
    3,
)

_GIVEN = Answer(
    "A result for each row. classification: a list of `label`, `index` and `probability`; image: a PNG, as it"
    " is where `Accept` asks for `image/png`, else base64; detections: a list of `box`, `label`, `index` and"
    " `score`; text: a text; embedding: a vector; raw: the model's own numbers",
    (Shape((PredictedOne, PredictedMany)), Shape(media_type="image/png")),
    PROVENANCE,
)


class FilesForm(TypedDict, total=False):
    """A form; of any name, each of its files is a row."""

    file: Annotated[list[str], Meta(description="files", extra_json_schema={"contentMediaType": BINARY})]


def kind_operation(kind: str, *parameters: Parameter) -> Operation:
    """A prediction of a model of one input type."""
    return Operation(
        name=f"predict{kind.capitalize()}{'Version' if len(parameters) > 1 else ''}",
        role=Role.PREDICT,
        tag=PREDICTIONS,
        summary=f"Predict with {'one version of ' if len(parameters) > 1 else ''}a model of {kind}",
        description=f"404 for a model of another input type than {kind}, with where it is asked instead.",
        parameters=(*parameters, TOP_N, TIMEOUT),
        body=_body(kind),
        answers={200: _GIVEN},
        errors=(*ERRORS, UnsupportedMedia),
    )


def _body(kind: str) -> tuple[Shape, ...]:
    if kind in ("vector", "tensor"):
        return (Shape((OneOfBody,)), Shape(media_type=BINARY))
    raw = tuple(Shape(media_type=name) for name in RAW[kind] if name != JSON)
    form = Shape((FilesForm,), media_type=FORM)
    if kind == "json":
        return (Shape((Any,)), Shape(media_type=LINES), form)
    return (*raw, Shape(media_type=BINARY), form, Shape((BODIES[kind],)))
