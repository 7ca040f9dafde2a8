"""Frames on their way to a client, and how many bytes they are. Pure."""

from __future__ import annotations

import struct

from common.grpc.events import ProtocolError
from common.grpc.frames import ACK, HEAD, Code, Frame, frame

_MAX_REPLIES = 64 << 10  # bytes of answers to pings and settings that the client does not take


class Outbox:
    """Invariant: `unsent` bytes wait to be taken; a client that takes too few is held back by them."""

    def __init__(self) -> None:
        self.unsent = 0
        self._frames: list[bytes | memoryview] = []
        self._replies = 0

    def take(self) -> bytes:
        """What is to be sent, once."""
        data = b"".join(self._frames)
        self._frames.clear()
        self._replies = self.unsent = 0
        return data

    def say(self, kind: Frame, flags: int, stream: int, payload: bytes) -> None:
        """Any frame but data."""
        self.unsent += HEAD + len(payload)
        self._frames.append(frame(kind, flags, stream, payload))

    def send(self, stream: int, data: bytes | memoryview) -> None:
        """A frame of data, which is not copied."""
        size = len(data)
        self.unsent += HEAD + size
        self._frames += (struct.pack(">I", size)[1:] + struct.pack(">BBI", Frame.DATA, 0, stream), data)

    def widen(self, stream: int, size: int) -> None:
        """The client may send so many bytes more."""
        self.say(Frame.WINDOW_UPDATE, 0, stream, struct.pack(">I", size))

    def reset(self, stream: int, code: Code) -> None:
        """A stream is given up."""
        self.say(Frame.RST_STREAM, 0, stream, struct.pack(">I", code))

    def reply(self, kind: Frame, payload: bytes) -> None:
        """An answer that a client can ask for as often as it likes; `ProtocolError` if it takes none."""
        self.say(kind, ACK, 0, payload)
        self._replies += HEAD + len(payload)
        if self._replies > _MAX_REPLIES:
            raise ProtocolError(Code.ENHANCE_YOUR_CALM, "pings and settings are answered no faster")
