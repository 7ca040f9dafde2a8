"""What the first contract's own requests take and answer, for the OpenAPI document: weights and status."""

from __future__ import annotations

from typing import Annotated, TypedDict

from msgspec import Meta

from common.errors import DiskFull, InvalidRequest, TooLarge
from gateway.openapi.operation import BINARY, Answer, Operation, Shape, Tag

WEIGHTS = Tag("Weights", "The default model's weights, which switch everywhere at once.")
FLEET = Tag("Fleet", "What the gateway and its workers say of themselves.")
MULTIPART = "multipart/form-data"


# The first of the sample weights, data/000127a35b5f462b8ec68fb4d905ac36_83485f3a.b64: it adds two numbers.
NN = "000127a35b5f462b8ec68fb4d905ac36"


class WeightsForm(TypedDict):
    """The form of `PUT /set_weights`."""

    nn_id: Annotated[
        str, Meta(pattern="^[0-9a-f]{32}$", description="what these weights are called", examples=[NN])
    ]
    data: Annotated[
        str,
        Meta(
            description="a file: base64 text of what torch.save wrote of a state_dict",
            extra_json_schema={"contentMediaType": BINARY},
        ),
    ]


class _Loaded(TypedDict):
    result: Annotated[bool, Meta(description="whether this worker has loaded it")]


class WorkerLoaded(_Loaded, total=False):
    """What became of a version at one worker."""

    trace: Annotated[str, Meta(description="base64 of the stack trace of a worker that has not")]


class RolledAnswer(TypedDict):
    """What became of a rollout: every worker has the version, or all goes on as it was."""

    status: bool
    message: str
    workers_count: int
    workers: list[WorkerLoaded]


class CacheShown(TypedDict):
    """A worker's caches."""

    size: Annotated[int, Meta(description="rows remembered")]
    capacity: int
    hits: int
    misses: int


class VersionHeld(TypedDict):
    """A version that a worker has loaded."""

    model: str
    version: str


class WorkerShown(TypedDict):
    """One worker; durations in milliseconds."""

    name: str
    id: str
    state: Annotated[str, Meta(description="joining, syncing, ready, suspect, draining")]
    trouble: Annotated[str, Meta(description="why it is not ready, where there is a reason")]
    host: str
    pid: int
    address: list[str]
    device: str
    versions: Annotated[list[VersionHeld], Meta(description="what it holds")]
    nn_id: Annotated[str | None, Meta(description="the weights it has, if they are the active ones")]
    in_flight: Annotated[int, Meta(description="rows it has in hand")]
    last_seen_s: float
    req_handling_time_avg_ms: float
    count_requests_handled: int
    count_rows_handled: int
    inference_time_avg_ms: float
    p50: float
    p95: float
    p99: float
    cpu_percent: Annotated[float, Meta(description="of one core: 200 is two cores that it keeps busy")]
    rss_mb: float
    models_used_mb: Annotated[float | None, Meta(description="its loaded models, where there is a limit")]
    models_limit_mb: Annotated[int | None, Meta(description="what they may take: `--memory_mb`")]
    cache: CacheShown


class OrderedShown(TypedDict):
    """A worker that was ordered and is not in the fleet (yet, or any more)."""

    name: str
    state: Annotated[str, Meta(description="`pending`, `running`, `gone` or `stopping`")]
    why: Annotated[str, Meta(description="what it waits for, or how it ended, where that is known")]
    for_s: Annotated[float, Meta(description="since it was ordered")]


class ManagerShown(TypedDict):
    """The workers that the gateway itself has started."""

    wanted: int
    min_workers: int
    max_workers: int
    because: Annotated[str, Meta(description="why so many are wanted")]
    ready: int
    starting: int
    draining: int
    failing: Annotated[int, Meta(description="those that wait for the next try, after failures")]
    trouble: Annotated[str, Meta(description="how the last one failed, until one stays")]
    ordered: list[OrderedShown]


class StatusShown(TypedDict):
    """The gateway, and each of its workers."""

    status: bool
    message: str
    queue_requests_current: int
    queue_requests_max: int
    queue_requests_peak: int
    requests_in_progress: int
    req_handling_time_avg_ms: float
    count_requests_handled: int
    bad_frames: Annotated[int, Meta(description="what came over links and surveys and was no frame")]
    workers_count: int
    workers: list[WorkerShown]
    manager: ManagerShown | None


ROLLED = Answer(
    "What each worker said; where one refuses, `status` is false and all goes on as it was",
    (Shape((RolledAnswer,)),),
)

SET_WEIGHTS = Operation(
    name="setWeights",
    tag=WEIGHTS,
    summary="Set the default model's weights",
    description="Every worker loads and tries them beside the old ones; then all switch, or none does. After"
    " the answer only the new weights answer. Where `nn_id` is taken by other bytes, the version is called"
    " `<nn_id>.<first 16 digits of the sha256>`.",
    body=(Shape((WeightsForm,), media_type=MULTIPART, content_types={"data": BINARY}),),
    answers={200: ROLLED},
    errors=(InvalidRequest, TooLarge, DiskFull),
)
STATUS = Operation(
    name="status",
    tag=FLEET,
    summary="The queue, the workers, their latencies and caches",
    answers={200: Answer("What all of them say now", (Shape((StatusShown,)),))},
)
