"""The bytes of gRPC inside HTTP/2: messages with their length before them, deadlines and status texts. Pure.

https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md
"""

from __future__ import annotations

import re
import struct
import zlib

from common.grpc.statuses import Refused, Status

_PREFIX = struct.Struct(">BI")
_TIMEOUT = re.compile(rb"([0-9]{1,8})([HMSmun])\Z")
_UNITS = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_PLAIN = frozenset(range(0x20, 0x7F)) - {0x25}  # of a status text; the rest is percent-encoded
MAX_TEXT = 2 << 10  # bytes of a status text, each of which may take three: clients take 8 KiB of headers

MAX_INFLATED = 64 << 20  # of a compressed message: nobody is served while it is decompressed

# Encodings that messages may come in; zlib's own numbers for how to read them.
ENCODINGS: dict[bytes, int | None] = {b"identity": None, b"gzip": 31, b"deflate": 15}


def frame(message: bytes) -> bytes:
    """A message as it travels, not compressed."""
    return _PREFIX.pack(0, len(message)) + message


def parse_timeout(header: bytes | None) -> float | None:
    """Seconds of a `grpc-timeout`; `Refused` unless it is up to eight digits and a unit."""
    if header is None:
        return None
    match = _TIMEOUT.match(header)
    if match is None:
        raise Refused(Status.INVALID_ARGUMENT, "grpc-timeout should be up to eight digits and one of HMSmun")
    return int(match[1]) * _UNITS[match[2]]


def encode_text(text: str) -> bytes:
    """A status text as `grpc-message` takes it, cut where it is too long for a header."""
    raw = text.encode("utf-8", "replace")
    if len(raw) > MAX_TEXT:
        raw = raw[:MAX_TEXT].decode("utf-8", "ignore").encode() + "…".encode()
    return b"".join([bytes((byte,)) if byte in _PLAIN else b"%%%02X" % byte for byte in raw])


class Unframer:
    """Cuts the bytes of one call into its messages, decompressed.

    Invariant: `held` bytes came that are part of no message yet, never more than one message may have.
    """

    def __init__(self, limit: int, encoding: bytes | None = None) -> None:
        self._limit = limit
        self._encoding = encoding or b"identity"
        if self._encoding not in ENCODINGS:
            raise Refused(
                Status.UNIMPLEMENTED,
                f"grpc-encoding {self._encoding.decode('latin-1')[:60]!r} is not known: use one of"
                f" {', '.join(each.decode() for each in ENCODINGS)}",
            )
        self._buffer = bytearray()

    @property
    def held(self) -> int:
        """Bytes of a message that is not whole."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[bytes]:
        """The messages that these bytes complete; `Refused` for one that is too large or damaged."""
        buffer = self._buffer
        if not buffer and len(data) >= _PREFIX.size:
            flag, length = _PREFIX.unpack_from(data)
            if not flag and length == len(data) - _PREFIX.size <= self._limit:
                return [data[_PREFIX.size :]]  # one message and nothing else, which is the usual case
        buffer += data
        messages: list[bytes] = []
        while len(buffer) >= _PREFIX.size:
            flag, length = _PREFIX.unpack_from(buffer)
            if flag > 1:
                raise Refused(Status.INTERNAL, f"a message begins with {flag}, and may with 0 or 1")
            if length > self._limit:
                raise self._too_large(f"a message of {length} bytes")
            end = _PREFIX.size + length
            if len(buffer) < end:
                break
            with memoryview(buffer) as view:
                message = bytes(view[_PREFIX.size : end])
            del buffer[:end]
            messages.append(self._decompress(message) if flag else message)
        return messages

    def _decompress(self, message: bytes) -> bytes:
        bits = ENCODINGS[self._encoding]
        if bits is None:
            raise Refused(Status.INTERNAL, "a message is compressed, and no grpc-encoding says how")
        unpacker = zlib.decompressobj(bits)
        limit = min(self._limit, MAX_INFLATED)
        try:
            whole = unpacker.decompress(message, limit)
        except zlib.error as error:
            raise Refused(Status.INTERNAL, f"a compressed message is damaged: {error}") from None
        if unpacker.unconsumed_tail:
            raise Refused(
                Status.RESOURCE_EXHAUSTED,
                f"a compressed message is more than {limit} bytes when it is decompressed",
            )
        if not unpacker.eof:
            raise Refused(Status.INTERNAL, "a compressed message is damaged: its end is missing")
        return whole

    def _too_large(self, what: str) -> Refused:
        return Refused(
            Status.RESOURCE_EXHAUSTED, f"{what} is more than the {self._limit} bytes that are allowed"
        )
