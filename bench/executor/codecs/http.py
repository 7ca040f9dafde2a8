"""HTTP/1.1 with one request at a time on a connection, which is kept. Pure."""

from __future__ import annotations

import httptools

from bench.executor.codecs.codec import Answer, Broken


class Http:
    """A payload is a whole request. `refused` are bytes that, in the body of a 200, say that it is none."""

    def __init__(self, refused: bytes = b"") -> None:
        self.capacity = 1
        self.is_over = False
        self._refused = refused
        self._number = -1
        self._answers: list[Answer] = []
        self._body = b""
        self._said: dict[bytes, bytes] = {}
        self._parser = httptools.HttpResponseParser(self)

    def hello(self) -> bytes:
        """Nothing: an HTTP client begins with its request."""
        return b""

    def replies(self) -> bytes:
        """Nothing: there are only requests."""
        return b""

    def request(self, number: int, payload: bytes) -> bytes:
        """The payload, as it is."""
        self._number, self._body, self._said = number, b"", {}
        return payload

    def feed(self, data: bytes) -> list[Answer]:
        """The answer, where it is whole; `Broken`."""
        self._answers = []
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            raise Broken(f"that is no answer in HTTP: {error}") from None
        return self._answers

    # What httptools calls.

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header came."""
        self._said[name.lower()] = value

    def on_body(self, body: bytes) -> None:
        """A part of the body came."""
        self._body += body

    def on_message_complete(self) -> None:
        """The answer is whole, unless it is the one before it (1xx)."""
        status, said = self._parser.get_status_code(), self._said
        if status < 200:
            return
        error = "" if status == 200 else str(status)
        if self._refused and not error and self._refused in self._body:
            error = "refused"
        self._answers.append(
            Answer(
                self._number,
                error,
                said.get(b"x-worker", b""),
                said.get(b"x-cache", b""),
                said.get(b"server-timing", b""),
                self._body,
            )
        )
        self.is_over = not self._parser.should_keep_alive()
