"""Which pages of browsers may ask for what a page of any site could ask for. Pure."""

from __future__ import annotations

from collections.abc import Collection


def is_foreign(origin: bytes | None, host: bytes, allowed: Collection[bytes]) -> bool:
    """Whether a request was made by a page that is neither of this server nor of an origin that is allowed.
    The scheme is not compared: a proxy may have taken the TLS off. Who is no browser names no origin."""
    if origin is None or origin in allowed:
        return False
    scheme, _, place = origin.lower().partition(b"://")
    default = {b"http": b":80", b"https": b":443"}.get(scheme, b"")
    return not place or place.removesuffix(default) != host.lower().removesuffix(default)


def refusal(origin: bytes | None, what: str) -> str:
    """What such a page is told."""
    return f"A page of {(origin or b'')[:100].decode('latin-1')} may not {what}"
