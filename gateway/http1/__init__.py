"""The HTTP lane: a fast HTTP/1.1 server on trio for direct handlers and an ASGI app.

`lane.Lane(app, find_direct=...).run(sockets)` serves; WebSocket and HTTP/2 go on to Hypercorn. The lane is
not among what is imported here: processes in front of a gateway speak HTTP with the modules beside it, and
have no use for trio and Hypercorn.
"""

from __future__ import annotations

from gateway.http1.exchange import Exchange, Handler
from gateway.http1.limits import HttpLimits
from gateway.http1.responses import default_error_body

__all__ = ["Exchange", "Handler", "HttpLimits", "default_error_body"]
