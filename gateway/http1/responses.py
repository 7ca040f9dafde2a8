"""Response heads as bytes, ready made where they repeat; pure, and no decision about what to answer."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from email.utils import formatdate
from http import HTTPStatus

ErrorBody = Callable[[int, str, str], bytes]
"""(status, message, path) to the body of a refusal."""

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

_REASONS = {status.value: status.phrase.encode() for status in HTTPStatus}


def default_error_body(status: int, message: str, path: str) -> bytes:
    """The error shape when the caller gives none: `{"status":false,"message":...}`."""
    return json.dumps({"status": False, "message": message}, separators=(",", ":")).encode()


def may_have_body(status: int) -> bool:
    """Whether a response of this status may carry a body at all (RFC 9110 §6.4.1)."""
    return status >= 200 and status not in (204, 304)


def _connection_line(keep: bool, http10: bool) -> bytes:
    if not keep:
        return b"connection: close\r\n"
    return b"connection: keep-alive\r\n" if http10 else b""


class ResponseHeads:
    """Heads that carry the current second in `date`; whoever has the clock calls `set_time`."""

    def __init__(self, now: float) -> None:
        """`now` is the wall clock, seconds since the epoch."""
        self.set_time(now)

    def set_time(self, now: float) -> None:
        """Forget the ready-made heads and make new ones for the second `now`."""
        self._date = b"date: " + formatdate(now, usegmt=True).encode() + b"\r\n"
        self._json: dict[int, bytes] = {}

    def _status_line(self, status: int) -> bytes:
        return b"HTTP/1.1 %d %b\r\n" % (status, _REASONS.get(status, b""))

    def json(self, status: int, body: bytes, extra: bytes) -> bytes:
        """The whole answer for the common case: JSON, HTTP/1.1, kept alive, with a body; `extra` as in
        `direct`, without a content-type."""
        return b"%b%d\r\n%b\r\n%b" % (self._json_head(status), len(body), extra, body)

    def _json_head(self, status: int) -> bytes:
        """The head of a JSON answer up to the number of bytes in its body."""
        head = self._json.get(status)
        if head is None:
            head = self._status_line(status) + self._date
            head += b"content-type: application/json\r\ncontent-length: "
            self._json[status] = head
        return head

    def direct(self, status: int, size: int, extra: bytes, *, keep: bool, http10: bool) -> bytes:
        """The head for a body of `size` bytes; `extra` are header lines that each end in CRLF, a content-type
        (JSON without one) the first of them."""
        if may_have_body(status) and not extra.startswith(b"content-type:"):
            line = _connection_line(keep, http10)
            return b"%b%d\r\n%b%b\r\n" % (self._json_head(status), size, extra, line)
        lines = [self._status_line(status), self._date]
        if may_have_body(status):
            lines.append(b"content-length: %d\r\n" % size)
        lines += [extra, _connection_line(keep, http10), b"\r\n"]
        return b"".join(lines)

    def app(
        self, status: int, headers: Iterable[tuple[bytes, bytes]], framing: bytes, *, keep: bool, http10: bool
    ) -> bytes:
        """The head for an ASGI app's headers; `framing` is the line that says how long the body is.

        Raises ValueError where a header would break out of its line.
        """
        lines = [self._status_line(status)]
        dated = False
        for name, value in headers:
            line = b"%b: %b\r\n" % (name, value)
            if line.count(b"\n") != 1 or line.count(b"\r") != 1 or b"\0" in line or b":" in name:
                raise ValueError(f"A header must be one line, not {line!r}.")
            dated = dated or name == b"date"
            lines.append(line)
        if not dated:
            lines.append(self._date)
        lines += [framing, _connection_line(keep, http10), b"\r\n"]
        return b"".join(lines)
