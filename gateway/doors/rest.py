"""REST as a Starlette app: `PUT /set_weights`, `GET /status`, `/models`, and predictions for HTTP/2, since
the HTTP/1.1 lane answers those itself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from common.errors import PipelineError
from gateway.doors.answers import json_response, rolled_answer
from gateway.doors.models.models import ModelsDoor
from gateway.doors.models.upload import receive_upload
from gateway.doors.monitoring.status import StatusDoor
from gateway.doors.pages.documents import document_routes
from gateway.doors.predict.predict import PredictDoor
from gateway.doors.predict.predict_api import PREDICT
from gateway.doors.rest_api import SET_WEIGHTS, STATUS
from gateway.doors.shape import error_body, headers_of, is_v2
from gateway.doors.v2.failures import status_of
from gateway.models.rollout import Rollouts
from gateway.openapi.operation import Described
from gateway.state.blobs import BlobStore

Endpoint = Callable[[Request], Awaitable[Response]]

# What base64 and the multipart envelope add to the weights themselves.
ENVELOPE = 64 << 10


def body_limit(max_upload: int) -> int:
    """The largest request body that can hold weights of `max_upload` bytes, in lines of 48 bytes at least."""
    return max_upload * 4 // 3 + max_upload // 24 + ENVELOPE


def make_app(
    predict: PredictDoor,
    status: StatusDoor,
    models: ModelsDoor,
    rollouts: Rollouts,
    blobs: BlobStore,
    *,
    max_upload: int,
    also: Sequence[BaseRoute] = (),
) -> Starlette:
    """The app, `also` with other doors' routes; an error has the shape of the protocol that
    its path belongs to."""

    async def get_status(_request: Request) -> Response:
        return json_response(await status.status())

    async def put_weights(request: Request) -> Response:
        content_type = request.headers.get("content-type", "")
        nn_id, blob = await receive_upload(request.stream(), content_type, blobs, max_bytes=max_upload)
        return json_response(rolled_answer(await rollouts.set_weights(nn_id, blob)))

    app = Starlette(
        routes=[
            Described("/predict", predict.over_asgi, post=PREDICT),
            Described("/set_weights", put_weights, put=SET_WEIGHTS),
            Described("/status", get_status, get=STATUS),
            *models.routes(),
            *also,
            *document_routes(lambda: app),
        ],
        exception_handlers={
            PipelineError: _pipeline_error,
            HTTPException: _http_error,
            ClientDisconnect: _gone,
            Exception: _unexpected,
        },
    )
    app.router.redirect_slashes = False  # what is not there is 404 and JSON, never a 307 without a body
    return app


async def _pipeline_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, PipelineError)
    status = status_of(error) if is_v2(request.scope["path"]) else error.status
    return _refusal(request, status, str(error), headers_of(error, status))


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    message, path = error.detail, request.scope["path"]  # `request.url` fails on some Host headers
    if error.status_code == 404:
        message = f"There is nothing at {path}"
    elif error.status_code == 405:
        message = f"{request.method} is not allowed at {path}"
    return _refusal(request, error.status_code, message, dict(error.headers or {}))


async def _unexpected(request: Request, _error: Exception) -> Response:
    """Starlette raises the error anew once this is sent, and whoever called the app logs it."""
    return _refusal(request, 500, "The server failed on this request.")


def _refusal(request: Request, status: int, message: str, headers: dict[str, str] | None = None) -> Response:
    body = error_body(status, message, request.scope["path"])
    return Response(body, status, headers, media_type="application/json")


async def _gone(_request: Request, _error: Exception) -> Response:
    return Response(status_code=499)  # nobody reads it
