"""REST for jobs: what is asked as a `Job`, how one is shown, its answers in v1's shape, and the routes."""

from __future__ import annotations

import hashlib
import math
import re
import secrets
import time
from collections.abc import Callable
from typing import Any

import msgspec
import trio
from starlette.requests import Request
from starlette.responses import Response

from common.errors import InvalidRequest, NotFound
from gateway.auth.asking import client_of, until_refused
from gateway.auth.roles import Role
from gateway.doors.answers import json_response
from gateway.doors.exchange import read_json
from gateway.doors.jobs_api import (
    CANCEL,
    LAST_CURSOR,
    LIMIT,
    LIST,
    LONGEST_WAIT,
    MOST,
    RESULT,
    SHOW,
    SUBMIT,
    JobFacts,
    JobShown,
    Order,
)
from gateway.doors.predict.predict import Body, read_input
from gateway.doors.shape import failure
from gateway.jobs.going import Going
from gateway.jobs.job import FORMATS, BatchFiles, Job, State
from gateway.jobs.rows import Result, plain
from gateway.jobs.running import Jobs
from gateway.jobs.sources import pack_sent
from gateway.jobs.storage import StorageError
from gateway.jobs.webhooks import Webhooks
from gateway.models.catalog import Catalog
from gateway.openapi.operation import Described
from gateway.scheduling.predictions import Predictions

_order = msgspec.json.Decoder(Order)
FILE_TIME = 30.0
_KEY = re.compile(r"[!-~]{1,255}")
_GONE = (State.CANCELLED, State.EXPIRED)

Values = dict[str, Any]


