"""Bodies that are compressed: gzip, and deflate as HTTP means it, which is zlib's format. Pure."""

from __future__ import annotations

import zlib

from common.errors import InvalidRequest, TooLarge
from common.tensor import Buffer

_WINDOWS = {b"gzip": 31, b"deflate": 15}  # zlib's numbers for the two formats
LEVEL = 1  # tensors hardly shrink, whatever time one takes
LEAST, MOST = 1024, 1 << 20  # bytes of an answer that is worth it, and of one that would keep others waiting


def decompress(body: Buffer, coding: bytes | None, *, limit: int) -> Buffer:
    """The body as it was before; itself where it is not compressed. `InvalidRequest`; `TooLarge` beyond
    `limit` bytes."""
    if coding is None or coding.lower() == b"identity":
        return body
    windows = _WINDOWS.get(coding.lower())
    if windows is None:
        raise InvalidRequest(
            f"content-encoding {coding[:40].decode('latin-1')} is not served: use gzip or deflate"
        )
    inflater = zlib.decompressobj(windows)
    try:
        plain = inflater.decompress(body, limit + 1)
    except zlib.error as error:
        raise InvalidRequest(f"the body is not {coding.decode('latin-1')}: {error}") from None
    if len(plain) > limit:
        raise TooLarge(f"the body has more than {limit} bytes when it is decompressed")
    if not inflater.eof or inflater.unused_data:
        raise InvalidRequest(f"the body is not one whole {coding.decode('latin-1')} stream")
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
