"""Bytes in, requests out: HTTP/1.x framing over llhttp, with everything refused that llhttp lets through.

Pure: no socket, no clock, no trio. What the connection does with a request is not decided here.

llhttp (strict, its default) refuses bare CR and LF, obs-fold, space before a colon, NUL and other controls,
Content-Length that is empty, repeated, listed, signed or beside Transfer-Encoding, and malformed chunks.
Refused on top of it: versions other than 1.0 and 1.1, methods outside `METHODS`, a missing, repeated or
malformed Host, transfer codings other than one `chunked`, chunked in HTTP/1.0, a fragment in the target,
Expect other than 100-continue, chunk overhead out of proportion.
Let through, because llhttp hides it and no framing depends on it: empty lines before a request, more
than one space before the target, and `GET / RTSP/1.0` (read as HTTP/1.0).
"""

from __future__ import annotations

from collections import deque
from urllib.parse import unquote

import httptools

from gateway.http1.heads import KnownHeads, first_head
from gateway.http1.limits import HttpLimits
from gateway.http1.request import Refused, Request

METHODS = {
    name.encode(): name
    for name in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "QUERY")
}
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""What an HTTP/2 client with prior knowledge says first (RFC 9113 §3.4)."""

_WATCHED = frozenset((b"host", b"content-length", b"transfer-encoding", b"expect", b"upgrade"))
_HOST_BYTES = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~!$&'()*+;=%:[]"
# A chunk costs at least five bytes beside its data; more than this is a client wasting our time.
_CHUNK_OVERHEAD = 16


class RequestReader:
    """Reads one connection's bytes; whole and half requests wait in `requests`, in order.

    Invariant: after `refusal`, `preface`, a WebSocket request or a request without keep-alive nothing more
    is read; what came after the last two lies in `rest`, unread.
    `make` builds the requests, so that a caller can have its own subclass without a copy. Readers that share
    `known` learn heads from one another.
    """

    def __init__(
        self, limits: HttpLimits, make: type[Request] = Request, known: KnownHeads | None = None
    ) -> None:
        self.requests: deque[Request] = deque()
        self.refusal: Refused | None = None
        self.preface = False
        self.ended = False
        self.rest = b""
        self.in_head = False
        self._limits = limits
        self._make = make
        self._known = known or KnownHeads()
        self._head = b""  # what the parser's data begin with, where that is a whole head
        self._first: bytes | None = b""
        self._request: Request | None = None
        self._reframe: Request | None = None
        self._replaying = False
        self._keeps_rest = False
        self._raw = 0
        self._target = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._seen: dict[bytes, bytes] = {}
        self._size = 0
        self._parser = httptools.HttpRequestParser(self)

    def feed(self, data: bytes | memoryview) -> None:
        """Take the connection's next bytes, split anywhere, and keep none of this memory; never raises (see
        `refusal`)."""
        if self._first is not None:
            start = self._first + data[: len(PREFACE)]
            if PREFACE.startswith(start[: len(PREFACE)]):
                self._first += data
                self.in_head = bool(data)
                if len(start) >= len(PREFACE):
                    self.rest, self._first = self._first, None
                    self.preface = self.ended = self._keeps_rest = True
                return
            if self._first:
                data = self._first + data
            self._first = None
        if self.ended:
            self.rest += data if self._keeps_rest else b""
            return
        if self._request is None and not self.in_head:
            data = self._take_known(data)
            if not data:
                return
        self._raw += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._stopped(error, data)
        self._head = b""
        if self._raw > self._limits.max_head and not self.ended:
            self._check_overhead()

    def _take_known(self, data: bytes | memoryview) -> bytes | memoryview:
        """Take the requests whose heads are known and whose bodies are there, without the parser, which is
        between two requests and stays there; what is left is for it."""
        while head := first_head(data):
            known = self._known.find(head)
            if known is None:
                self._head = head
                break
            start = len(head)
            end = start + known.length
            if end > len(data):
                break
            request = self._make(known.method, known.target, known.headers)
            request.follow(known)
            if known.length:
                request.body = bytes(data[start:end])
                request.received = known.length
            request.complete = True
            self.requests.append(request)
            self._raw = 0
            data = data[end:]
        return data

    # Called by llhttp.

    def on_message_begin(self) -> None:
        self.in_head = not self._replaying

    def on_url(self, url: bytes) -> None:
        if self._replaying:
            return
        self._target = self._target + url if self._target else url
        if len(self._target) > self._limits.max_target:
            raise self._refuse(414, "The request target is too long.")

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._replaying:
            return
        self._size += len(name) + len(value) + 4
        if self._size > self._limits.max_head:
            raise self._refuse(431, "The request's headers are too large.")
        if self._request is not None:
            return  # a trailer: no one asked for it
        name = name.lower()
        value = value.rstrip(b" \t")
        self._headers.append((name, value))
        if name in _WATCHED:
            seen = self._seen.get(name)
            self._seen[name] = value if seen is None else seen + b", " + value

    def on_headers_complete(self) -> None:
        if self._replaying:
            return
        method = METHODS.get(self._parser.get_method())
        if method is None:
            raise self._refuse(501, "This method is not implemented.")
        request = self._make(method, self._target, self._headers)
        version = self._parser.get_http_version()
        if version != "1.1":
            if version != "1.0":
                raise self._refuse(505, "Only HTTP/1.1 and HTTP/1.0 are spoken here.")
            request.http10 = True
        request.keep_alive = self._parser.should_keep_alive()
        self._locate(request)
        self._frame(request)
        if self._parser.should_upgrade():
            self._upgrade(request)
        elif self._head:
            self._known.learn(self._head, request)
        self._head = b""
        self.in_head = False
        self._request = request
        self.requests.append(request)

    def on_body(self, data: bytes) -> None:
        request = self._request
        assert request is not None
        size = len(data)
        self._raw -= size
        request.received += size
        if request.received > request.max_body:
            raise self._refuse(413, f"The body is larger than {request.max_body} bytes.", request.path)
        if request.discard:
            return
        if not request.body:
            request.body = data
        elif type(request.body) is bytearray:
            request.body += data
        else:
            request.body = bytearray(request.body)
            request.body += data

    def on_message_complete(self) -> None:
        request = self._request
        if request is None or request is self._reframe:
            return  # its body follows, see _stopped
        request.complete = True
        self._request = None
        self._reset_head()
        self._raw = 0
        if request.websocket or not request.keep_alive:
            self.ended, self._keeps_rest = True, request.websocket

    # What a head means.

    def _locate(self, request: Request) -> None:
        """Path, query and Host (RFC 9112 §3.2: a target in absolute form overrides Host)."""
        target = self._target
        host = self._seen.get(b"host")
        if host is None:
            if not request.http10:
                raise self._refuse(400, "The Host header is missing.")
        elif host.translate(None, _HOST_BYTES):
            raise self._refuse(400, "The Host header is repeated or malformed.")
        if b"#" in target:
            raise self._refuse(400, "The request target holds a fragment.")
        if not target.startswith(b"/") and target != b"*":
            scheme, _, rest = target.partition(b"://")
            authority, _, rest = rest.partition(b"/")
            if b"?" in authority:
                authority, _, rest = authority.partition(b"?")
                rest = b"?" + rest
            if scheme.lower() not in (b"http", b"https") or authority.translate(None, _HOST_BYTES):
                raise self._refuse(400, "The request target is malformed.")
            target = b"/" + rest
            request.headers = [(b"host", authority), *(h for h in request.headers if h[0] != b"host")]
        elif target == b"*" and request.method != "OPTIONS":
            raise self._refuse(400, "The request target is malformed.")
        path, _, request.query = target.partition(b"?")
        request.path = path.decode("ascii")
        if b"%" in path:
            request.path = unquote(request.path)

    def _frame(self, request: Request) -> None:
        """How long the body is and whether it may come (RFC 9112 §6)."""
        seen = self._seen
        if len(seen) == 1 and b"host" in seen:
            return
        coding = seen.get(b"transfer-encoding")
        if coding is not None:
            if coding.lower() != b"chunked":
                raise self._refuse(501, "No transfer encoding but chunked is implemented.")
            if request.http10:
                raise self._refuse(400, "Transfer-Encoding has no meaning in HTTP/1.0.")
            request.chunked = True
        elif b"content-length" in seen:
            request.length = int(seen[b"content-length"])
        if request.chunked or request.length:
            request.max_body = self._limits.body_limit(request.method, request.path)
            if request.length > request.max_body:
                message = f"The body is larger than {request.max_body} bytes."
                raise self._refuse(413, message, request.path)
        expect = seen.get(b"expect")
        if expect is not None and not request.http10:
            if expect.lower() != b"100-continue":
                raise self._refuse(417, "No expectation but 100-continue is understood.")
            request.expects = request.chunked or request.length > 0

    def _upgrade(self, request: Request) -> None:
        """llhttp takes an upgrade for the end of HTTP and skips the body.

        1. WebSocket (a GET without body): it is. 2. Anything else (h2c, deprecated by RFC 9113) is ignored
        as RFC 9110 §7.8 allows: the body, if any, is framed by a fresh parser.
        """
        asked = self._seen.get(b"upgrade", b"").lower()
        if asked == b"websocket" and request.method == "GET" and not request.http10:
            if request.chunked or request.length:
                raise self._refuse(400, "A WebSocket request has no body.")
            request.websocket = True
        elif request.chunked or request.length:
            self._reframe = request

    # Where reading stops.

    def _stopped(self, error: Exception, data: bytes | memoryview) -> None:
        while True:
            if not isinstance(error, httptools.HttpParserUpgrade):
                if self.refusal is None and not self.ended:
                    self._refuse(400, f"This is not a valid HTTP/1.1 request: {error}.")
                self.ended = True
                return
            data = data[error.args[0] :]
            if self.ended:
                self.rest = bytes(data) if self._keeps_rest else b""
                return
            self._parser = httptools.HttpRequestParser(self)
            self._replay_framing()
            try:
                return self._parser.feed_data(data)
            except (httptools.HttpParserError, httptools.HttpParserUpgrade) as next_error:
                error = next_error

    def _replay_framing(self) -> None:
        request, self._reframe = self._reframe, None
        if request is None:
            return
        framing = b"Transfer-Encoding: chunked" if request.chunked else b"Content-Length: %d" % request.length
        close = b"" if request.keep_alive else b"Connection: close\r\n"
        self._replaying = True
        self._parser.feed_data(b"POST / HTTP/1.1\r\n%b%b\r\n\r\n" % (close, framing))
        self._replaying = False

    def _check_overhead(self) -> None:
        """Bytes that became neither a body nor a whole head: endless headers, extensions or empty lines."""
        allowed = self._limits.max_head
        if self._request is not None:
            allowed = 2 * allowed + _CHUNK_OVERHEAD * self._request.received
        if self._raw > allowed:
            self._refuse(431, "The request's headers are too large.")

    def _refuse(self, status: int, message: str, path: str = "") -> Refused:
        path = path or self._target.partition(b"?")[0].decode("latin-1")
        self.refusal = Refused(status, message, path)
        self.ended = True
        return self.refusal

    def _reset_head(self) -> None:
        self._target = b""
        self._headers = []
        self._seen = {}
        self._size = 0
