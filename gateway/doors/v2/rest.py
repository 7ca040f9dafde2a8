"""The Open Inference Protocol over REST: inferences on the HTTP lane, everything else as ASGI routes."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec
import pybase64
import trio
from outcome import Outcome
from starlette.requests import Request as AsgiRequest
from starlette.responses import Response
from starlette.routing import Route

from common.errors import InvalidRequest, PipelineError
from common.tensor import Buffer
from gateway.doors.answers import json_response
from gateway.doors.exchange import Asked, answer_over_asgi, read_json
from gateway.doors.json import JsonReader
from gateway.doors.paths import INFER
from gateway.doors.predict.predict import read_timeout
from gateway.doors.predict.results import provenance
from gateway.doors.v2 import codec, coding, rest_api
from gateway.doors.v2.describe import Description
from gateway.doors.v2.failures import error_body, failure
from gateway.doors.v2.infer import Checked, Inference, InferRequest
from gateway.doors.v2.known import Known, KnownRequests
from gateway.doors.v2.repository import FILE, Repository
from gateway.models.catalog import Catalog
from gateway.openapi.operation import Described, NotOffered
from gateway.scheduling.requests import Answer, Request

log = logging.getLogger("pipeline.http")

_object = msgspec.json.Decoder(dict[str, Any])
_LOAD = re.compile(r"/v2/repository/models/[^/]+/load\Z")
_MODEL = "/v2/models/{model}"
DOOR = "v2"  # as figures call it
_VERSION = _MODEL + "/versions/{version}"
_BINARY = b"content-type: application/octet-stream\r\n" + codec.HEADER_LENGTH + b": %d\r\n"
# What Triton serves and nobody can here; its clients are told so, not that the path is wrong.
_NOT_SERVED = (
    "/v2/systemsharedmemory/{rest:path}", "/v2/cudasharedmemory/{rest:path}", "/v2/trace/setting",
    "/v2/models/{model}/trace/setting", "/v2/logging",
)  # fmt: skip


class InferDoor:
    """Called by the lane with a whole request; the answer is written when the batch loop has it."""

    def __init__(
        self,
        inference: Inference,
        catalog: Catalog,
        *,
        max_body: int,
        model: str = "",
        version: str | None = None,
        known: KnownRequests | None = None,
        json: JsonReader | None = None,
    ) -> None:
        self._inference = inference
        self._catalog = catalog
        self._max_body = max_body
        self._model = model
        self._version = version
        self._known = known or KnownRequests()
        self._json = json or JsonReader()

    def of(self, model: str, version: str | None) -> InferDoor:
        """The same for one model."""
        return InferDoor(
            self._inference, self._catalog, max_body=self._max_body, model=model, version=version,
            known=self._known, json=self._json,
        )  # fmt: skip

    def __call__(self, exchange: Asked) -> None:
        encoding = exchange.header(b"content-encoding")
        if encoding is None or encoding.lower() == b"identity":
            self._start(exchange, exchange.body)
            return
        try:
            inflater = coding.Inflater(encoding, limit=self._max_body)
            plain = inflater.begin(exchange.body)
        except PipelineError as error:
            self._refuse(exchange, error)
            return
        if plain is not None:
            self._start(exchange, plain)
        else:
            _in_a_thread(inflater.finish, partial(self._start_inflated, exchange))

    def _start_inflated(self, exchange: Asked, inflated: Outcome[bytes]) -> None:
        try:
            plain = inflated.unwrap()
            self._start(exchange, plain)
        except PipelineError as error:
            self._refuse(exchange, error)
        except Exception:  # here no lane is around us to catch it
            log.exception("an inference failed")
            exchange.respond(*failure(PipelineError("The server failed on this request.")))

    def _start(self, exchange: Asked, body: Buffer) -> None:
        try:
            timeout = read_timeout(exchange.header(b"x-timeout-ms"))
            length = codec.read_header_length(exchange.header(codec.HEADER_LENGTH))
            checked, buffers, known = self._check(exchange, memoryview(body), length)
            started = self._inference.begin(
                checked, buffers, header=exchange.header, timeout=timeout, door=DOOR,
                reply=_replier(exchange, checked, known), client=exchange.client,
            )  # fmt: skip
        except PipelineError as error:
            self._refuse(exchange, error)
        else:
            exchange.on_gone = _canceller(self._inference, started)

    def _refuse(self, exchange: Asked, error: PipelineError) -> None:
        self._inference.refused(DOOR, self._model, error)
        exchange.respond(*failure(error))

    def _check(
        self, exchange: Asked, body: memoryview, header_length: int | None
    ) -> tuple[Checked, tuple[Buffer, ...], Known | None]:
        """The request and its tensors; and what is known of it, or from now on will be."""
        name = self._model, self._version, bytes(body[: header_length or 0])
        known = self._known.find(name) if header_length else None
        if known is not None:
            version = self._inference.find(known.checked.request, exchange.header)
            raw = body[header_length:]
            if known.fits(version, len(raw)):
                return known.checked, known.buffers(raw), known
        checked = self._inference.check(self._read(body, header_length), exchange.header)
        known = None
        if header_length:
            known = self._known.learn(name, checked, len(body) - header_length)
        return checked, checked.buffers(), known

    def _read(self, body: Buffer, header_length: int | None) -> InferRequest:
        if header_length == 0:
            version = self._catalog.named(self._model, self._version)
            takes = version.inputs or version.settings.signature
            return codec.read_raw(body, takes, self._model, self._version)
        return codec.read_request(body, header_length, self._model, self._version, self._json)


def _in_a_thread(work: Callable[[], bytes], then: Callable[[Outcome[bytes]], None]) -> None:
    """Do what takes time elsewhere, and go on with what came of it; nobody waits for it when all ends."""
    token = trio.lowlevel.current_trio_token()

    def deliver(outcome: Outcome[bytes]) -> None:
        with contextlib.suppress(trio.RunFinishedError):
            token.run_sync_soon(then, outcome)

    trio.lowlevel.start_thread_soon(work, deliver)


def _canceller(inference: Inference, request: Request) -> Callable[[], None]:
    return lambda: inference.cancel(request)


def _replier(
    exchange: Asked, checked: Checked, known: Known | None
) -> Callable[[Answer | PipelineError], None]:
    def reply(answer: Answer | PipelineError) -> None:
        if isinstance(answer, PipelineError):
            exchange.respond(*failure(answer))
            return
        try:
            head, buffers = _write(answer, checked, known)
        except PipelineError as error:
            exchange.respond(*failure(error))
            return
        extra = _BINARY % len(head) if buffers else b""
        accepted = exchange.header(b"accept-encoding")
        wanted = coding.choose(accepted, len(head) + sum(map(len, buffers))) if accepted else None
        if wanted is not None:
            head, buffers = coding.compress(b"".join([head, *buffers]), wanted), []
            extra += b"content-encoding: %b\r\n" % wanted
        exchange.respond(200, head, extra + provenance(answer), buffers)

    return reply


def _write(answer: Answer, checked: Checked, known: Known | None) -> tuple[bytes, Sequence[Buffer]]:
    """The JSON of an answer and the tensors behind it."""
    head = None if known is None else known.head(answer)
    if head is not None:
        return head, answer.buffers
    response = checked.respond(answer)
    head, buffers = codec.write_response(response, checked.request)
    if known is not None:
        known.learn_head(response, head, buffers)
    return head, buffers


class V2Door:
    """Everything under `/v2`."""

    def __init__(self, infer: InferDoor, description: Description, repository: Repository) -> None:
        self._infer = infer
        self._description = description
        self._repository = repository

    def find_direct(self, method: str, path: str) -> InferDoor | None:
        """What answers an inference on the lane."""
        if method != "POST" or (match := INFER.match(path)) is None:
            return None
        return self._infer.of(match[1], match[2])

    def body_limit(self, method: str, path: str, largest: int) -> int | None:
        """`largest`, in base64 and JSON, for what may hold a model's file; None for all else."""
        return largest if method == "POST" and _LOAD.match(path) else None

    def routes(self) -> list[Route]:
        """For the app."""
        both = list(enumerate((_MODEL, _VERSION)))
        repository = "/v2/repository/models/{model}"
        return [
            Described("/v2", self.server, get=rest_api.SERVER),
            Described("/v2/health/live", self.live, get=rest_api.LIVE),
            Described("/v2/health/ready", self.ready, get=rest_api.READY),
            Described("/v2/models/stats", self.statistics, get=rest_api.ALL_STATISTICS),
            *(Described(path, self.metadata, get=rest_api.METADATA[i]) for i, path in both),
            *(Described(f"{path}/ready", self.model_ready, get=rest_api.MODEL_READY[i]) for i, path in both),
            *(Described(f"{path}/config", self.config, get=rest_api.CONFIG[i]) for i, path in both),
            *(Described(f"{path}/stats", self.statistics, get=rest_api.STATISTICS[i]) for i, path in both),
            *(Described(f"{path}/infer", self.infer, post=rest_api.INFER[i]) for i, path in both),
            Described("/v2/repository/index", self.index, post=rest_api.INDEX),
            Described(f"{repository}/load", self.load, post=rest_api.LOAD),
            Described(f"{repository}/unload", self.unload, post=rest_api.UNLOAD),
            *(NotOffered(path, self.not_served, methods=["GET", "POST"]) for path in _NOT_SERVED),
        ]

    async def infer(self, request: AsgiRequest) -> Response:
        """For a client that comes by HTTP/2, where the lane has no part."""
        return await answer_over_asgi(self._infer.of(*_named(request)), request)

    async def live(self, _request: AsgiRequest) -> Response:
        """Whoever is answered knows."""
        return json_response({"live": True})

    async def ready(self, _request: AsgiRequest) -> Response:
        """Whether the default model can be answered now."""
        why_not = self._description.why_not_ready()
        return _unready(why_not) if why_not else json_response({"ready": True})

    async def model_ready(self, request: AsgiRequest) -> Response:
        """The same of one model."""
        model, version = _named(request)
        if self._description.is_model_ready(model, version):
            return json_response({"name": model, "ready": True})
        return _unready(f"no worker that is ready holds {model}")

    async def server(self, _request: AsgiRequest) -> Response:
        """What this is, and which extensions of the protocol it knows."""
        return json_response(self._description.server())

    async def metadata(self, request: AsgiRequest) -> Response:
        """What a model takes and gives."""
        return json_response(self._description.metadata(*_named(request)))

    async def config(self, request: AsgiRequest) -> Response:
        """How a model is run."""
        return json_response(self._description.config(*_named(request)))

    async def statistics(self, request: AsgiRequest) -> Response:
        """What models did since the gateway started."""
        model = request.path_params.get("model")
        return json_response(self._description.statistics(model, request.path_params.get("version")))

    async def index(self, request: AsgiRequest) -> Response:
        """Every version there is; `{"ready":true}`: those that serve."""
        asked = await _read_object(request)
        return json_response(await self._description.repository_index(ready=bool(asked.get("ready", False))))

    async def load(self, request: AsgiRequest) -> Response:
        """Have a model serve (again), or a version whose file came along."""
        parameters = (await _read_object(request)).get("parameters") or {}
        if not isinstance(parameters, dict):
            raise InvalidRequest("parameters should be an object")
        await self._repository.load(
            request.path_params["model"], await trio.to_thread.run_sync(_decode_files, parameters)
        )
        return json_response({})

    async def unload(self, request: AsgiRequest) -> Response:
        """Have no version of a model serve; what was asked before is answered."""
        await self._repository.unload(request.path_params["model"])
        return json_response({})

    async def not_served(self, request: AsgiRequest) -> Response:
        """What Triton has beside this, and nobody has here."""
        what = request.scope["path"].removeprefix("/v2/")
        return Response(error_body(f"{what} is not served"), 501, media_type="application/json")


def _named(request: AsgiRequest) -> tuple[str, str | None]:
    return request.path_params["model"], request.path_params.get("version")


def _unready(reason: str) -> Response:
    headers = {"retry-after": "1"}
    return Response(error_body(reason), 503, headers, media_type="application/json")


async def _read_object(request: AsgiRequest) -> dict[str, Any]:
    """An object; an empty body is an empty one."""
    return await read_json(
        request, _object, empty=b"{}", what="the body", wanted="the body should be a JSON object: {error}"
    )


def _decode_files(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The same, with files as bytes: JSON has them in base64."""
    decoded = dict(parameters)
    for name, value in parameters.items():
        if name.startswith(FILE):
            try:
                decoded[name] = pybase64.b64decode(value, validate=True)
            except (TypeError, ValueError):
                raise InvalidRequest(f"{name} should be the file in base64") from None
    return decoded
