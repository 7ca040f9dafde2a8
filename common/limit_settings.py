"""The settings of what one client may take of a gateway's doors; docs/security.md has a table of them."""

from __future__ import annotations

from dataclasses import dataclass

from common.flags import BYTES, COUNT, DEPTH, SECONDS, option


@dataclass(frozen=True, kw_only=True)
class LimitSettings:
    """Above a limit a client is refused, or cut, and counted."""

    max_body: int = option(8 << 20, BYTES, "limits", "largest request body, weights apart")
    max_upload: int = option(1 << 30, BYTES, "limits", "largest upload of weights")
    max_rows: int = option(65_536, COUNT, "limits", "most rows in one request")
    max_json_depth: int = option(
        64, DEPTH, "limits", "how deep lists and objects may be within each other in JSON"
    )
    max_head: int = option(32 << 10, BYTES, "limits", "largest head of a request")
    max_target: int = option(8 << 10, BYTES, "limits", "longest path with its query")
    max_connections: int = option(4096, COUNT, "limits", "connections of HTTP, and as many of gRPC")
    max_connections_per_address: int = option(
        1024, COUNT, "limits", "of them, those of one address: more where a proxy brings everybody"
    )
    head_time: float = option(10.0, SECONDS, "limits", "how long a request's head may take, in seconds")
    body_time: float = option(
        30.0, SECONDS, "limits", "how long a body may pause, and how often its rate is looked at, in seconds"
    )
    min_body_rate: int = option(500, COUNT, "limits", "fewest bytes a second in which a body may come")
    write_time: float = option(
        30.0, SECONDS, "limits", "how long a client may take no byte of what it is sent, in seconds"
    )
    call_time: float = option(
        120.0,
        SECONDS,
        "limits",
        "how long a call of gRPC may take over its message, or leave its answer, in seconds",
    )
    max_calls: int = option(1024, COUNT, "limits", "calls at once on a connection of gRPC")
    ws_window: int = option(64, COUNT, "limits", "requests in flight on one WebSocket")
    ws_messages_per_second: int = option(
        20_000, COUNT, "limits", "messages of one WebSocket; what comes faster waits to be read"
    )
