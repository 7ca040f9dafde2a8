"""What one writes by hand: Starlette on uvicorn with orjson, the program in the handler, no batches."""

from __future__ import annotations

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bench.peers.services.program import Program

_program = Program()


async def _predict(request: Request) -> Response:
    row = orjson.loads(await request.body())["vector"]
    return Response(orjson.dumps({"y": _program.rows([row])[0]}), media_type="application/json")


app = Starlette(routes=[Route("/predict", _predict, methods=["POST"])])