class JobsDoor:
    """Everything under `/jobs`."""

    def __init__(
        self, jobs: Jobs, going: Going, catalog: Catalog, webhooks: Webhooks, predictions: Predictions
    ) -> None:
        self._jobs = jobs
        self._going = going
        self._catalog = catalog
        self._webhooks = webhooks
        self._predictions = predictions

    def routes(self) -> list[Described]:
        """For the app. One route a path: 405 names the methods of one."""
        return [
            Described("/jobs", self.all, get=LIST, post=SUBMIT),
            Described("/jobs/{id}", self.one, get=SHOW, delete=CANCEL),
            Described("/jobs/{id}/result", self.result, get=RESULT),
        ]

    async def all(self, request: Request) -> Response:
        """`submit` or `list_them`."""
        return await (self.submit if request.method == "POST" else self.list_them)(request)

    async def one(self, request: Request) -> Response:
        """`show` or `cancel`."""
        return await (self.cancel if request.method == "DELETE" else self.show)(request)

    async def submit(self, request: Request) -> Response:
        """Take a job in; what can be wrong with it is said now."""
        key, order = _key(request), await read_json(request, _order)
        digest = hashlib.sha256(await request.body()).hexdigest()
        client = client_of(request.scope)
        owner = "" if client is None else client.id
        known = await self._jobs.known(key, digest, owner) if key is not None else None
        if known is None:
            known = await self._admit(order, digest, key, owner)
        return json_response(self._shown(known), 202, {"location": f"/jobs/{known.id}"})

    async def list_them(self, request: Request) -> Response:
        """Jobs, newest first: all that the client may look at."""
        query = request.query_params
        state = _state(query.get("state"))
        limit = int(_number(query.get("limit"), "limit", LIMIT, least=1, most=MOST, whole=True))
        cursor = _number(query.get("cursor"), "cursor", math.inf, least=0, most=LAST_CURSOR, whole=True)
        before = None if cursor == math.inf else int(cursor)
        page = await self._jobs.page(state, limit, before, _only(request))
        shown = [job_values(job, self._jobs.line.position(job.id)) for job in page.jobs]
        behind = None if page.cursor is None else str(page.cursor)
        return json_response({"status": True, "message": "OK", "jobs": shown, "cursor": behind})

    async def show(self, request: Request) -> Response:
        """One job."""
        return json_response(self._shown(await self._job(request)))

    async def cancel(self, request: Request) -> Response:
        """End a job, or forget one that is over."""
        job = await self._jobs.cancel((await self._job(request)).id)
        return json_response({"status": True, "message": "OK"} if job is None else self._shown(job))

    async def result(self, request: Request) -> Response:
        """A job's answers; 202 until they are there, for which `?wait=` seconds may be waited."""
        seconds = _number(request.query_params.get("wait"), "wait", 0.0, least=0, most=LONGEST_WAIT)
        job = await self._job(request)
        if not job.is_over and seconds:
            await self._wait(request, job.id, seconds)
            if (client := client_of(request.scope)) is not None:
                client.check(time.time())
            job = await self._job(request)
        if not job.is_over:
            return json_response(self._shown(job), 202, {"retry-after": "1"})
        if job.state in _GONE:
            return json_response({**self._shown(job), **failure(job.error or "the job expired")}, 410)
        if job.state is State.FAILED:
            return json_response({**self._shown(job), **failure(job.error)})
        if job.files is not None:
            return json_response(self._shown(job))
        try:
            return Response(await trio.to_thread.run_sync(self._answers, job), media_type="application/json")
        except NotFound:  # it expired this moment
            return json_response(failure("the job expired"), 410)

    # --- inside

    async def _job(self, request: Request) -> Job:
        """The job that the path names; `NotFound` also where it is another token's."""
        only, job = _only(request), await self._jobs.get(request.path_params["id"])
        if only is not None and job.owner != only:
            raise NotFound(f"there is no job {job.id}")
        return job

    async def _admit(self, order: Order, digest: str, key: str | None, owner: str) -> Job:
        shape = order.shape
        if order.callback_url is not None:
            self._webhooks.check(order.callback_url)
        self._catalog.named(order.model, order.version)  # before files are looked at
        files, total = await self._files(order) if shape == "batch" else (None, None)
        version = self._catalog.named(order.model, order.version)
        sent = None
        if files is None:
            body = Body(vector=order.vector, vectors=order.vectors, inputs=order.inputs)
            signature, buffers, total = read_input(body, self._predictions.max_rows, version.inputs)
            sent = pack_sent(signature, buffers, total)
        job = Job(
            id=secrets.token_hex(16), model=version.key.model, version=version.key.version,
            nn_id=version.nn_id, shape=shape, ttl=order.ttl_s, owner=owner, digest=digest,
            priority=order.priority,
            callback_url=order.callback_url, files=files, created=time.time(), rows_total=total,
        )  # fmt: skip
        return await self._jobs.submit(job, key, sent)

    async def _files(self, order: Order) -> tuple[BatchFiles, int | None]:
        """The files of a batch job, and its rows where they are counted; `InvalidRequest`, `StorageError`."""
        if order.input is None or order.output is None:
            raise InvalidRequest("a batch job has input and output, each file:///… or s3://…")
        if order.input == order.output:
            raise InvalidRequest("input and output are the same file")
        kind = order.format or order.input.rpartition(".")[2].lower()
        if kind not in FORMATS:
            raise InvalidRequest(f"format should be one of {', '.join(FORMATS)}, not {kind[:40]!r}")
        asked = BatchFiles(
            input=order.input, output=order.output, format=kind, columns=order.columns, header=order.header
        )

        def look() -> tuple[BatchFiles, int | None]:
            storage = self._going.storage
            storage.check_writable(asked.output)
            size, stamp = storage.facts(asked.input)
            with storage.reading(asked.input) as file:
                total = self._going.open_file(file, asked, ()).total
            return msgspec.structs.replace(asked, size=size, stamp=stamp), total

        with trio.move_on_after(FILE_TIME):
            return await trio.to_thread.run_sync(look, abandon_on_cancel=True)
        raise StorageError(f"{order.input} could not be read within {FILE_TIME:.0f} seconds")

    async def _wait(self, request: Request, job_id: str, seconds: float) -> None:
        """Until the job is over, the client or its token goes, the gateway drains, or so long."""

        async def watch() -> None:
            while (await request.receive())["type"] != "http.disconnect":
                pass
            nursery.cancel_scope.cancel()

        async def ask_again() -> None:
            await until_refused(client_of(request.scope), Role.PREDICT)
            nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch)
            nursery.start_soon(ask_again)
            await self._jobs.wait(job_id, seconds)
            nursery.cancel_scope.cancel()

    def _answers(self, job: Job) -> bytes:
        head = {"status": True, "message": job.nn_id}
        return msgspec.json.encode(head | answer_values(job, self._going.answers(job)))

    def _shown(self, job: Job) -> JobShown:
        return {"status": True, "message": "OK", **job_values(job, self._jobs.line.position(job.id))}


