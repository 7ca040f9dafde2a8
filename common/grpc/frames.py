"""Numbers of HTTP/2 and how a frame and a header field are written (RFC 9113, RFC 7541). Pure."""

from __future__ import annotations

import enum
import struct

END_STREAM = ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
PRIORITY_FLAG = 0x20

HEAD = 9  # bytes before what a frame holds

STATUS_200 = b"\x88"  # the eighth of the fields that HPACK knows


class Frame(enum.IntEnum):
    """Types of frames; others are to be ignored."""

    DATA = 0
    HEADERS = 1
    PRIORITY = 2
    RST_STREAM = 3
    SETTINGS = 4
    PUSH_PROMISE = 5
    PING = 6
    GOAWAY = 7
    WINDOW_UPDATE = 8
    CONTINUATION = 9


class Setting(enum.IntEnum):
    """Those that mean something to a server; others are to be ignored."""

    ENABLE_PUSH = 2
    MAX_CONCURRENT_STREAMS = 3
    INITIAL_WINDOW_SIZE = 4
    MAX_FRAME_SIZE = 5
    MAX_HEADER_LIST_SIZE = 6


class Code(enum.IntEnum):
    """Why a stream or a connection ends."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    FLOW_CONTROL_ERROR = 3
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    ENHANCE_YOUR_CALM = 11


def frame(kind: Frame, flags: int, stream: int, payload: bytes) -> bytes:
    """A whole frame."""
    return struct.pack(">IBI", len(payload) << 8 | kind, flags, stream) + payload


def literal(name: bytes, value: bytes) -> bytes:
    """A header field that goes into no table and is not compressed."""
    return b"\x00" + _length(len(name)) + name + _length(len(value)) + value


def _length(size: int) -> bytes:
    """An integer with a prefix of seven bits (RFC 7541, 5.1)."""
    if size < 0x7F:
        return bytes((size,))
    size -= 0x7F
    parts = [0x7F]
    while size >= 0x80:
        parts.append(size % 0x80 | 0x80)
        size //= 0x80
    return bytes((*parts, size))
