"""What everything under `/models` takes and answers, for the OpenAPI document."""

from __future__ import annotations

from typing import Annotated, Optional, TypedDict, get_type_hints

import msgspec
from msgspec import Meta

from common.errors import Conflict, DiskFull, InvalidRequest, NotFound, TooLarge
from common.media import INPUT_TYPES, InputType, OutputType
from common.models import ModelSettings
from gateway.doors.predict.predict_api import predict_operation
from gateway.doors.predict.typed_api import kind_operation
from gateway.doors.rest_api import ROLLED, RolledAnswer
from gateway.doors.shape import Done
from gateway.openapi.operation import BINARY, Answer, Operation, Parameter, Shape, Tag

MODELS = Tag(
    "Models",
    "Any number of models in versions: what there is, uploads, and which version answers. The examples are of"
    " a model of the sample weights: give `sum` its settings, send `base64 -d data/000127a3*.b64` as"
    " version 1, and another of these files as version 2.",
)

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"


class Activation(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /models/{name}/activate`."""

    version: str


class Typed(TypedDict):
    """What a model's clients send, and are answered."""

    input_type: InputType
    output_type: OutputType
    route: Annotated[str, Meta(description="where it takes what its input type says")]


class ModelListed(Typed):
    """A model in a list of them."""

    name: str
    active: Annotated[str | None, Meta(description="the version that answers who names none")]
    serving: Annotated[list[str], Meta(description="the versions that answer who names them")]


class ModelList(TypedDict):
    """Every model."""

    status: bool
    message: str
    models: list[ModelListed]


class TensorShown(TypedDict):
    """What an input or an output looks like."""

    name: str
    datatype: str
    shape: Annotated[list[int], Meta(description="the number of rows first; -1 is any length")]


class VersionShown(TypedDict):
    """One version of a model."""

    version: str
    serves: bool
    checked: Annotated[bool, Meta(description="whether a worker has loaded it once")]
    file: str
    size: int
    sha256: str
    created: Annotated[float, Meta(description="seconds since 1970")]
    workers: Annotated[list[str], Meta(description="who holds it")]
    refused: Annotated[dict[str, str], Meta(description="what each worker says that does not load it")]
    inputs: list[TensorShown]
    outputs: list[TensorShown]
    settings: Annotated[ModelSettings, Meta(description="what it was loaded by; defaults are left out")]


class ModelShown(Typed):
    """One model with its versions."""

    status: bool
    message: str
    name: str
    active: str | None
    previous: Annotated[str | None, Meta(description="the version that a rollback goes back to")]
    settings: Annotated[ModelSettings, Meta(description="of the next version; defaults are left out")]
    versions: list[VersionShown]


class Configured(RolledAnswer):
    """What became of a change of settings."""

    settings: Annotated[ModelSettings, Meta(description="those that the model has now")]


# RFC 7396: what is left out stays as it is, null is the default.
SettingsPatch = msgspec.defstruct(
    "SettingsPatch",
    [
        (name, Optional[kind], msgspec.UNSET)  # noqa: UP045 - `kind | None` is not possible for every kind
        for name, kind in get_type_hints(ModelSettings, include_extras=True).items()
    ],
    forbid_unknown_fields=True,
)

MODEL = Parameter("model", "path", "a model's name", str, "sum")
VERSION = Parameter("version", "path", "a version of it", str, "1")
NEW_MODEL = MODEL._replace(type=Annotated[str, Meta(pattern=NAME)])
NEW_VERSION = VERSION._replace(type=Annotated[str, Meta(pattern=NAME)])
DONE = Answer("It is done", (Shape((Done,)),))

LIST_MODELS = Operation(
    name="listModels",
    tag=MODELS,
    summary="Every model that serves",
    answers={200: Answer("The models", (Shape((ModelList,)),))},
)
SHOW_MODEL = Operation(
    name="showModel",
    tag=MODELS,
    summary="A model: its versions, what they take and give, who holds or refuses them",
    parameters=(MODEL,),
    answers={200: Answer("The model", (Shape((ModelShown,)),))},
    errors=(NotFound,),
)
CONFIGURED = Answer(
    "What each worker said; where one refuses, `status` is false and all goes on as it was",
    (Shape((Configured,)),),
)
RELOAD = Parameter(
    "reload", "query", "whether versions that are there are loaded anew where they have to be", bool
)
CONFIGURE = Operation(
    name="configureModel",
    tag=MODELS,
    summary="Set a model's settings",
    description="The keys are those of `model.toml`; what is left out is as by default. Also of a model that"
    " has no version yet. Workers try them beside what serves, all or nothing.",
    parameters=(NEW_MODEL, RELOAD),
    body=(Shape((ModelSettings,), {"sample": {"runtime": "torch", "architecture": "sample"}}),),
    answers={200: CONFIGURED},
    errors=(InvalidRequest, TooLarge, DiskFull),
)
RECONFIGURE = Operation(
    name="reconfigureModel",
    tag=MODELS,
    summary="Change some of a model's settings",
    description="A merge patch (RFC 7396): what is left out stays, null is the default.",
    parameters=(NEW_MODEL, RELOAD),
    body=(
        Shape(
            (SettingsPatch,), {"batches": {"max_batch": 64, "max_wait_ms": 1}, "back": {"max_wait_ms": None}}
        ),
    ),
    answers={200: CONFIGURED},
    errors=(InvalidRequest, TooLarge, DiskFull),
)
UPLOAD = Operation(
    name="uploadVersion",
    tag=MODELS,
    summary="Upload a version's file",
    description="All workers that should hold it load it, or none does. It serves by its name from then on,"
    " and becomes active if it is asked to or if the model has no other.",
    parameters=(
        NEW_MODEL,
        NEW_VERSION,
        Parameter("file", "query", "what the file is called; its ending may say the format", str),
        Parameter("activate", "query", "whether it answers who names no version from now on", bool),
        Parameter(
            "Content-Digest", "header", "the body's digest (RFC 9530), which is checked: `sha-256=:…:`"
        ),
    ),
    body=(Shape(media_type=BINARY),),
    answers={200: ROLLED},
    errors=(InvalidRequest, Conflict, TooLarge, DiskFull),
)
REMOVE = Operation(
    name="removeVersion",
    tag=MODELS,
    summary="Forget a version that is not active",
    parameters=(MODEL, VERSION),
    answers={200: DONE},
    errors=(NotFound, Conflict, DiskFull),
)
ACTIVATE = Operation(
    name="activateVersion",
    tag=MODELS,
    summary="Choose the version that answers who names none",
    description="Nobody waits: requests that were admitted before are answered by the version they were"
    " admitted under.",
    parameters=(MODEL,),
    body=(Shape((Activation,), {"version": {"version": "2"}}),),
    answers={200: ROLLED},
    errors=(InvalidRequest, NotFound, DiskFull),
)
ROLLBACK = Operation(
    name="rollback",
    tag=MODELS,
    summary="Go back to the version that was active before",
    parameters=(MODEL,),
    answers={200: ROLLED},
    errors=(NotFound, DiskFull),
)
PREDICT_MODEL = predict_operation("predictModel", "Predict with a model's active version", MODEL)
PREDICT_VERSION = predict_operation("predictVersion", "Predict with one version of a model", MODEL, VERSION)
PREDICT_KINDS = {
    (path, kind): kind_operation(kind, *parameters)
    for path, parameters in (
        ("/models/{model}", (MODEL,)),
        ("/models/{model}/versions/{version}", (MODEL, VERSION)),
    )
    for kind in INPUT_TYPES
}
