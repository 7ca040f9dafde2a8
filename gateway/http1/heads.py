"""Heads that were read before: a client that stays says the same thing again and again. Pure.

A head is known by its exact bytes, and only once the parser has read and accepted it; so what is known is
what the parser would say. It saves a call of Python for each header, and all that is made of them.
"""

from __future__ import annotations

from gateway.http1.request import Request

MOST = 512  # heads; a client that says something new in each of its own takes no more memory than this
LONGEST = 1024  # bytes of one
END = b"\r\n\r\n"


class KnownHeads:
    """Requests by their heads, as the parser made them before their bodies came. Invariant: each is HTTP/1.1,
    is kept alive, and has a body of the length that it says, or none. What they may have at most is of
    limits that nobody changes while a lane serves."""

    def __init__(self) -> None:
        self._requests: dict[bytes, Request] = {}
        self.find = self._requests.get

    def learn(self, head: bytes, request: Request) -> None:
        """The parser has accepted the head, with which its data began, and made this of it."""
        if (
            request.http10
            or request.chunked
            or request.expects
            or request.websocket
            or not request.keep_alive
        ):
            return
        if not head[:1].isalpha() or head.count(b"\n") != head.count(b"\r\n"):
            return  # an empty line before it, or a line that ends otherwise: it may have ended before its end
        if len(self._requests) >= MOST:
            self._requests.clear()
        known = self._requests[head] = Request(request.method, request.target, request.headers)
        known.follow(request)


def first_head(data: bytes | memoryview) -> bytes:
    """What the data begin with, up to and with the first empty line; empty where that is not soon."""
    start = bytes(data[:LONGEST])
    return start[: start.find(END) + len(END)] if END in start else b""
