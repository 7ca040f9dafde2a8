"""The HTTP lane: a fast HTTP/1.1 server on trio for direct handlers and an ASGI app.

`Lane(app, find_direct=...).run(sockets)` serves; WebSocket and HTTP/2 go on to Hypercorn.
"""

from __future__ import annotations

from gateway.http1.exchange import Exchange, Handler
from gateway.http1.lane import Lane
from gateway.http1.limits import HttpLimits
from gateway.http1.responses import default_error_body

__all__ = ["Exchange", "Handler", "HttpLimits", "Lane", "default_error_body"]
