"""gRPC over HTTP/2: unary calls of one method, several at once on a connection (RFC 9113). Pure.

The first call writes its headers into the server's table, every later one refers to them there, as gRPC's own
clients do.
"""

from __future__ import annotations

import struct
from collections import deque

from bench.executor.codecs.codec import Answer, Broken
from common.grpc.blocks import HeaderBlocks
from common.grpc.cutter import PREFACE, Cutter
from common.grpc.events import ProtocolError
from common.grpc.frames import ACK, END_HEADERS, END_STREAM, Frame, Setting, frame
from common.grpc.statuses import Status

_ROOM = 1 << 30  # what we let a server send, of a stream and in all
_FIRST_ROOM = 65_535  # what any server lets a client send before it says otherwise
_MAX_FRAME = 16_384
_METHOD_AND_SCHEME = b"\x83\x86"  # POST, http
_PREFIX = 5  # of a message: whether it is compressed, and its size
_FIRST_INDEX = 62  # of a client's own fields in HPACK's table
_SETTING = struct.Struct(">HI")


class Grpc:
    """A payload is a message. Invariant: `_outbox` holds what the server has no room for yet, in order."""

    def __init__(self, authority: bytes, path: bytes, streams: int) -> None:
        self.capacity = streams
        self.is_over = False
        fields = [(b":path", path), (b":authority", authority)]
        fields += [(b"content-type", b"application/grpc"), (b"te", b"trailers")]
        self._block = _METHOD_AND_SCHEME + b"".join(b"\x40" + _text(n) + _text(v) for n, v in fields)
        self._known_block = _METHOD_AND_SCHEME + bytes(
            0x80 | (_FIRST_INDEX + n) for n in reversed(range(len(fields)))
        )
        self._cutter = Cutter(1 << 24)
        list(self._cutter.feed(PREFACE))  # it is a server's, and awaits one
        self._blocks = HeaderBlocks(1 << 16)
        self._next = 1
        self._numbers: dict[int, int] = {}  # of requests in flight, by stream
        self._said: dict[int, dict[bytes, bytes]] = {}
        self._messages: dict[int, bytes] = {}
        self._outbox: deque[tuple[int, bytes]] = deque()
        self._room, self._stream_room = _FIRST_ROOM, _FIRST_ROOM
        self._rooms: dict[int, int] = {}
        self._taken = 0
        self._replies = b""

    def hello(self) -> bytes:
        """The preface, our settings, and room for a server to send."""
        settings = _SETTING.pack(Setting.ENABLE_PUSH, 0) + _SETTING.pack(Setting.INITIAL_WINDOW_SIZE, _ROOM)
        return PREFACE + frame(Frame.SETTINGS, 0, 0, settings) + _widen(_ROOM - _FIRST_ROOM)

    def replies(self) -> bytes:
        """Acknowledgements, and data that there is room for now."""
        replies, self._replies = self._replies + self._pump(), b""
        return replies

    def request(self, number: int, payload: bytes) -> bytes:
        """Headers and message of a new stream, as far as the server has room."""
        stream, block = self._next, self._block if self._next == 1 else self._known_block
        self._next += 2
        self._numbers[stream], self._rooms[stream] = number, self._stream_room
        self._outbox.append((stream, struct.pack(">BI", 0, len(payload)) + payload))
        return frame(Frame.HEADERS, END_HEADERS, stream, block) + self._pump()

    def feed(self, data: bytes) -> list[Answer]:
        """The answers that these bytes complete; `Broken`."""
        try:
            return [answer for cut in self._cutter.feed(data) if (answer := self._take(*cut))]
        except (ProtocolError, struct.error) as error:
            raise Broken(f"that is no answer in HTTP/2: {error}") from None

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> Answer | None:
        if kind == Frame.DATA:
            self._taken += len(payload)
            if self._taken > _ROOM // 2:
                self._replies += _widen(self._taken)
                self._taken = 0
            self._messages[stream] = self._messages.get(stream, b"") + payload
            return self._ended(stream) if flags & END_STREAM else None
        if kind in (Frame.HEADERS, Frame.CONTINUATION):
            go_on = kind == Frame.CONTINUATION
            head = (
                self._blocks.go_on(flags, payload)
                if go_on
                else self._blocks.begin(flags, stream, payload, 0.0)
            )
            if head is None:
                return None
            self._said[stream] = self._said.get(stream, {}) | (head[2] or {})
            return self._ended(stream) if head[1] else None
        if kind == Frame.RST_STREAM:
            self._said.pop(stream, None)
            self._messages.pop(stream, None)
            return self._end(stream, Answer(self._numbers.get(stream, -1), "reset"))
        self._control(kind, flags, stream, payload)
        return None

    def _control(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == Frame.WINDOW_UPDATE:
            size = int.from_bytes(payload, "big") & 0x7FFFFFFF
            if not stream:
                self._room += size
            elif stream in self._rooms:
                self._rooms[stream] += size
        elif kind == Frame.PING and not flags & ACK:
            self._replies += frame(Frame.PING, ACK, 0, payload)
        elif kind == Frame.GOAWAY:
            self.is_over = True
        elif kind == Frame.SETTINGS and not flags & ACK:
            for setting, value in _SETTING.iter_unpack(payload):
                self._set(setting, value)
            self._replies += frame(Frame.SETTINGS, ACK, 0, b"")

    def _set(self, setting: int, value: int) -> None:
        if setting == Setting.INITIAL_WINDOW_SIZE:
            for stream in self._rooms:
                self._rooms[stream] += value - self._stream_room
            self._stream_room = value
        elif setting == Setting.MAX_CONCURRENT_STREAMS:
            self.capacity = min(self.capacity, value)

    def _ended(self, stream: int) -> Answer | None:
        said, message = self._said.pop(stream, {}), self._messages.pop(stream, b"")
        status = said.get(b"grpc-status", b"")
        error = "" if status == b"0" else _name(status, said.get(b":status", b""))
        number = self._numbers.get(stream, -1)
        return self._end(
            stream,
            Answer(
                number,
                error,
                said.get(b"x-worker", b""),
                said.get(b"x-cache", b""),
                said.get(b"server-timing", b""),
                message[_PREFIX:],
            ),
        )

    def _end(self, stream: int, answer: Answer) -> Answer | None:
        self._rooms.pop(stream, None)
        return None if self._numbers.pop(stream, None) is None else answer

    def _pump(self) -> bytes:
        """What waits and there is room for."""
        frames = []
        while self._outbox:
            stream, data = self._outbox[0]
            room = min(self._room, self._rooms.get(stream, 0), _MAX_FRAME)
            if stream not in self._rooms:  # it is over
                self._outbox.popleft()
                continue
            if room <= 0:
                break
            part, rest = data[:room], data[room:]
            self._room -= len(part)
            self._rooms[stream] -= len(part)
            frames.append(frame(Frame.DATA, 0 if rest else END_STREAM, stream, part))
            self._outbox.popleft()
            if rest:
                self._outbox.appendleft((stream, rest))
        return b"".join(frames)


def _name(status: bytes, http_status: bytes) -> str:
    try:
        return Status(int(status)).name
    except ValueError:
        return f"HTTP {http_status.decode(errors='replace')}"


def _widen(size: int) -> bytes:
    return frame(Frame.WINDOW_UPDATE, 0, 0, struct.pack(">I", size))


def _text(value: bytes) -> bytes:
    if len(value) >= 127:
        raise ValueError(f"{value!r} is too long for a header")
    return bytes((len(value),)) + value
