"""Cuts a client's bytes into frames, after its preface. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from common.grpc.events import ProtocolError
from common.grpc.frames import HEAD, Code

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_STREAM_BITS = 2**31 - 1


Cut = tuple[int, int, int, bytes]
"""One frame: its kind, flags, stream, and what it holds."""


class Cutter:
    """Invariant: `_buffer` holds a frame (or the preface) that is not whole, and less than its `_needs`."""

    def __init__(self, max_frame: int) -> None:
        self._max_frame = max_frame
        self._awaits_preface = True
        self._buffer = bytearray()
        self._needs = 0

    def feed(self, data: bytes) -> Iterator[Cut]:
        """The frames that these bytes complete."""
        if self._buffer:
            self._buffer += data
            if len(self._buffer) < self._needs:
                return  # and nothing is copied: a large frame may come one byte at a time
            data = bytes(self._buffer)
            self._buffer.clear()
        at = 0
        if self._awaits_preface:
            if not PREFACE.startswith(data[: len(PREFACE)]):
                raise ProtocolError(Code.PROTOCOL_ERROR, "that is not HTTP/2")
            if len(data) < len(PREFACE):
                self._buffer += data
                return
            self._awaits_preface, at = False, len(PREFACE)
        size, needs = len(data), HEAD
        while size - at >= HEAD:
            length = int.from_bytes(data[at : at + 3], "big")
            if length > self._max_frame:
                raise ProtocolError(Code.FRAME_SIZE_ERROR, f"a frame of {length} bytes")
            end = at + HEAD + length
            if end > size:
                needs = HEAD + length
                break
            stream = int.from_bytes(data[at + 5 : at + HEAD], "big") & _STREAM_BITS
            start, at = at, end
            yield data[start + 3], data[start + 4], stream, data[start + HEAD : end]
        if at < size:
            self._buffer += data[at:]
            self._needs = needs


def without_padding(payload: bytes) -> bytes:
    """What a padded frame holds."""
    if not payload or payload[0] >= len(payload):
        raise ProtocolError(Code.PROTOCOL_ERROR, "more padding than frame")
    return payload[1 : len(payload) - payload[0]]
