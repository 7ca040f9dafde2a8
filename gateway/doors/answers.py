"""Answers of the doors that are ASGI, as Starlette sends them."""

from __future__ import annotations

import base64

from starlette.responses import Response

from gateway.doors.rest_api import RolledAnswer, WorkerLoaded
from gateway.doors.shape import encode
from gateway.models.switching import Rolled


def json_response(value: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A value as JSON."""
    return Response(encode(value), status, headers, media_type="application/json")


def rolled_answer(rolled: Rolled) -> RolledAnswer:
    """What a rollout answers: the contract's words, and each worker's result and trace."""
    workers: list[WorkerLoaded] = [
        {"result": True} if loaded else {"result": False, "trace": base64.b64encode(trace.encode()).decode()}
        for loaded, trace in rolled.results
    ]
    message = "OK" if rolled.ok else "One or more workers were failed with weights loading"
    return {"status": rolled.ok, "message": message, "workers_count": len(workers), "workers": workers}
