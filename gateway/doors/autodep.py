"""The API of autodep: `POST /inference` and `/workers`, over the models and workers of every other door."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any, cast

import msgspec
from pybase64 import b64encode_as_string
from starlette.requests import Request as AsgiRequest
from starlette.responses import Response

from common.errors import InvalidRequest, ModelNotFound, PipelineError
from common.media import row_of
from common.models import ModelSettings
from common.tensor import BYTES, pack_elements, values
from gateway.doors.answers import json_response
from gateway.doors.autodep_api import (
    INFERENCE,
    WORKERS,
    WORKERS_INFO,
    WORKERS_STATUS,
    Address,
    Classify,
    Info,
    Load,
    Task,
)
from gateway.doors.exchange import Asked, answer_over_asgi
from gateway.doors.json import JsonReader
from gateway.doors.monitoring.status import StatusDoor
from gateway.doors.predict.media import decode_file, pack_text
from gateway.doors.predict.results import provenance
from gateway.doors.predict.typed_results import show_rows
from gateway.doors.shape import encode, lines_of
from gateway.doors.v2.failures import status_of
from gateway.models.catalog import DEFAULT_MODEL, Catalog, Version
from gateway.openapi.operation import Described
from gateway.scheduling.predictions import Predictions
from gateway.scheduling.requests import Answer

# By the word of the request: what the model takes, and what it answers.
_KINDS = {
    "ImageClassification": ("image", "classification"),
    "ImageToImage": ("image", "image"),
    "TextToText": ("text", "text"),
}
DOOR = "autodep"  # as figures call it
_PNG_SIZE = slice(16, 24)  # width and height, in the header that every PNG begins with (RFC 2083, 11.2.1)

_decoder = msgspec.json.Decoder(Task)


class AutodepDoor:
    """Its errors are `{"errors": ["…"]}`, and success is 200 alone."""

    def __init__(
        self, predictions: Predictions, catalog: Catalog, status: StatusDoor, json: JsonReader
    ) -> None:
        self._predictions = predictions
        self._catalog = catalog
        self._status = status
        self._json = json

    def routes(self) -> list[Described]:
        """For the app."""
        return [
            Described("/inference", self.inference, post=INFERENCE),
            Described("/workers", self._of_workers(Address), get=WORKERS),
            Described("/workers/_status", self._of_workers(Load), get=WORKERS_STATUS),
            Described("/workers/_info", self._of_workers(Info), get=WORKERS_INFO),
        ]

    async def inference(self, request: AsgiRequest) -> Response:
        """What a model makes of one picture or text."""
        model = request.query_params.get("model")
        return await answer_over_asgi(lambda exchange: self._infer(exchange, model), request)

    # --- inside

    def _of_workers(self, shown: Any) -> Callable[[AsgiRequest], Awaitable[Response]]:
        async def answer(_request: AsgiRequest) -> Response:
            workers = cast("list[dict[str, Any]]", (await self._status.status())["workers"])
            return json_response([{key: each[key] for key in shown.__annotations__} for each in workers])

        return answer

    def _infer(self, exchange: Asked, model: str | None) -> None:
        came = time.perf_counter()
        try:
            task = self._json.read(exchange.body, _decoder, otherwise="cannot parse request body")
            word = task.inference_type if isinstance(task.inference_type, str) else "ImageClassification"
            row = _row(task, *_KINDS[word])
            found = self._catalog.choose(self._choose(model), exchange.header)
            _check(found, word)
            top_n = _top_n(task, found.settings)

            def reply(answer: Answer | PipelineError) -> None:
                try:
                    if isinstance(answer, PipelineError):
                        raise answer
                    body = encode([_shown(answer, found.settings, top_n), _duration(came)])
                except PipelineError as error:
                    exchange.respond(*_failure(error))
                else:
                    exchange.respond(200, body, provenance(answer))

            signature = row_of(found.settings.input_type)
            request = self._predictions.start(
                found, signature, (pack_elements([row]),), 1, None, reply,
                door=DOOR, header=exchange.header, client=exchange.client,
            )  # fmt: skip
        except PipelineError as error:
            self._predictions.refused(DOOR, model or DEFAULT_MODEL, error)
            exchange.respond(*_failure(error))
        else:
            exchange.on_gone = lambda: self._predictions.cancel(request)

    def _choose(self, model: str | None) -> str:
        """Which model is asked: the one that is named, else `default`, else the only one."""
        if model is not None:
            return model
        models = list(self._catalog.models())
        if DEFAULT_MODEL in models or not models:
            return DEFAULT_MODEL
        if len(models) > 1:
            raise ModelNotFound(f"there are the models {', '.join(models)}: name one, as ?model={models[0]}")
        return models[0]


def _row(task: Task, kind: str, _answers: str) -> bytes:
    """The picture's file, or the text."""
    image, text = task.data.B64Image, task.data.Text
    if (image is None) == (text is None):
        raise InvalidRequest("data should be one of B64Image and Text")
    if image is not None and kind == "image":
        return decode_file(image.image, "data.B64Image.image")
    if text is not None and kind == "text":
        return pack_text(text)
    raise InvalidRequest(f"this inference_type takes {'B64Image' if kind == 'image' else 'Text'} as data")


def _check(found: Version, word: str) -> None:
    settings, (takes, answers) = found.settings, _KINDS[word]
    if (settings.input_type, settings.output_type) != (takes, answers):
        raise InvalidRequest(
            f"{word} is for models that take {takes} and answer {answers}, and {found.key.model} takes"
            f" {settings.input_type} and answers {settings.output_type}"
        )


def _top_n(task: Task, settings: ModelSettings) -> int:
    said = task.inference_type
    top_n = said.ImageClassification.top_n if isinstance(said, Classify) else None
    return settings.output.top_n if top_n is None else top_n


def _shown(answer: Answer, settings: ModelSettings, top_n: int) -> dict[str, Any]:
    if settings.output_type == "image":
        png = bytes(values(answer.buffers[0], BYTES)[0])
        width, height = (int.from_bytes(png[_PNG_SIZE][at : at + 4], "big") for at in (0, 4))
        return {"B64Image": {"image": b64encode_as_string(png), "height": height, "width": width}}
    (row,) = show_rows(answer, settings, top_n)
    if settings.output_type == "text":
        return {"Text": row}
    return {"Classification": [{"probability": e["probability"], "label": e["label"]} for e in row]}


def _duration(came: float) -> dict[str, int]:
    seconds = time.perf_counter() - came
    return {"secs": int(seconds), "nanos": int(seconds % 1 * 1e9)}


def _failure(error: PipelineError) -> tuple[int, bytes, bytes]:
    status = status_of(error)
    return status, encode({"errors": [str(error)]}), lines_of(error, status)
