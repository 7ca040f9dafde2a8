"""The server's side of HTTP/2 (RFC 9113), as far as gRPC needs it. Pure: bytes in, events and bytes out.

Most of what h2 costs for a call is generality that gRPC never uses: here answers' headers are ready-made
blocks without a table (RFC 7541), and a request whose headers are all in the client's table is decoded once.
Whatever breaks the protocol raises `ProtocolError`, and nothing else; then what is to be sent ends with the
GOAWAY that says so.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator

from common.grpc.blocks import HeaderBlocks
from common.grpc.calm import Calm
from common.grpc.cutter import Cutter, without_padding
from common.grpc.events import Data, Ended, Event, Headers, ProtocolError, Reset, Room
from common.grpc.frames import ACK, END_HEADERS, END_STREAM, PADDED, Code, Frame, Setting
from common.grpc.outbox import Outbox

MAX_WINDOW = 2**31 - 1
_DEFAULT_WINDOW = 65_535
_CALM_TIME = 10.0
_CALLS_GIVEN_UP = 4  # in that time, for each call that there may be at once
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

    What is to be sent is in `out`, in order.
    """

    def __init__(
        self, *, max_streams: int, window: int, max_frame: int, now: float, max_headers: int = 32 << 10
    ) -> None:
        self.last = 0  # the client's latest stream
        self.max_send_frame = _SMALLEST_FRAME
        self.out = Outbox()
        self._max_streams = max_streams
        self._window = window
        self._max_frame = max_frame
        self._streams: dict[int, _Stream] = {}
        self._now = self._began = now  # `_began`: infinity once the client's settings have come
        self._cutter = Cutter(max_frame)
        self._blocks = HeaderBlocks(max_headers)
        self._calm = Calm(_CALLS_GIVEN_UP * max_streams, _CALM_TIME)
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
        self.out.say(Frame.SETTINGS, 0, 0, b"".join([struct.pack(">HI", *each) for each in settings]))
        self.out.widen(0, MAX_WINDOW - _DEFAULT_WINDOW)

    # --- sending

    @property
    def is_full(self) -> bool:
        """Whether no stream may send data now."""
        return self._send <= 0

    def room(self, stream: int) -> int:
        """Bytes of data that may be sent now on a stream that is open."""
        return min(self._send, self._streams[stream].send)

    def send_headers(self, stream: int, block: bytes, *, end: bool) -> None:
        """A header block (see `frames.literal`), which may end the stream."""
        if not self._said_headers:
            self._said_headers = True
            block = b"\x20" + block  # our table has no room for anything, whatever the client allows
        self.out.say(Frame.HEADERS, END_HEADERS | (END_STREAM if end else 0), stream, block)
        if end:
            self._end(stream)

    def send_data(self, stream: int, data: bytes | memoryview) -> None:
        """No more than there is `room` for, and than `max_send_frame`."""
        size = len(data)
        self._send -= size
        self._streams[stream].send -= size
        self.out.send(stream, data)

    def acknowledge(self, stream: int, size: int) -> None:
        """So many bytes were dealt with: the client may send as many more."""
        self._consumed += size
        if self._consumed >= MAX_WINDOW // 2:
            self._receive += self._consumed
            self.out.widen(0, self._consumed)
            self._consumed = 0
        state = self._streams.get(stream)
        if state is None or state.ended:
            return
        state.consumed += size
        if state.consumed >= self._window // 2:
            state.receive += state.consumed
            self.out.widen(stream, state.consumed)
            state.consumed = 0

    def ping(self) -> None:
        """Ask for a sign of life."""
        self.out.say(Frame.PING, 0, 0, b"pipeline")

    def go_away(self, last: int, code: Code = Code.NO_ERROR) -> None:
        """Streams after `last` will not be looked at."""
        self.out.say(Frame.GOAWAY, 0, 0, struct.pack(">II", last, code))

    def reset(self, stream: int, code: Code) -> None:
        """Give a stream up."""
        self._streams.pop(stream, None)
        self.out.reset(stream, code)

    def _end(self, stream: int) -> None:
        """We have ended a stream."""
        state = self._streams.get(stream)
        if state is None:
            return
        if state.ended:
            del self._streams[stream]
        else:  # RFC 9113, 8.1: what the client still sends of its request is not wanted
            self.reset(stream, Code.NO_ERROR)

    # --- receiving

    @property
    def waits_since(self) -> float:
        """Since when something awaits its end that a client sends at once: its first settings, or a request's
        headers. Infinity for nothing."""
        return min(self._began, self._blocks.since)

    def receive(self, data: bytes, now: float) -> Iterator[Event]:
        """What these bytes mean. Each event has to be dealt with before the next is asked for."""
        self._now = now
        try:
            for frame in self._cutter.feed(data):
                yield from self._on_frame(*frame)
        except ProtocolError as error:
            self.go_away(self.last, error.code)
            raise

    def _on_frame(self, kind: int, flags: int, stream: int, payload: bytes) -> Iterator[Event]:
        if self._began != math.inf and kind != Frame.SETTINGS:
            raise ProtocolError(Code.PROTOCOL_ERROR, "settings come first")
        if self._blocks.stream and (kind != Frame.CONTINUATION or stream != self._blocks.stream):
            raise ProtocolError(Code.PROTOCOL_ERROR, "headers that go on were interrupted")
        if kind == Frame.DATA:
            yield from self._on_data(flags, stream, payload)
        elif kind == Frame.HEADERS:
            if stream % 2 == 0:
                raise ProtocolError(Code.PROTOCOL_ERROR, "headers on a stream that is not a client's")
            if head := self._blocks.begin(flags, stream, payload, self._now):
                yield from self._on_head(*head)
        elif kind == Frame.CONTINUATION:
            if head := self._blocks.go_on(flags, payload):
                yield from self._on_head(*head)
        elif kind == Frame.WINDOW_UPDATE:
            yield from self._on_window_update(stream, payload)
        elif kind == Frame.SETTINGS:
            yield from self._on_settings(flags, stream, payload)
        elif kind == Frame.RST_STREAM:
            self._expect(kind, payload, 4, on_stream=stream)
            if self._streams.pop(stream, None) is not None:
                self._calm.count(self._now)
                yield Reset(stream)
        elif kind == Frame.PING:
            self._expect(kind, payload, 8, connection=stream)
            if not flags & ACK:
                self.out.reply(Frame.PING, payload)
        elif kind == Frame.GOAWAY:
            if stream or len(payload) < 8:
                raise ProtocolError(Code.PROTOCOL_ERROR, "a GOAWAY that is none")
        elif kind == Frame.PUSH_PROMISE:
            raise ProtocolError(Code.PROTOCOL_ERROR, "a client promises nothing")
        elif kind == Frame.PRIORITY and (not stream or len(payload) != 5):
            raise ProtocolError(Code.FRAME_SIZE_ERROR, "a priority that is none")

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
        if self._receive < 0:
            raise ProtocolError(Code.FLOW_CONTROL_ERROR, "more data than there was room for")
        if not size and not flags & END_STREAM:
            self._calm.count(self._now)
        state = self._streams.get(stream)
        if state is None:  # we have ended it, and the client did not know yet
            self.acknowledge(stream, size)
            return
        if state.ended:
            raise ProtocolError(Code.STREAM_CLOSED, "data after the end of a stream")
        state.receive -= size
        if state.receive < 0:
            raise ProtocolError(Code.FLOW_CONTROL_ERROR, "more data than there was room for")
        data = without_padding(payload) if flags & PADDED else payload
        if flags & END_STREAM:
            state.ended = True
        if size:
            yield Data(stream, data, size)
        if flags & END_STREAM:
            yield Ended(stream)

    def _on_head(self, stream: int, ends: bool, headers: dict[bytes, bytes] | None) -> Iterator[Event]:
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
        if len(self._streams) >= self._max_streams or headers is None:
            self._calm.count(self._now)
            self.reset(stream, Code.PROTOCOL_ERROR if headers is None else Code.REFUSED_STREAM)
            return
        state = self._streams[stream] = _Stream(self._window, self._initial_send)
        state.ended = ends
        yield Headers(stream, headers)
        if ends:
            yield Ended(stream)

    def _on_window_update(self, stream: int, payload: bytes) -> Iterator[Event]:
        self._expect(Frame.WINDOW_UPDATE, payload, 4, on_stream=stream or None)
        more = int.from_bytes(payload, "big") & MAX_WINDOW
        if not more:
            raise ProtocolError(Code.PROTOCOL_ERROR, "a window grows by nothing")
        if not stream:
            was_full = self.is_full
            self._send += more
            if self._send > MAX_WINDOW:
                raise ProtocolError(Code.FLOW_CONTROL_ERROR, "the connection's window is too large")
            if was_full and not self.is_full:
                yield Room(0)
        elif (state := self._streams.get(stream)) is not None:
            yield from self._widen(stream, state, more)

    def _on_settings(self, flags: int, stream: int, payload: bytes) -> Iterator[Event]:
        if stream:
            raise ProtocolError(Code.PROTOCOL_ERROR, "settings of one stream")
        if len(payload) % 6 or (flags & ACK and payload):
            raise ProtocolError(Code.FRAME_SIZE_ERROR, f"settings of {len(payload)} bytes")
        if flags & ACK:
            return
        self._began = math.inf
        self._calm.count(self._now, 1 + len(payload) // 6)  # each may be one for every stream
        for setting, value in struct.iter_unpack(">HI", payload):
            if setting == Setting.INITIAL_WINDOW_SIZE:
                yield from self._set_initial_window(value)
            elif setting == Setting.MAX_FRAME_SIZE:
                if not _SMALLEST_FRAME <= value <= _LARGEST_FRAME:
                    raise ProtocolError(Code.PROTOCOL_ERROR, f"frames of {value} bytes")
                self.max_send_frame = min(value, self._max_frame)
            elif setting == Setting.ENABLE_PUSH and value > 1:
                raise ProtocolError(Code.PROTOCOL_ERROR, f"a push of {value}")
        self.out.reply(Frame.SETTINGS, b"")

    def _set_initial_window(self, value: int) -> Iterator[Event]:
        if value > MAX_WINDOW:
            raise ProtocolError(Code.FLOW_CONTROL_ERROR, "streams' windows are too large")
        change = value - self._initial_send
        self._initial_send = value
        for stream, state in list(self._streams.items()):
            yield from self._widen(stream, state, change)

    def _widen(self, stream: int, state: _Stream, more: int) -> Iterator[Event]:
        """A stream's window grows, or shrinks, which may leave it below 0."""
        was_full = state.send <= 0
        state.send += more
        if state.send > MAX_WINDOW:
            raise ProtocolError(Code.FLOW_CONTROL_ERROR, "a stream's window is too large")
        if was_full and state.send > 0:
            yield Room(stream)
