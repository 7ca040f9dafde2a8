"""Bodies that are compressed: gzip, and deflate as HTTP means it, which is zlib's format. Pure."""

from __future__ import annotations

import zlib

from common.errors import InvalidRequest, TooLarge
from common.tensor import Buffer

_WINDOWS = {b"gzip": 31, b"deflate": 15}  # zlib's numbers for the two formats
SHORT = 1 << 20  # bytes that are decompressed while nobody else is served: two milliseconds
LEVEL = 1  # tensors hardly shrink, whatever time one takes
LEAST, MOST = 1024, 1 << 20  # bytes of an answer that is worth it, and of one that would keep others waiting


class Inflater:
    """One compressed body. What is short comes of `begin`; the rest takes time, and `finish` may be called in
    any thread. Both raise `InvalidRequest`, and `TooLarge` beyond `limit` bytes."""

    def __init__(self, coding: bytes, *, limit: int) -> None:
        windows = _WINDOWS.get(coding.lower())
        if windows is None:
            raise InvalidRequest(
                f"content-encoding {coding[:40].decode('latin-1')} is not served: use gzip or deflate"
            )
        self._coding = coding.decode("latin-1")
        self._limit = limit
        self._inflater = zlib.decompressobj(windows)
        self._begun = b""

    def begin(self, body: Buffer) -> bytes | None:
        """The whole body as it was before, if that is at most `SHORT` bytes; None where there is more."""
        most = min(SHORT, self._limit + 1)
        self._begun = self._inflate(body, most)
        is_whole = self._inflater.eof or len(self._begun) < most or most > self._limit
        return self._whole(self._begun) if is_whole else None

    def finish(self) -> bytes:
        """The whole body, of which `begin` gave nothing."""
        left = self._limit + 1 - len(self._begun)
        rest = self._inflate(self._inflater.unconsumed_tail, left) if left else b""
        return self._whole(self._begun + rest)

    def _inflate(self, data: Buffer, most: int) -> bytes:
        try:
            return self._inflater.decompress(data, most)
        except zlib.error as error:
            raise InvalidRequest(f"the body is not {self._coding}: {error}") from None

    def _whole(self, plain: bytes) -> bytes:
        if len(plain) > self._limit:
            raise TooLarge(f"the body has more than {self._limit} bytes when it is decompressed")
        if not self._inflater.eof or self._inflater.unused_data:
            raise InvalidRequest(f"the body is not one whole {self._coding} stream")
        return plain


def choose(accepted: bytes | None, size: int) -> bytes | None:
    """The coding of an answer of `size` bytes; None leaves it as it is.

    Only a client that names exactly one is meant: libraries send a list of all they know by themselves, and
    compressing costs more than most networks.
    """
    wanted = (accepted or b"").strip().lower()
    return wanted if wanted in _WINDOWS and LEAST <= size <= MOST else None


def compress(body: bytes, coding: bytes) -> bytes:
    """The body in a coding that `choose` gave."""
    deflater = zlib.compressobj(LEVEL, wbits=_WINDOWS[coding])
    return deflater.compress(body) + deflater.flush()
