"""Doors of servers by name: how a connection to one speaks, and how a request to it is made.

Pure, but for the file of authorities.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import quote, urlsplit

from bench.executor import payloads
from bench.executor.codecs.codec import Codec
from bench.executor.codecs.grpc import Grpc
from bench.executor.codecs.http import Http
from bench.executor.codecs.tls import Tls, trust
from bench.executor.codecs.websocket import WebSocket
from bench.executor.payloads import Encode, Payloads, Tensor, Values

STREAMS = 32  # gRPC calls at once on a connection
WINDOW = 64  # requests at once on a WebSocket
_INFER = b"/inference.GRPCInferenceService/ModelInfer"


class Door(NamedTuple):
    """Where it is, what speaks on a new connection to it, and what makes its requests."""

    host: str
    port: int
    connect: Callable[[], Codec]
    streams: int
    """Requests that may be in flight on a connection, as far as one can tell before a server greets."""
    payloads: Payloads


# Services that take one row as JSON at one path. Of all but mosec and torchserve the path is a service's own
# to choose: --path says another.
_ROWS: dict[str, tuple[str, Encode]] = {
    "mosec": ("/inference", payloads.vector),
    "litserve": ("/predict", payloads.vector),
    "rayserve": ("/", payloads.vector),
    "bentoml": ("/predict", payloads.vectors),
    "starlette": ("/predict", payloads.vector),
    "torchserve": ("/predictions/model", payloads.vector),
}
_TLS = ("https", "wss")
DOORS = ("v1", "v2", "v2-binary", "grpc", "ws", *_ROWS)


def open_door(
    name: str,
    url: str,
    tensor: Tensor,
    path: str | None = None,
    *,
    cacert: str | None = None,
    insecure: bool = False,
) -> Door:
    """A server's door; `path` instead of its own, and what is trusted over TLS. `ValueError` with a sentence
    where there is none such."""
    if name not in DOORS:
        raise ValueError(f"there is no door {name!r}: allowed are {', '.join(DOORS)}")
    parts = urlsplit(url if "://" in url else f"//{url}")
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or not port or parts.scheme not in ("", "http", "grpc", "ws", *_TLS):
        raise ValueError(f"{url!r} should be http://HOST:PORT, or with https, grpc, ws or wss")
    at = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    streams = {"grpc": STREAMS, "ws": WINDOW}.get(name, 1)
    connect = _connect(name, at, path)
    if parts.scheme in _TLS:
        connect = _over_tls(connect, name, host, trust(cacert, insecure=insecure))
    elif cacert or insecure:
        raise ValueError("what to trust is for https:// and wss://")
    return Door(host, port, connect, streams, Payloads(tensor, _encoder(name, at, path)))


def _over_tls(
    connect: Callable[[], Codec], name: str, host: str, context: ssl.SSLContext
) -> Callable[[], Codec]:
    if name == "grpc":
        raise ValueError("the door grpc is not spoken over TLS: the others are")
    return lambda: Tls(connect(), context, host)


def _connect(name: str, at: str, path: str | None) -> Callable[[], Codec]:
    if name == "grpc":
        return lambda: Grpc(at.encode(), _INFER, STREAMS)
    if name == "ws":
        lines = [f"GET {path or '/ws'} HTTP/1.1", f"Host: {at}", "Connection: Upgrade", "Upgrade: websocket"]
        lines += ["Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "", ""]
        handshake = "\r\n".join(lines).encode()
        return lambda: WebSocket(handshake)
    refused = b'"status":false' if name == "v1" else b""
    return lambda: Http(refused)


def _encoder(name: str, at: str, path: str | None) -> Encode:
    if name == "grpc":
        return payloads.grpc
    if name == "ws":
        return payloads.websocket
    if name == "v2-binary":

        def binary(model: str, tensor: Tensor, values: Values) -> bytes:
            head, data = payloads.v2_binary(tensor, values)
            length = f"Inference-Header-Content-Length: {len(head)}"
            return payloads.post(at, path or _v2_path(model), head + data, [length])

        return binary
    own, encode = _ROWS.get(name, ("", payloads.v2 if name == "v2" else payloads.v1))

    def whole(model: str, tensor: Tensor, values: Values) -> bytes:
        where = path or own or (_v2_path(model) if name == "v2" else _v1_path(model))
        return payloads.post(at, where, encode(model, tensor, values), ["Content-Type: application/json"])

    return whole


def _v1_path(model: str) -> str:
    return f"/models/{quote(model, safe='')}/predict" if model else "/predict"


def _v2_path(model: str) -> str:
    return f"/v2/models/{quote(model or 'default', safe='')}/infer"
