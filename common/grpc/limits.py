"""What one client may take of a gRPC server; nothing here enforces it."""

from __future__ import annotations

from dataclasses import dataclass

REFUSALS = (
    "connections", "connections_per_address", "handshake_time", "message", "protocol", "receive_time",
    "send_time", "stall_time",
)  # fmt: skip
"""What is counted of who goes beyond."""


@dataclass(frozen=True, kw_only=True)
class GrpcLimits:
    """Sizes in bytes, times in seconds."""

    max_message: int = 1 << 30
    """One message: RESOURCE_EXHAUSTED above."""
    max_held: int = 1 << 30
    """All that a connection has sent and no call has taken: RESOURCE_EXHAUSTED above."""
    max_calls: int = 1024
    """Calls at once on a connection; a client keeps more to itself."""
    max_queued: int = 16
    """Messages of one stream that its handler has not taken; then the client is left to wait."""
    max_unsent: int = 1 << 20
    """What waits to be written; then nothing more is read of the client."""
    max_connections: int = 4096
    """Above this a new one is closed."""
    max_connections_per_address: int = 1024
    window: int = 256 << 10
    """What a client may send of one call before it hears that more is wanted."""
    max_frame: int = 1 << 20
    receive_time: float = 120.0
    """From a call's first byte to the last of its message, where it names no deadline."""
    handshake_time: float = 10.0
    """From a connection's start to the client's settings, and from the first to the last of a request's
    headers: cut."""
    send_time: float = 30.0
    """Without the client taking one byte of what it is sent: cut."""
    stall_time: float = 120.0
    """Without the client making room for one byte of a call's answer: the call is given up."""
    silence: float = 60.0
    """Without one byte from the client: it is pinged."""
    ping_time: float = 20.0
    """Without one byte since the ping: cut."""
    linger_time: float = 0.5
    """How long a connection that ended in good order waits for the client to close it."""
