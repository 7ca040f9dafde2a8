"""A request's headers: blocks of one frame or of several, and what they say (RFC 7541). Pure."""

from __future__ import annotations

import math

from hpack import Decoder, HPACKError

from common.grpc.cutter import without_padding
from common.grpc.events import ProtocolError
from common.grpc.frames import END_HEADERS, END_STREAM, PADDED, PRIORITY_FLAG, Code

_MAX_FRAMES = 64  # of one block; frames may be large, so that two are many
_MAX_CACHED = 64
_MAX_CACHED_BLOCK = 256


Head = tuple[int, bool, dict[bytes, bytes] | None]
"""A request's stream, whether nothing follows, and its headers; None where a name is not allowed."""


class HeaderBlocks:
    """Invariant: the block of `stream` (0: of none) goes on. It is never larger than the fields that it may
    stand for, so that neither frames without end (CVE-2024-27316) nor a table that is referred to again and
    again make more of it.
    """

    def __init__(self, max_headers: int) -> None:
        self.stream = 0
        self.since = math.inf  # when the block began that goes on
        self._max = max_headers
        self._decoder = Decoder(max_header_list_size=max_headers)
        self._known: dict[bytes, dict[bytes, bytes]] = {}
        self._ends = False
        self._parts: list[bytes] = []

    def begin(self, flags: int, stream: int, payload: bytes, now: float) -> Head | None:
        """A frame of headers came; what they say if that was all."""
        block = without_padding(payload) if flags & PADDED else payload
        if flags & PRIORITY_FLAG:
            if len(block) < 5:
                raise ProtocolError(Code.FRAME_SIZE_ERROR, "headers without room for their priority")
            block = block[5:]
        ends = bool(flags & END_STREAM)
        if flags & END_HEADERS and len(block) <= self._max:
            return stream, ends, self._decode(block)
        self.stream, self.since, self._ends, self._parts = stream, now, ends, [block]
        self._check()
        return None

    def go_on(self, flags: int, payload: bytes) -> Head | None:
        """They go on; what they say if that was all."""
        if not self.stream:
            raise ProtocolError(Code.PROTOCOL_ERROR, "a continuation of nothing")
        self._parts.append(payload)
        self._check()
        if not flags & END_HEADERS:
            return None
        stream, self.stream, self.since = self.stream, 0, math.inf
        return stream, self._ends, self._decode(b"".join(self._parts))

    def _check(self) -> None:
        if len(self._parts) > _MAX_FRAMES or sum(map(len, self._parts)) > self._max:
            raise ProtocolError(Code.ENHANCE_YOUR_CALM, "headers that go on and on")

    def _decode(self, block: bytes) -> dict[bytes, bytes] | None:
        """The headers, the last of each name."""
        known = self._known.get(block)
        if known is not None:
            return known
        try:
            fields = self._decoder.decode(block, raw=True)
        except HPACKError as error:
            raise ProtocolError(Code.COMPRESSION_ERROR, f"headers cannot be decoded: {error}") from None
        headers = {bytes(name): bytes(value) for name, value in fields}
        if any(name != name.lower() or not name for name in headers):
            return None
        if block and min(block) >= 0x80:  # only references into the table, which they leave as it is
            if len(self._known) < _MAX_CACHED and len(block) <= _MAX_CACHED_BLOCK:
                self._known[block] = headers
        else:
            self._known.clear()
        return headers
