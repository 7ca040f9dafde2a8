"""The gateway's WebSocket `/ws`: as many requests at once as its greeting allows (RFC 6455). Pure.

The mask is zero: a server has to unmask all the same, and this side has nothing to compute.
"""

from __future__ import annotations

import struct

import msgspec

from bench.executor.codecs.codec import Answer, Broken

TEXT, CLOSE, PING, PONG = 1, 8, 9, 10


class _Message(msgspec.Struct):
    id: int | None = None
    status: bool = True
    code: str = "refused"
    window: int = 0
    worker: str = ""
    cache: str = ""
    timings: dict[str, float] = {}


_decoder = msgspec.json.Decoder(_Message)


class WebSocket:
    """A payload is a JSON object without its id."""

    def __init__(self, handshake: bytes) -> None:
        self.capacity = 0
        self.is_over = False
        self._handshake = handshake
        self._is_open = False
        self._read = b""
        self._replies = b""

    def hello(self) -> bytes:
        """The handshake."""
        return self._handshake

    def replies(self) -> bytes:
        """Pongs."""
        replies, self._replies = self._replies, b""
        return replies

    def request(self, number: int, payload: bytes) -> bytes:
        """One message."""
        return _frame(TEXT, b'{"id":%d,%b' % (number, payload[1:]))

    def feed(self, data: bytes) -> list[Answer]:
        """The answers that these bytes complete; `Broken`."""
        self._read += data
        if not self._is_open:
            head, end, rest = self._read.partition(b"\r\n\r\n")
            if not end:
                return []
            if not head.startswith(b"HTTP/1.1 101"):
                said = head.partition(b"\r\n")[0].decode(errors="replace")
                raise Broken(f"the WebSocket was refused: {said}")
            self._is_open, self._read = True, rest
        answers = []
        for kind, payload in self._frames():
            if kind == PING:
                self._replies += _frame(PONG, payload)
            elif kind == CLOSE:
                self.is_over = True
            elif kind == TEXT and (answer := self._answer(payload)):
                answers.append(answer)
        return answers

    def _answer(self, payload: bytes) -> Answer | None:
        try:
            message = _decoder.decode(payload)
        except msgspec.MsgspecError as error:
            raise Broken(f"that is no answer of /ws: {error}") from None
        if message.window:
            self.capacity = message.window
        if message.id is None:
            return None
        timing = ", ".join(f"{phase};dur={took:.3f}" for phase, took in message.timings.items())
        kind = "" if message.status else message.code
        said = message.worker.encode(), message.cache.encode(), timing.encode()
        return Answer(message.id, kind, *said, payload)

    def _frames(self) -> list[tuple[int, bytes]]:
        data, at, frames = self._read, 0, []
        while len(data) >= at + 2:
            size, head = data[at + 1] & 127, 2
            if size >= 126:
                form, head = ("!H", 4) if size == 126 else ("!Q", 10)
                if len(data) < at + head:
                    break
                size = struct.unpack_from(form, data, at + 2)[0]
            if len(data) < at + head + size:
                break
            frames.append((data[at] & 15, data[at + head : at + head + size]))
            at += head + size
        self._read = data[at:]
        return frames


def _frame(kind: int, payload: bytes) -> bytes:
    size = len(payload)
    if size < 126:
        head = bytes((0x80 | kind, 0x80 | size))
    elif size < 1 << 16:
        head = struct.pack("!BBH", 0x80 | kind, 0x80 | 126, size)
    else:
        head = struct.pack("!BBQ", 0x80 | kind, 0x80 | 127, size)
    return head + bytes(4) + payload
