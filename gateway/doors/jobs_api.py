"""What everything under `/jobs` takes and answers, for the OpenAPI document."""

from __future__ import annotations

from typing import Annotated, TypedDict

import msgspec
from msgspec import Meta

from common.errors import DiskFull, InvalidRequest, NotFound, Overloaded, TooLarge
from gateway.auth.roles import Role
from gateway.doors.predict.inputs import Tensor
from gateway.doors.predict.predict_api import VECTOR, VECTORS, PredictedMany, PredictedOne, PredictedTensors
from gateway.doors.shape import Done, Failure
from gateway.jobs.job import FORMATS, State
from gateway.jobs.store import KeyReused
from gateway.models.catalog import DEFAULT_MODEL
from gateway.openapi.document import RETRY_AFTER
from gateway.openapi.operation import Answer, Header, Operation, Parameter, Shape, Tag

JOBS = Tag("Jobs", "Requests whose answers are fetched later: rows that are sent along, or whole files.")

LONGEST_WAIT = 60.0
LIMIT, MOST = 50, 1000
LAST_CURSOR = 2**62
TTL = 86_400.0

STATES = ", ".join(state.value for state in State)


class Order(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /jobs`: rows as in a prediction, or the files of a batch job."""

    model: str = DEFAULT_MODEL
    version: Annotated[str | None, Meta(description="by default the active one")] = None
    vector: list[float] | None = None
    vectors: list[list[float]] | None = None
    inputs: list[Tensor] | None = None
    input: Annotated[str | None, Meta(description="a batch job's: `file:///…` or `s3://…`")] = None
    output: str | None = None
    format: Annotated[
        str | None, Meta(description=f"{', '.join(FORMATS)}; by default the input's ending")
    ] = None
    columns: Annotated[tuple[str, ...], Meta(description="of csv and parquet; by default all")] = ()
    header: Annotated[bool | None, Meta(description="whether csv has one; by default it is found out")] = None
    ttl_s: Annotated[
        float,
        Meta(gt=0, le=30 * 86_400, description="how long it may wait, and then how long its result is kept"),
    ] = TTL
    priority: Annotated[int, Meta(ge=-100, le=100, description="the highest start first")] = 0
    callback_url: Annotated[str | None, Meta(description="is sent the job when it is over")] = None

    @property
    def shape(self) -> str:
        """How its rows come; `InvalidRequest` unless they come in one way."""
        given = [name for name in ("vector", "vectors", "inputs") if getattr(self, name) is not None]
        if self.input is not None or self.output is not None:
            given.append("batch")
        if len(given) != 1:
            raise InvalidRequest("give one of vector, vectors and inputs, or input and output of a batch job")
        return given[0]


class _Facts(TypedDict):
    id: str
    state: Annotated[str, Meta(description=STATES)]
    error: Annotated[str | None, Meta(description="why it failed or was ended")]
    model: str
    version: Annotated[str, Meta(description="the one that answers all of it")]
    owner: Annotated[str | None, Meta(description="the id of the token that asked, where there are tokens")]
    priority: int
    queue_position: Annotated[int | None, Meta(description="how many start before it, while it waits")]
    progress: Annotated[float, Meta(description="from 0 to 1")]
    rows_total: Annotated[int | None, Meta(description="null where nobody has counted them")]
    rows_done: int
    rows_failed: Annotated[int, Meta(description="of those done, the rows with an error for an answer")]
    created: Annotated[float, Meta(description="seconds since 1970, as all times")]
    started: float | None
    finished: float | None
    expires: Annotated[float | None, Meta(description="when it goes; null while it runs")]
    queued_s: float
    running_s: float
    callback_url: str | None


class JobFacts(_Facts, total=False):
    """A job; the last three are a batch job's."""

    input: str
    output: str
    format: str


class JobShown(JobFacts):
    """A job as an answer."""

    status: bool
    message: str


class JobList(TypedDict):
    """One page of jobs."""

    status: bool
    message: str
    jobs: list[JobFacts]
    cursor: Annotated[str | None, Meta(description="asks for the next page; null where there is none")]


OneOfOrder = Annotated[
    Order,
    Meta(
        description="One of four: a row, many rows, tensors by name, or the files of a batch job.",
        extra_json_schema={
            "oneOf": [
                *({"required": [name]} for name in ("vector", "vectors", "inputs")),
                {"required": ["input", "output"]},
            ],
        },
    ),
]
ID = Parameter("id", "path", "a job's id", str, "0c21b4a9d0f34a7d8e5f60718293a4b5")

SUBMIT = Operation(
    name="submitJob",
    role=Role.PREDICT,
    tag=JOBS,
    summary="Take a job in",
    description="It is kept before it is acknowledged, and goes on after a restart. The same again with the"
    " same `Idempotency-Key` is the same job.",
    parameters=(
        Parameter(
            "Idempotency-Key",
            "header",
            "what makes it safe to send the same again",
            Annotated[str, Meta(pattern="^[!-~]{1,255}$")],
        ),
    ),
    body=(Shape((OneOfOrder,), {"row": VECTOR, "rows": VECTORS}),),
    answers={
        200: Answer("The model has no weights yet", (Shape((Failure,)),)),
        202: Answer("The job", (Shape((JobShown,)),), (Header("Location", "where the job is"),)),
    },
    errors=(InvalidRequest, TooLarge, NotFound, KeyReused, Overloaded, DiskFull),
)
LIST = Operation(
    name="listJobs",
    role=Role.ANY,
    tag=JOBS,
    summary="Jobs, newest first",
    description="With tokens: those of the client's own token; `read` and `admin` see all.",
    parameters=(
        Parameter("state", "query", f"only those that are {STATES}", State),
        Parameter("limit", "query", "how many at most", Annotated[int, Meta(ge=1, le=MOST)], LIMIT),
        Parameter(
            "cursor", "query", "what the page before ended with", Annotated[int, Meta(ge=0, le=LAST_CURSOR)]
        ),
    ),
    answers={200: Answer("A page of them", (Shape((JobList,)),))},
    errors=(InvalidRequest,),
)
SHOW = Operation(
    name="showJob",
    role=Role.ANY,
    tag=JOBS,
    summary="A job: its state, progress, place in the queue, times",
    parameters=(ID,),
    answers={200: Answer("The job", (Shape((JobShown,)),))},
    errors=(NotFound,),
)
CANCEL = Operation(
    name="cancelJob",
    role=Role.PREDICT,
    tag=JOBS,
    summary="Cancel a job, or forget one that is over",
    parameters=(ID,),
    answers={200: Answer("The job that was cancelled; that it is forgotten", (Shape((JobShown, Done)),))},
    errors=(NotFound, DiskFull),
)
RESULT = Operation(
    name="jobResult",
    role=Role.PREDICT,
    tag=JOBS,
    summary="What a job was answered",
    parameters=(
        ID,
        Parameter(
            "wait",
            "query",
            "seconds to wait for it",
            Annotated[float, Meta(ge=0, le=LONGEST_WAIT)],
            1,
        ),
    ),
    answers={
        200: Answer(
            "What a prediction would have said; of a batch job, and of one that failed (`status` is false),"
            " the job",
            (Shape((PredictedOne, PredictedMany, PredictedTensors, JobShown)),),
        ),
        202: Answer("It is not over yet: the job", (Shape((JobShown,)),), (RETRY_AFTER,)),
        410: Answer("It was cancelled, or it expired", (Shape((JobShown, Failure)),)),
    },
    errors=(InvalidRequest, NotFound),
)
