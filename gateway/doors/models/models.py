"""REST for models: what there is, uploads, activation, and predictions of any model and version."""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack, aclosing

import msgspec
import trio
from starlette.requests import Request
from starlette.responses import Response

from common.errors import InvalidRequest, NotFound, TooLarge
from common.models import ModelSettings
from common.tensor import TensorSpec
from gateway.doors.answers import json_response, rolled_answer
from gateway.doors.exchange import read_json
from gateway.doors.models.models_api import (
    ACTIVATE,
    CONFIGURE,
    LIST_MODELS,
    PREDICT_KINDS,
    PREDICT_MODEL,
    PREDICT_VERSION,
    RECONFIGURE,
    REMOVE,
    ROLLBACK,
    SHOW_MODEL,
    UPLOAD,
    Activation,
    Configured,
    ModelListed,
    ModelShown,
    TensorShown,
    Typed,
    VersionShown,
)
from gateway.doors.models.settings import merged, read_settings, replaced
from gateway.doors.paths import PREDICT
from gateway.doors.predict.predict import PredictDoor
from gateway.fleet.fleet import Fleet
from gateway.models.catalog import DEFAULT_MODEL, Catalog
from gateway.models.configuring import Configuring, settings_of_next
from gateway.models.holders import Holders
from gateway.models.rollout import Rollouts
from gateway.openapi.operation import Described
from gateway.scheduling.requests import ModelKey
from gateway.state.blobs import Blob
from gateway.state.state import State, VersionRecord

Endpoint = Callable[[Request], Awaitable[Response]]

_activation = msgspec.json.Decoder(Activation)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
_UPLOAD = re.compile(r"/models/[^/]+/versions/[^/]+\Z")
_DIGEST = re.compile(r"(?:^|,)\s*sha-256=(?::([A-Za-z0-9+/]{43}=):)?")
_BOOLS = {"true": True, "1": True, "": True, "false": False, "0": False}


