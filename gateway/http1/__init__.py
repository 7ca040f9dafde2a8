"""The HTTP lane: a fast HTTP/1.1 server on trio for direct handlers and an ASGI app.

`Lane(app, find_direct=...).run(sockets)` serves; WebSocket and HTTP/2 go on to Hypercorn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gateway.http1.exchange import Exchange, Handler
from gateway.http1.limits import HttpLimits
from gateway.http1.responses import default_error_body

if TYPE_CHECKING:
    from gateway.http1.lane import Lane

__all__ = ["Exchange", "Handler", "HttpLimits", "Lane", "default_error_body"]


def __getattr__(name: str) -> Any:
    """The lane itself is imported when somebody wants it: the processes in front of a gateway speak HTTP
    with the modules beside it, and have no use for trio and Hypercorn."""
    if name != "Lane":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from gateway.http1.lane import Lane

    return Lane
