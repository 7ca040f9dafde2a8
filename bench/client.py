"""A plain HTTP client for what wrk cannot do: uploads, status, and looking at single answers."""

from __future__ import annotations

import http.client
import json
import time
from typing import Any, NamedTuple

_BOUNDARY = "pipeline-bench"


class Predicted(NamedTuple):
    """One answer to `/predict`."""

    status: bool
    version: str
    is_hit: bool


class Uploaded(NamedTuple):
    """One answer to `/set_weights`; seconds until the last byte was taken, and until the answer came."""

    answer: dict[str, Any]
    sending: float
    total: float


class Client:
    """One keep-alive connection."""

    def __init__(self, port: int, *, timeout: float = 60.0) -> None:
        self._http = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def get(self, path: str) -> dict[str, Any]:
        """The JSON that is there."""
        self._http.request("GET", path)
        return _json(self._http.getresponse())

    def ask(self, method: str, path: str, body: bytes = b"") -> dict[str, Any]:
        """What any other request is answered."""
        self._http.request(method, path, body)
        return _json(self._http.getresponse())

    def predict(self, vector: list[float]) -> Predicted:
        """Ask for one row."""
        self._http.request("POST", "/predict", json.dumps({"vector": vector}))
        response = self._http.getresponse()
        answer = _json(response)
        return Predicted(
            bool(answer["status"]),
            response.getheader("x-model-version", ""),
            response.getheader("x-cache") == "hit",
        )

    def set_weights(self, nn_id: str, text: bytes) -> Uploaded:
        """Upload the base64 text of weights."""
        body = upload_body(nn_id, text)
        headers = {"Content-Type": f"multipart/form-data; boundary={_BOUNDARY}"}
        began = time.perf_counter()
        self._http.request("PUT", "/set_weights", body, headers)
        sent = time.perf_counter()
        answer = _json(self._http.getresponse())
        return Uploaded(answer, sent - began, time.perf_counter() - began)


def upload_body(nn_id: str, text: bytes) -> bytes:
    """The multipart form of an upload, as curl makes it."""
    field = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="nn_id"\r\n\r\n{nn_id}\r\n'
    file = (
        f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="data"; filename="weights.b64"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    )
    return b"".join((field.encode(), file.encode(), text, f"\r\n--{_BOUNDARY}--\r\n".encode()))


def _json(response: http.client.HTTPResponse) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(response.read())
    return answer
