"""A client of REST v1 that hides nothing: standard library, one connection, every status handed back."""

from __future__ import annotations

import http.client
import json
import socket
from types import TracebackType
from typing import Any, NamedTuple


class Answer(NamedTuple):
    """What came back; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, which must be JSON whatever the status."""
        assert self.headers["content-type"] == "application/json", (self.status, self.headers, self.body)
        return json.loads(self.body)

    @property
    def version(self) -> str:
        """The model version that answered."""
        return self.headers["x-model-version"]


class Client:
    """One kept-alive connection. Nothing is tried twice."""

    def __init__(self, port: int, *, timeout: float) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def connect(self) -> None:
        """Connect now, not with the first request."""
        self._connection.connect()

    def close(self) -> None:
        """End the connection."""
        self._connection.close()

    def send(self, method: str, path: str, body: bytes = b"", **headers: str) -> None:
        """Send a request whose answer `receive` gives; headers are named with underscores."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self._connection.request(method, path, body or None, named)

    def receive(self) -> Answer:
        """The answer to what was sent."""
        response = self._connection.getresponse()
        headers = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, headers, response.read())

    def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> Answer:
        """Send a request and wait for its answer."""
        self.send(method, path, body, **headers)
        return self.receive()

    def send_row(self, *row: float, **headers: str) -> None:
        """Send a prediction whose answer `receive` gives."""
        self.send("POST", "/predict", json.dumps({"vector": row}).encode(), **headers)

    def predict(self, *row: float, **headers: str) -> Answer:
        """One prediction."""
        self.send_row(*row, **headers)
        return self.receive()


def ask_raw(port: int, data: bytes, *, timeout: float = 10.0) -> bytes:
    """Everything the server says to these bytes until it closes, or stays silent for `timeout`."""
    with socket.create_connection(("127.0.0.1", port), timeout=timeout) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        said = b""
        try:
            while more := connection.recv(65536):
                said += more
        except (TimeoutError, ConnectionResetError):
            pass
        return said