def _only(request: Request) -> str | None:
    """Whose jobs the client may look at; None for all. Who reads may look at whatever the gateway does, and
    has no way to the answers."""
    client = client_of(request.scope)
    return client.id if client is not None and client.role == "predict" else None


def job_values(job: Job, position: int | None = None) -> JobFacts:
    """A job as JSON values; times in unix seconds, null for what did not happen yet."""
    now = time.time()
    began = job.started or job.finished or now
    shown: JobFacts = {
        "id": job.id,
        "state": job.state.value,
        "error": job.error or None,
        "model": job.model,
        "version": job.version,
        "owner": job.owner or None,
        "priority": job.priority,
        "queue_position": position,
        "progress": round(job.progress, 4),
        "rows_total": job.rows_total if job.state is not State.DONE else job.rows_done,
        "rows_done": job.rows_done,
        "rows_failed": job.rows_failed,
        "created": job.created,
        "started": job.started or None,
        "finished": job.finished or None,
        "expires": job.expires if job.is_over or not job.started else None,
        "queued_s": round(began - job.created, 3),
        "running_s": round((job.finished or now) - job.started, 3) if job.started else 0.0,
        "callback_url": job.callback_url,
    }
    if job.files is not None:
        files = job.files
        shown = {**shown, "input": files.input, "output": files.output, "format": files.format}
    return shown


def answer_values(job: Job, results: list[Result]) -> Values:
    """What `/predict` would have answered to the same rows."""
    if job.shape != "inputs":
        first = [plain(result[0]) for result in results]
        return {"result": first[0]} if job.shape == "vector" else {"results": first}
    outputs = []
    for at, spec in enumerate(job.outputs):
        data = [value for result in results for value in result[at]]
        shape = [len(results), *spec.row_shape]
        outputs.append({"name": spec.name, "datatype": spec.datatype, "shape": shape, "data": data})
    return {"outputs": outputs}


def callback_body(job: Job) -> bytes:
    """What a job's callback_url is sent."""
    return msgspec.json.encode(job_values(job))


def _key(request: Request) -> str | None:
    key = request.headers.get("idempotency-key")
    if key is not None and not _KEY.fullmatch(key):
        raise InvalidRequest("Idempotency-Key should be 1 to 255 printable characters without spaces")
    return key


def _state(text: str | None) -> State | None:
    if text in (None, ""):
        return None
    try:
        return State(text)
    except ValueError:
        known = ", ".join(state.value for state in State)
        raise InvalidRequest(f"state should be one of {known}, not {str(text)[:40]!r}") from None


def _number(
    text: str | None, name: str, default: float, *, least: float, most: float, whole: bool = False
) -> float:
    if text is None:
        return default
    parse: Callable[[str], float] = int if whole else float
    try:
        value = parse(text)
    except ValueError:
        value = math.nan
    if not least <= value <= most:
        kind = "a whole number" if whole else "a number"
        raise InvalidRequest(f"{name} should be {kind} from {least:.0f} to {most:.0f}, not {text[:40]!r}")
    return value
