"""A reader that stops at the first request that a front does not serve, and keeps its bytes as they came.
Pure.

llhttp tells what a message is, and never where in the bytes it began. So:

1. What the connection has read is kept from the last place where a message was known to begin.
2. A body of known length ends where it ends: bytes behind it are fed apart, and begin a message.
3. In what is left, the foreign message begins where the one before it ended. That is the shortest beginning
   of the kept bytes in which a parser of its own finds as many whole messages as were found before.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable
from contextlib import suppress

import httptools

from gateway.http1.heads import KnownHeads
from gateway.http1.limits import HttpLimits
from gateway.http1.reader import RequestReader
from gateway.http1.request import Request


class _Foreign(Exception):
    """Raised to stop llhttp at the head of a request that is not ours."""


class OurHeads(KnownHeads):
    """Known heads of requests that are ours: any other is to be met by the parser each time it comes."""

    def __init__(self, is_ours: Callable[[str, str], bool]) -> None:
        super().__init__()
        self.is_ours = is_ours

    def learn(self, head: bytes, request: Request) -> None:
        if self.is_ours(request.method, request.path):
            super().learn(head, request)


class FrontReader(RequestReader):
    """After a foreign request `preface` is set, as after HTTP/2's, and everything from that request's first
    byte on is in `rest`; requests before it are served. `known` says which are ours; one that asks for
    another protocol never is.
    """

    def __init__(self, limits: HttpLimits, make: type[Request], known: OurHeads) -> None:
        super().__init__(limits, make, known)
        self._is_ours = known.is_ours
        self._kept = b""
        self._whole = 0  # messages that ended in what is kept

    def feed(self, data: bytes | memoryview) -> None:
        """As `RequestReader.feed`."""
        request = self._request
        if request is not None and not request.chunked and not self.ended:
            left = request.length - request.received
            super().feed(data[:left])
            data = data[left:]
            if not data:
                return
        if self._request is None and not self.in_head:
            self._kept, self._whole = bytes(data), 0
        else:
            self._kept += data
        super().feed(data)
        request = self._request
        if not self.in_head and (request is None or not request.chunked):
            self._kept = b""  # what follows begins a message, or is a body of known length

    def _take_known(self, data: bytes | memoryview) -> bytes | memoryview:
        left = super()._take_known(data)
        if len(left) < len(data):
            self._kept = bytes(left)  # as those whose heads are known ended before it
        return left

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        request = self._request
        assert request is not None
        if self._parser.should_upgrade() or not self._is_ours(request.method, request.path):
            self.requests.pop()
            self._request = self._reframe = None
            self.preface = self.ended = self._keeps_rest = True
            self.rest = self._kept[self._start() :]
            raise _Foreign

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._whole += 1

    def _start(self) -> int:
        if not self._whole:
            return 0
        return bisect.bisect_left(range(len(self._kept)), self._whole, key=self._messages_in)

    def _messages_in(self, size: int) -> int:
        counter = _Counter()
        parser = httptools.HttpRequestParser(counter)
        with suppress(httptools.HttpParserError, httptools.HttpParserUpgrade):
            parser.feed_data(self._kept[:size])
        return counter.count


class _Counter:
    def __init__(self) -> None:
        self.count = 0

    def on_message_complete(self) -> None:
        self.count += 1
