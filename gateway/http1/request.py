"""What a request is once its head is read, and what a refusal is; no parsing here."""

from __future__ import annotations


class Refused(Exception):
    """Raised when a request breaks the protocol or a limit: answer `status` and close.

    `path` is as much of the request's path as was understood, `extra` header lines, each ending in CRLF;
    `limit` is what figures call it, where the status does not say.
    """

    def __init__(
        self, status: int, message: str, path: str = "", extra: bytes = b"", limit: str = ""
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.path = path
        self.extra = extra
        self.limit = limit


class Request:
    """One request; `body` grows until `complete`, headers never change. Names are lower case."""

    __slots__ = (
        "body",
        "chunked",
        "complete",
        "discard",
        "expects",
        "fields",
        "headers",
        "http10",
        "keep_alive",
        "length",
        "max_body",
        "method",
        "path",
        "query",
        "received",
        "target",
        "websocket",
    )

    def __init__(self, method: str, target: bytes, headers: list[tuple[bytes, bytes]]) -> None:
        self.method = method
        self.target = target
        self.headers = headers
        self.fields: dict[bytes, bytes] | None = None  # the first value of each, once somebody asks for one
        self.path = ""
        self.query = b""
        self.body: bytes | bytearray = b""
        self.received = 0
        self.length = 0
        self.max_body = 0
        self.complete = False
        self.chunked = False
        self.expects = False
        self.discard = False
        self.http10 = False
        self.keep_alive = True
        self.websocket = False

    def follow(self, known: Request) -> None:
        """Be what a request was whose head had the same bytes: kept alive, and framed by its length."""
        self.fields = known.fields = known._first_values()
        self.path = known.path
        self.query = known.query
        self.length = known.length
        self.max_body = known.max_body

    def header(self, name: bytes) -> bytes | None:
        """The first value of the header `name` (lower case), or None."""
        fields = self.fields
        return (self._first_values() if fields is None else fields).get(name)

    def _first_values(self) -> dict[bytes, bytes]:
        if self.fields is None:
            self.fields = dict(reversed(self.headers))
        return self.fields
