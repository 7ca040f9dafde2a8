"""The server's side of HTTP/2 (RFC 9113), as far as gRPC needs it. Pure: bytes in, events and bytes out.

Most of what h2 costs for a call is generality that gRPC never uses: here answers' headers are ready-made
blocks without a table (RFC 7541), and a request whose headers are all in the client's table is decoded once.
Whatever breaks the protocol raises `ProtocolError`, and nothing else; then what is to be sent ends with the
GOAWAY that says so.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from hpack import Decoder, HPACKError

from gateway.grpc.events import Data, Ended, Event, Headers, ProtocolError, Reset, Room
from gateway.grpc.frames import ACK, END_HEADERS, END_STREAM, PADDED, PRIORITY_FLAG, Code, Frame, Setting
from gateway.grpc.frames import frame as make_frame

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
MAX_WINDOW = 2**31 - 1
_DEFAULT_WINDOW = 65_535
_HEAD = 9
_MAX_BLOCK = 64 << 10  # bytes of one request's headers as they travel
_MAX_REPLIES = 64 << 10  # bytes of answers to pings and settings that the client does not take
_MAX_CACHED = 64
_SMALLEST_FRAME, _LARGEST_FRAME = 1 << 14, (1 << 24) - 1


class _Stream:
    __slots__ = ("consumed", "ended", "receive", "send")

    def __init__(self, receive: int, send: int) -> None:
        self.receive = receive  # bytes that the client may send
        self.send = send  # bytes that we may
        self.consumed = 0  # of what it sent, and it has not been told yet
        self.ended = False  # by the client


class Http2:
    """Invariant: a stream is in `_streams` until both sides have ended it, or one has reset it.

    `take` gives the bytes to send, in order.
    """

    def __init__(self, *, max_streams: int, window: int, max_frame: int, max_headers: int = 32 << 10) -> None:
        self.last = 0  # the client's latest stream
        self.max_send_frame = _SMALLEST_FRAME
        self._max_streams = max_streams
        self._window = window
        self._max_frame = max_frame
        self._streams: dict[int, _Stream] = {}
        self._out: list[bytes | memoryview] = []
        self._replies = 0
        self._buffer = b""
        self._awaits_preface = True
        self._awaits_settings = True
        self._block: tuple[int, bool, bytearray] | None = None  # headers of a stream that go on
        self._decoder = Decoder(max_header_list_size=max_headers)
        self._known: dict[bytes, dict[bytes, bytes]] = {}
        self._send = self._initial_send = _DEFAULT_WINDOW
        self._receive = MAX_WINDOW
        self._consumed = 0
        self._said_headers = False
        settings = (
            (Setting.MAX_CONCURRENT_STREAMS, max_streams),
            (Setting.INITIAL_WINDOW_SIZE, window),
            (Setting.MAX_FRAME_SIZE, max_frame),
            (Setting.MAX_HEADER_LIST_SIZE, max_headers),
        )
        self._say(Frame.SETTINGS, 0, 0, b"".join([struct.pack(">HI", *each) for each in settings]))
        self._say(Frame.WINDOW_UPDATE, 0, 0, struct.pack(">I", MAX_WINDOW - _DEFAULT_WINDOW))

    # --- sending

    def take(self) -> bytes:
        """What is to be sent, once."""
        data = b"".join(self._out)
        self._out.clear()
        self._replies = 0
        return data

    def room(self, stream: int) -> int:
        """Bytes of data that may be sent now on a stream that is open."""
        return min(self._send, self._streams[stream].send)

    def send_headers(self, stream: int, block: bytes, *, end: bool) -> None:
        """A header block (see `frames.literal`), which may end the stream."""
        if not self._said_headers:
            self._said_headers = True
            block = b"\x20" + block  # our table has no room for anything, whatever the client allows
        self._say(Frame.HEADERS, END_HEADERS | (END_STREAM if end else 0), stream, block)
        if end:
            self._end(stream)

    def send_data(self, stream: int, data: bytes | memoryview) -> None:
        """No more than there is `room` for, and than `max_send_frame`."""
        self._send -= len(data)
        self._streams[stream].send -= len(data)
        self._out += (struct.pack(">I", len(data))[1:] + struct.pack(">BBI", Frame.DATA, 0, stream), data)

    def acknowledge(self, stream: int, size: int) -> None:
        """So many bytes were dealt with: the client may send as many more."""
        self._consumed += size
        if self._consumed >= MAX_WINDOW // 2:
            self._receive += self._consumed
            self._say(Frame.WINDOW_UPDATE, 0, 0, struct.pack(">I", self._consumed))
            self._consumed = 0
        state = self._streams.get(stream)
        if state is None or state.ended:
            return
        state.consumed += size
        if state.consumed >= self._window // 2:
            state.receive += state.consumed
            self._say(Frame.WINDOW_UPDATE, 0, stream, struct.pack(">I", state.consumed))
            state.consumed = 0

    def ping(self) -> None:
        """Ask for a sign of life."""
        self._say(Frame.PING, 0, 0, b"pipeline")

    def go_away(self, last: int, code: Code = Code.NO_ERROR) -> None:
        """Streams after `last` will not be looked at."""
        self._say(Frame.GOAWAY, 0, 0, struct.pack(">II", last, code))

    def _say(self, kind: Frame, flags: int, stream: int, payload: bytes) -> None:
        self._out.append(make_frame(kind, flags, stream, payload))

    def _reply(self, kind: Frame, payload: bytes) -> None:
        self._say(kind, ACK, 0, payload)
        self._replies += _HEAD + len(payload)
        if self._replies > _MAX_REPLIES:
            raise ProtocolError(Code.ENHANCE_YOUR_CALM, "pings and settings are answered no faster")

    def _end(self, stream: int) -> None:
        """We have ended a stream."""
        state = self._streams.get(stream)
        if state is None:
            return
        if not state.ended:  # RFC 9113, 8.1: what the client still sends of its request is not wanted
            self._say(Frame.RST_STREAM, 0, stream, struct.pack(">I", Code.NO_ERROR))
        del self._streams[stream]

    # --- receiving

    def receive(self, data: bytes) -> Iterator[Event]:
        """What these bytes mean. Each event has to be dealt with before the next is asked for."""
        try:
            yield from self._receive_all(data)
        except ProtocolError as error:
            self.go_away(self.last, error.code)
            raise

    def _receive_all(self, data: bytes) -> Iterator[Event]:
        buffer = self._buffer + data if self._buffer else data
        at = 0
        if self._awaits_preface:
            if not PREFACE.startswith(buffer[: len(PREFACE)]):
                raise ProtocolError(Code.PROTOCOL_ERROR, "that is not HTTP/2")
            if len(buffer) < len(PREFACE):
                self._buffer = buffer
                return
            self._awaits_preface, at = False, len(PREFACE)
        while len(buffer) - at >= _HEAD:
            length = int.from_bytes(buffer[at : at + 3], "big")
            if length > self._max_frame:
                raise ProtocolError(Code.FRAME_SIZE_ERROR, f"a frame of {length} bytes")
            end = at + _HEAD + length
            if end > len(buffer):
                break
            kind, flags = buffer[at + 3], buffer[at + 4]
            stream = int.from_bytes(buffer[at + 5 : at + _HEAD], "big") & MAX_WINDOW
            payload = buffer[at + _HEAD : end]
            at = end
            yield from self._on_frame(kind, flags, stream, payload)
        self._buffer = buffer[at:]

    def _on_frame(self, kind: int, flags: int, stream: int, payload: bytes) -> Iterator[Event]:
        if self._awaits_settings and kind != Frame.SETTINGS:
            raise ProtocolError(Code.PROTOCOL_ERROR, "settings come first")
        if self._block is not None and (kind != Frame.CONTINUATION or stream != self._block[0]):
            raise ProtocolError(Code.PROTOCOL_ERROR, "headers that go on were interrupted")
        if kind == Frame.DATA:
            yield from self._on_data(flags, stream, payload)
        elif kind == Frame.HEADERS:
            yield from self._on_headers(flags, stream, payload)
        elif kind == Frame.CONTINUATION:
            yield from self._on_continuation(flags, payload)
        elif kind == Frame.WINDOW_UPDATE:
            yield from self._on_window_update(stream, payload)
        elif kind == Frame.SETTINGS:
            yield from self._on_settings(flags, stream, payload)
        elif kind == Frame.RST_STREAM:
            self._expect(kind, payload, 4, on_stream=stream)
            if self._streams.pop(stream, None) is not None:
                yield Reset(stream)
        elif kind == Frame.PING:
            self._expect(kind, payload, 8, connection=stream)
            if not flags & ACK:
                self._reply(Frame.PING, payload)
        elif kind == Frame.GOAWAY:
            if stream or len(payload) < 8:
                raise ProtocolError(Code.PROTOCOL_ERROR, "a GOAWAY that is none")
        elif kind == Frame.PUSH_PROMISE:
            raise ProtocolError(Code.PROTOCOL_ERROR, "a client promises nothing")

    def _expect(
        self, kind: int, payload: bytes, size: int, *, connection: int = 0, on_stream: int | None = None
    ) -> None:
        if connection or on_stream == 0 or (on_stream is not None and self._is_idle(on_stream)):
            raise ProtocolError(Code.PROTOCOL_ERROR, f"{Frame(kind).name} where it means nothing")
        if len(payload) != size:
            raise ProtocolError(Code.FRAME_SIZE_ERROR, f"{Frame(kind).name} of {len(payload)} bytes")

    def _is_idle(self, stream: int) -> bool:
        return stream % 2 == 0 or stream > self.last

    def _on_data(self, flags: int, stream: int, payload: bytes) -> Iterator[Event]:
        if self._is_idle(stream):
            raise ProtocolError(Code.PROTOCOL_ERROR, "data on a stream that has not begun")
        size = len(payload)
        self._receive -= size
        state = self._streams.get(stream)
        if state is None:  # we have ended it, and the client did not know yet
            self.acknowledge(stream, size)
            return
        if state.ended:
            raise ProtocolError(Code.STREAM_CLOSED, "data after the end of a stream")
        state.receive -= size
        if state.receive < 0 or self._receive < 0:
            raise ProtocolError(Code.FLOW_CONTROL_ERROR, "more data than there was room for")
        data = _without_padding(payload) if flags & PADDED else payload
        if flags & END_STREAM:
            state.ended = True
        if size:
            yield Data(stream, data, size)
        if flags & END_STREAM:
            yield Ended(stream)

    def _on_headers(self, flags: int, stream: int, payload: bytes) -> Iterator[Event]:
        if stream % 2 == 0:
            raise ProtocolError(Code.PROTOCOL_ERROR, "headers on a stream that is not a client's")
        block = _without_padding(payload) if flags & PADDED else payload
        if flags & PRIORITY_FLAG:
            if len(block) < 5:
                raise ProtocolError(Code.FRAME_SIZE_ERROR, "headers without room for their priority")
            block = block[5:]
        ends = bool(flags & END_STREAM)
        if flags & END_HEADERS:
            yield from self._on_block(stream, ends, block)
        else:
            self._block = (stream, ends, bytearray(block))

    def _on_continuation(self, flags: int, payload: bytes) -> Iterator[Event]:
        if self._block is None:
            raise ProtocolError(Code.PROTOCOL_ERROR, "a continuation of nothing")
        stream, ends, block = self._block
        block += payload
        if len(block) > _MAX_BLOCK or not payload:
            raise ProtocolError(Code.ENHANCE_YOUR_CALM, "headers that go on and on")
        if flags & END_HEADERS:
            self._block = None
            yield from self._on_block(stream, ends, bytes(block))

    def _on_block(self, stream: int, ends: bool, block: bytes) -> Iterator[Event]:
        headers = self._decode(block)  # also of a stream that is refused: the client's table is shared
        state = self._streams.get(stream)
        if state is not None:  # trailers, which in gRPC a client does not send
            if state.ended or not ends:
                raise ProtocolError(Code.PROTOCOL_ERROR, "a second head of a request")
            state.ended = True
            yield Ended(stream)
            return
        if stream <= self.last:
            return  # we have ended it, and the client did not know yet
        self.last = stream
        if len(self._streams) >= self._max_streams:
            self._say(Frame.RST_STREAM, 0, stream, struct.pack(">I", Code.REFUSED_STREAM))
            return
        if headers is None:
            self._say(Frame.RST_STREAM, 0, stream, struct.pack(">I", Code.PROTOCOL_ERROR))
            return
        state = self._streams[stream] = _Stream(self._window, self._initial_send)
        state.ended = ends
        yield Headers(stream, headers)
        if ends:
            yield Ended(stream)

    def _decode(self, block: bytes) -> dict[bytes, bytes] | None:
        """The headers, the last of each name; None where a name is not allowed."""
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
            if len(self._known) < _MAX_CACHED:
                self._known[block] = headers
        else:
            self._known.clear()
        return headers

    def _on_window_update(self, stream: int, payload: bytes) -> Iterator[Event]:
        self._expect(Frame.WINDOW_UPDATE, payload, 4, on_stream=stream or None)
        more = int.from_bytes(payload, "big") & MAX_WINDOW
        if not more:
            raise ProtocolError(Code.PROTOCOL_ERROR, "a window grows by nothing")
        if not stream:
            self._send += more
            if self._send > MAX_WINDOW:
                raise ProtocolError(Code.FLOW_CONTROL_ERROR, "the connection's window is too large")
            yield Room(0)
        elif (state := self._streams.get(stream)) is not None:
            state.send += more
            if state.send > MAX_WINDOW:
                raise ProtocolError(Code.FLOW_CONTROL_ERROR, "a stream's window is too large")
            yield Room(stream)

    def _on_settings(self, flags: int, stream: int, payload: bytes) -> Iterator[Event]:
        if stream:
            raise ProtocolError(Code.PROTOCOL_ERROR, "settings of one stream")
        if len(payload) % 6 or (flags & ACK and payload):
            raise ProtocolError(Code.FRAME_SIZE_ERROR, f"settings of {len(payload)} bytes")
        if flags & ACK:
            return
        self._awaits_settings = False
        for setting, value in struct.iter_unpack(">HI", payload):
            if setting == Setting.INITIAL_WINDOW_SIZE:
                self._set_initial_window(value)
            elif setting == Setting.MAX_FRAME_SIZE:
                if not _SMALLEST_FRAME <= value <= _LARGEST_FRAME:
                    raise ProtocolError(Code.PROTOCOL_ERROR, f"frames of {value} bytes")
                self.max_send_frame = min(value, self._max_frame)
            elif setting == Setting.ENABLE_PUSH and value > 1:
                raise ProtocolError(Code.PROTOCOL_ERROR, f"a push of {value}")
        self._reply(Frame.SETTINGS, b"")
        yield Room(0)

    def _set_initial_window(self, value: int) -> None:
        if value > MAX_WINDOW:
            raise ProtocolError(Code.FLOW_CONTROL_ERROR, "streams' windows are too large")
        change = value - self._initial_send
        self._initial_send = value
        for state in self._streams.values():
            state.send += change
            if state.send > MAX_WINDOW:
                raise ProtocolError(Code.FLOW_CONTROL_ERROR, "a stream's window is too large")


def _without_padding(payload: bytes) -> bytes:
    if not payload or payload[0] >= len(payload):
        raise ProtocolError(Code.PROTOCOL_ERROR, "more padding than frame")
    return payload[1 : len(payload) - payload[0]]
