"""The limits of the HTTP lane, as one frozen value; nothing here enforces them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

_NAMES = {
    400: "syntax", 413: "body", 414: "target", 417: "syntax", 431: "head", 501: "syntax", 503: "connections",
    505: "syntax",
}  # fmt: skip
REFUSALS = (
    *dict.fromkeys(_NAMES.values()),
    *("connections_per_address", "head_time", "body_time", "write_time", "ws_message"),
)
"""Everything that is counted."""


@dataclass(frozen=True, kw_only=True)
class HttpLimits:
    """What one client may take of the lane; sizes in bytes, times in seconds.

    `max_body_of(method, path)` may name another body limit than `max_body` for a path, or None.
    Raises ValueError on a limit that is not above zero.
    """

    max_head: int = 32 * 1024
    """Header (and trailer) bytes of a request: 431 above."""
    max_target: int = 8 * 1024
    """Length of the request target: 414 above."""
    max_body: int = 8 * 1024 * 1024
    """Of a WebSocket message as well: 1009 above."""
    max_body_of: Callable[[str, str], int | None] | None = None
    max_pipelined: int = 64 * 1024
    """Bytes read ahead while a request waits for its answer; then the socket is left alone."""
    max_unread: int = 1024 * 1024
    """Body bytes that the app has not taken yet; then the socket is left alone."""
    max_discarded: int = 256 * 1024
    """Body bytes left over after the answer that are read and thrown away to keep the connection."""
    max_connections: int = 4096
    """Above this a new connection is answered 503 and closed."""
    max_connections_per_address: int = 1024
    """The same for one address."""
    min_body_rate: int = 500
    """Bytes a second of an unfinished body, on the average of each `body_time`: 408 below."""
    head_time: float = 10.0
    """From a head's first byte (or from accept) to its last: 408, or close if nothing came."""
    idle_time: float = 75.0
    body_time: float = 30.0
    """Without one byte of an unfinished body: 408."""
    write_time: float = 30.0
    """Without the client taking one byte of an answer: cut."""
    linger_time: float = 2.0
    """How long a closed connection is drained so that the client can read the last answer."""

    ping_time: float = 20.0
    """How often a WebSocket client is asked whether it is there."""
    silence_time: float = 50.0
    """Without a byte of a WebSocket client, which should answer pings: cut."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name != "max_body_of" and not value > 0:
                raise ValueError(f"{field.name} must be above zero, not {value!r}.")

    @property
    def sweep_time(self) -> float:
        """How often the sweeper must look so that no time limit is overrun by more than a quarter."""
        return min(self.head_time, self.idle_time, self.body_time, self.write_time, self.linger_time, 4.0) / 4

    @staticmethod
    def name_of(status: int, *, in_body: bool) -> str:
        """What figures call the limit that a refusal is for; "" for what is none."""
        if status == 408:
            return "body_time" if in_body else "head_time"
        return _NAMES.get(status, "")

    def body_limit(self, method: str, path: str) -> int:
        """The largest body that `method` on `path` takes."""
        limit = self.max_body_of(method, path) if self.max_body_of is not None else None
        return self.max_body if limit is None else limit
