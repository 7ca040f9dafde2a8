"""What the gateway's speed is held against: the least that a Starlette app on uvicorn does for a POST."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

_BODY = b'{"status":true,"message":"000127a35b5f462b8ec68fb4d905ac36","result":1.0000178813934326}'


async def _predict(request: Request) -> Response:
    await request.body()
    return Response(_BODY, media_type="application/json")


app = Starlette(routes=[Route("/predict", _predict, methods=["POST"])])
