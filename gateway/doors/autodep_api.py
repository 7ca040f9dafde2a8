"""What the API of autodep takes and answers: the types that decode and make its bodies, which the OpenAPI
document shows too."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypedDict

import msgspec
from msgspec import Meta

from common.errors import CallerError, InvalidRequest, ModelError, NotFound, Overloaded
from gateway.auth.roles import Role
from gateway.openapi.operation import Answer, Operation, Parameter, Shape, Tag

AUTODEP = Tag("autodep", "Pictures and texts in, classes, pictures and texts out, as autodep has it.")

_Side = Annotated[int, Meta(ge=1, le=2**31 - 1)]


class B64Image(msgspec.Struct, forbid_unknown_fields=True):
    """A picture: base64 of a JPEG, PNG, WebP or GIF file. The file itself says how large it is; `height` and
    `width` are taken as autodep's clients send them, and change nothing."""

    image: str
    height: _Side | None = None
    width: _Side | None = None


class Data(msgspec.Struct, forbid_unknown_fields=True):
    """One of the two."""

    B64Image: B64Image | None = None
    Text: str | None = None


class TopN(msgspec.Struct, forbid_unknown_fields=True):
    """How many classes are answered; null: as many as the model's settings say."""

    top_n: Annotated[int, Meta(ge=1, le=65_535)] | None = None


class Classify(msgspec.Struct, forbid_unknown_fields=True):
    """Classes of a picture."""

    ImageClassification: TopN


Plain = Literal["ImageClassification", "ImageToImage", "TextToText"]


class Task(msgspec.Struct, forbid_unknown_fields=True):
    """What is to be inferred, and of what."""

    data: Data
    inference_type: Plain | Classify


class ClassFound(TypedDict):
    """One class; the most probable is the first."""

    probability: float
    label: str


class ImageMade(TypedDict):
    """A PNG file in base64, and its size."""

    image: str
    height: int
    width: int


class Found(TypedDict, total=False):
    """One of the three, as was asked for."""

    Classification: list[ClassFound]
    B64Image: ImageMade
    Text: str


class Duration(TypedDict):
    """How long it took, from the request's coming to its answer."""

    secs: int
    nanos: Annotated[int, Meta(ge=0, lt=10**9)]


class Failed(TypedDict):
    """What every refused request is answered."""

    errors: list[str]


class Address(TypedDict):
    """Where a worker is."""

    name: str
    address: list[str]
    host: str
    pid: int
    state: str


class Load(TypedDict):
    """What a worker does; durations in milliseconds."""

    name: str
    state: str
    trouble: str
    in_flight: int
    count_requests_handled: int
    req_handling_time_avg_ms: float
    inference_time_avg_ms: float
    p50: float
    p95: float
    p99: float


class Info(TypedDict):
    """What a worker is."""

    name: str
    id: str
    host: str
    pid: int
    address: list[str]
    device: str
    rss_mb: float
    models_used_mb: float | None
    models_limit_mb: int | None
    last_seen_s: float


MODEL = Parameter(
    "model", "query", "which model; without it `default`, or the only one that there is", example="digits"
)

INFERENCE = Operation(
    name="inference",
    role=Role.PREDICT,
    tag=AUTODEP,
    summary="Classify a picture, make one of it, or a text of a text",
    description="The answer is a list of two: what was found, and how long that took.",
    parameters=(MODEL,),
    body=(Shape((Task,)),),
    answers={
        200: Answer(
            "What was found, and how long that took",
            (Shape((tuple[Found, Duration],)),),
        )
    },
    errors=(InvalidRequest, NotFound, ModelError, Overloaded, CallerError),
    refusal=Failed,
)


def of_workers(name: str, summary: str, shown: Any) -> Operation:
    """A list of what is said of each worker."""
    answer = Answer("Every worker that the gateway knows", (Shape((list[shown],)),))
    return Operation(name=name, tag=AUTODEP, summary=summary, answers={200: answer}, refusal=Failed)


WORKERS = of_workers("workers", "Where each worker is", Address)
WORKERS_STATUS = of_workers("workersStatus", "What each worker does", Load)
WORKERS_INFO = of_workers("workersInfo", "What each worker is", Info)
