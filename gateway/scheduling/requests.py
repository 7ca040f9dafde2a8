"""What the scheduler moves about: a request's rows, and a batch of them. Pure data."""

from __future__ import annotations

import enum
import itertools
from collections.abc import Callable
from typing import NamedTuple, Protocol

from common.errors import PipelineError
from common.tensor import Buffer, TensorSpec
from gateway.auth.clients import Client


class ModelKey(NamedTuple):
    """The queue a request waits in: one model in one version."""

    model: str
    version: str


class Count(Protocol):
    """Where requests that came as this one did are counted."""

    def answered(self, seconds: float) -> None: ...

    def failed(self, code: str, seconds: float) -> None: ...

    def refused(self, code: str) -> None: ...


class Trace(Protocol):
    """The spans of a request."""

    def sent(self) -> str: ...

    def ended(self, answer: Answer | PipelineError) -> None: ...


class Provenance:
    """Who answered a batch, and where its time went, in seconds: waiting at the worker (`batch`), in the
    model (`infer`), and on the way there and back with all the packing (`link`).

    `rendered` is for a door to keep what it makes of this, once for all requests of the batch.
    """

    __slots__ = ("batch", "infer", "link", "rendered", "version", "worker")

    def __init__(self, worker: str, version: str, *, batch: float, link: float, infer: float) -> None:
        self.worker = worker
        self.version = version
        self.batch = batch
        self.link = link
        self.infer = infer
        self.rendered = b""


class Answer(NamedTuple):
    """A request's outputs: `outputs[i]` describes one row of `buffers[i]`, which holds all its rows."""

    outputs: tuple[TensorSpec, ...]
    buffers: tuple[memoryview, ...]
    hit: bool
    queue: float
    by: Provenance


class Stage(enum.Enum):
    """Where a request is: nobody has it, a queue has it, a batch has it, or it is over."""

    NEW = "new"
    WAITING = "waiting"
    FLYING = "flying"
    OVER = "over"


class Request:
    """One client's rows on their way to a model and back.

    Invariant: `reply` is called exactly once, with an Answer or an error, unless the client goes first.
    """

    __slots__ = (
        "admitted", "buffers", "client", "count", "deadline", "is_unknown", "key", "reply", "route",
        "rows", "sent", "shunned", "signature", "size", "stage", "strikes", "trace", "worker",
    )  # fmt: skip

    def __init__(
        self,
        key: ModelKey,
        signature: tuple[TensorSpec, ...],
        buffers: tuple[Buffer, ...],
        rows: int,
        *,
        admitted: float,
        deadline: float,
        route: int | None,
        reply: Callable[[Answer | PipelineError], None],
        count: Count | None = None,
        trace: Trace | None = None,
        client: Client | None = None,
    ) -> None:
        self.key = key
        self.signature = signature
        self.buffers = buffers
        self.rows = rows
        self.size = len(buffers[0]) if len(buffers) == 1 else sum(map(len, buffers))
        self.admitted = admitted
        self.deadline = deadline
        self.route = route  # a number for its rows, where a cache makes one worker better than another
        self.reply = reply
        self.count = count
        self.trace = trace
        self.client = client  # who asks, where tokens say so
        self.sent = 0.0
        self.stage = Stage.NEW
        self.worker: str | None = None  # whose queue or batch has it
        self.is_unknown = False  # a look-up said so: only the model has its answer
        self.strikes = 0  # workers that went away with it in their hands
        self.shunned: str | None = None  # the last of them, which may be back


_batch_ids = itertools.count(1)


class Batch:
    """Requests of one model version that travel to one worker together; for a look-up, those that its cache
    knows are answered, and the others wait for its model."""

    __slots__ = ("alone", "id", "is_lookup", "key", "requests", "rows", "worker")

    def __init__(
        self, worker: str, key: ModelKey, requests: list[Request], *, alone: bool, is_lookup: bool = False
    ) -> None:
        self.id = next(_batch_ids)
        self.worker = worker
        self.key = key
        self.requests = requests
        self.rows = sum(request.rows for request in requests)
        self.is_lookup = is_lookup
        self.alone = alone  # travels while nothing else is at the worker, to find out who kills workers

    def wanted(self) -> list[Request]:
        """Its requests that are still in this batch's hands and wait for an answer."""
        return [r for r in self.requests if r.stage is Stage.FLYING and r.worker == self.worker]