class ModelsDoor:
    """Everything under `/models`."""

    def __init__(
        self,
        predict: PredictDoor,
        catalog: Catalog,
        holders: Holders,
        fleet: Fleet,
        rollouts: Rollouts,
        configuring: Configuring,
        state: State,
        *,
        max_upload: int,
    ) -> None:
        self._predict = predict
        self._catalog = catalog
        self._holders = holders
        self._fleet = fleet
        self._rollouts = rollouts
        self._configuring = configuring
        self._state = state
        self._max_upload = max_upload

    def routes(self) -> list[Described]:
        """For the app."""
        model, version = "/models/{model}", "/models/{model}/versions/{version}"
        return [
            # One route a path: 405 names the methods of one.
            Described("/models", self.list_models, get=LIST_MODELS),
            Described(model, self.model, get=SHOW_MODEL, put=CONFIGURE, patch=RECONFIGURE),
            Described(version, self.change, put=UPLOAD, delete=REMOVE),
            Described(f"{model}/activate", self.activate, post=ACTIVATE),
            Described(f"{model}/rollback", self.rollback, post=ROLLBACK),
            Described(f"{model}/predict", self.predict, post=PREDICT_MODEL),
            Described(f"{version}/predict", self.predict, post=PREDICT_VERSION),
            *[
                Described(f"{path}/{kind}", self.predict_kind(kind), post=operation)
                for (path, kind), operation in PREDICT_KINDS.items()
            ],
        ]

    def find_direct(self, method: str, path: str) -> PredictDoor | None:
        """What answers a prediction on the lane."""
        if method != "POST" or (match := PREDICT.match(path)) is None:
            return None
        return self._predict.of(match[1], match[2], None if match[3] == "predict" else match[3])

    def body_limit(self, method: str, path: str) -> int | None:
        """The largest body of an upload; None for what is not one."""
        return self._max_upload if method == "PUT" and _UPLOAD.match(path) else None

    async def list_models(self, _request: Request) -> Response:
        """Every model, its active version, and the versions that serve."""
        shown: list[ModelListed] = []
        for model in self._catalog.models():
            versions = self._catalog.of(model)
            serving = [version.key.version for version in versions]
            types = _types(model, (self._catalog.get(model) or versions[-1]).settings)
            shown.append({"name": model, "active": self._active(model), "serving": serving, **types})
        return json_response({"status": True, "message": "OK", "models": shown})

    async def model(self, request: Request) -> Response:
        """`show` or `configure`."""
        return await (self.configure if request.method in ("PUT", "PATCH") else self.show)(request)

    async def configure(self, request: Request) -> Response:
        """The settings of a model, also of one that has no version yet; `?reload=false` leaves the versions
        that are there loaded as they are."""
        model = _name("model", request)
        reload = _bool(request, "reload", default=True)
        table = await read_settings(request)

        def make(before: ModelSettings) -> ModelSettings:
            return merged(table, before) if request.method == "PATCH" else replaced(table, model, before)

        settings, rolled = await self._configuring.change(model, make, reload=reload)
        configured: Configured = {**rolled_answer(rolled), "settings": settings}
        return json_response(configured)

    async def show(self, request: Request) -> Response:
        """One model: its settings, each of its versions, and who holds it."""
        model = request.path_params["model"]
        records = await trio.to_thread.run_sync(self._state.versions, model)
        said = await trio.to_thread.run_sync(self._state.settings, model)
        if not records and said is None:
            raise NotFound(f"there is no model {model}: GET /models says which there are")
        settings = await trio.to_thread.run_sync(settings_of_next, self._state, model)
        active = self._catalog.get(model)
        previous = await trio.to_thread.run_sync(self._state.previous, model)
        found: ModelShown = {
            "status": True,
            "message": "OK",
            "name": model,
            "active": None if active is None else active.key.version,
            "previous": previous.version if previous else None,
            **_types(model, settings if active is None else active.settings),
            "settings": settings,
            "versions": [self._shown(record) for record in records],
        }
        return json_response(found)

    async def change(self, request: Request) -> Response:
        """`upload` or `remove`."""
        return await (self.upload if request.method == "PUT" else self.remove)(request)

    async def upload(self, request: Request) -> Response:
        """A version's file, as the body; `?file=` is what it is called, `?activate=` whether it answers who
        names none from now on."""
        model, version = _name("model", request), _name("version", request)
        activate = _bool(request, "activate", default=model == DEFAULT_MODEL)
        wanted = _digest(request.headers.get("content-digest"))
        blob = await self._receive(request, wanted)
        record = VersionRecord(
            model, version, version, blob.sha256, blob.size, time.time(),
            file=request.query_params.get("file", "")[:255],
            settings=await trio.to_thread.run_sync(settings_of_next, self._state, model),
        )  # fmt: skip
        return json_response(rolled_answer(await self._rollouts.add(record, activate=activate)))

    async def activate(self, request: Request) -> Response:
        """The version that answers who names none from now on."""
        wanted = 'the body should be {"version":"…"}: {error}'
        asked = await read_json(request, _activation, wanted=wanted)
        rolled = await self._rollouts.activate(request.path_params["model"], asked.version)
        return json_response(rolled_answer(rolled))

    async def rollback(self, request: Request) -> Response:
        """Back to the version that was active before."""
        return json_response(rolled_answer(await self._rollouts.rollback(request.path_params["model"])))

    async def remove(self, request: Request) -> Response:
        """Forget a version that is not active."""
        await self._rollouts.remove(request.path_params["model"], request.path_params["version"])
        return json_response({"status": True, "message": "OK"})

    async def predict(self, request: Request) -> Response:
        """For a client that comes by HTTP/2, where the lane has no part."""
        params = request.path_params
        return await self._predict.of(params["model"], params.get("version")).over_asgi(request)

    def predict_kind(self, kind: str) -> Endpoint:
        """The same of a model of this input type."""

        async def predict(request: Request) -> Response:
            params = request.path_params
            return await self._predict.of(params["model"], params.get("version"), kind).over_asgi(request)

        return predict

    # --- inside

    def _active(self, model: str) -> str | None:
        active = self._catalog.get(model)
        return None if active is None else active.key.version

    def _shown(self, record: VersionRecord) -> VersionShown:
        key = record.key
        holders = (self._fleet.roster.get(worker) for worker in self._holders.of(key))
        return {
            "version": record.version,
            "serves": self._catalog.serves(key),
            "checked": record.checked,
            "file": record.file,
            "size": record.size,
            "sha256": record.sha256,
            "created": record.created,
            "workers": sorted(worker.name for worker in holders if worker is not None),
            "refused": self._refused(key),
            "inputs": [_spec(spec) for spec in record.inputs],
            "outputs": [_spec(spec) for spec in record.outputs],
            "settings": record.settings,
        }

    def _refused(self, key: ModelKey) -> dict[str, str]:
        """What each worker says that refuses a version, by its name."""
        said = self._holders.refusals.of(key)
        known = {worker: self._fleet.roster.get(worker) for worker in said}
        return {each.name: said[worker] for worker, each in known.items() if each is not None}

    async def _receive(self, request: Request, wanted: str | None) -> Blob:
        """The body as a blob, written as it comes; refused where its digest is not the one that was said."""
        with ExitStack() as stack:
            writer = stack.enter_context(self._state.blobs.new())
            async with aclosing(request.stream()) as chunks:
                async for chunk in chunks:
                    if writer.size + len(chunk) > self._max_upload:
                        raise TooLarge(f"the file has more than {self._max_upload} bytes: see --max_upload")
                    await trio.to_thread.run_sync(writer.write, chunk)
            if not writer.size:
                raise InvalidRequest("the body is empty: send the model's file")
            if wanted is not None and wanted != writer.sha256:
                raise InvalidRequest(
                    f"the body's sha256 is {writer.sha256}, and Content-Digest says {wanted}: it was damaged"
                )
            return await trio.to_thread.run_sync(writer.commit)


def _types(model: str, settings: ModelSettings) -> Typed:
    """What a model takes and gives, and where."""
    kind = settings.input_type
    return {"input_type": kind, "output_type": settings.output_type, "route": f"/models/{model}/{kind}"}


def _name(what: str, request: Request) -> str:
    """The model or the version that the path names."""
    name: str = request.path_params[what]
    check_name(what, name)
    return name


def check_name(what: str, name: str) -> None:
    """`InvalidRequest` for what can name no model, or no version of one."""
    if not _NAME.match(name):
        raise InvalidRequest(
            f"{name!r} cannot name a {what}: use 1 to 64 letters, digits and . _ -, the first of them a"
            " letter or digit"
        )


def _bool(request: Request, name: str, *, default: bool) -> bool:
    text = request.query_params.get(name)
    if text is None:
        return default
    if text.lower() not in _BOOLS:
        raise InvalidRequest(f"{name} should be true or false, not {text!r}")
    return _BOOLS[text.lower()]


def _digest(header: str | None) -> str | None:
    """The sha256 that a `Content-Digest` (RFC 9530) says, in hex; None where it says none."""
    if header is None or (match := _DIGEST.search(header)) is None:
        return None
    if match[1] is None:
        raise InvalidRequest("Content-Digest should say sha-256=:…: with the base64 of 32 bytes between")
    return base64.b64decode(match[1]).hex()


def _spec(spec: TensorSpec) -> TensorShown:
    return {"name": spec.name, "datatype": spec.datatype, "shape": [-1, *spec.row_shape]}
