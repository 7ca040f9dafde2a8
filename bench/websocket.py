"""One WebSocket with a full window beside as many HTTP connections: `python -m bench.websocket`.

Each run stands beside one of the other kind. What the gateway spends on a request is the figure that counts:
the clients, one in Python and wrk, do not cost the same.
"""

from __future__ import annotations

import json
import random
import socket
import struct
import sys
import time
from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

from bench.figures import Figure
from bench.programs import Server, gateway
from bench.run import Run, run_benchmark, upload_sample
from bench.wrk import drive

HANDSHAKE = (
    "GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


class Rate(NamedTuple):
    """Requests per second, and seconds of the gateway's own CPU per 1,000 requests."""

    rate: float
    cpu: float


class Socket:
    """A client of `/ws` that does as little as a client can: its mask is zero, and it parses no answer."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self._socket.sendall(HANDSHAKE.encode())
        self._read = b""
        while b"\r\n\r\n" not in self._read:
            self._read += self._socket.recv(65536)
        self._read = self._read.partition(b"\r\n\r\n")[2]
        while not (greeting := self.take()):
            pass
        self.window: int = json.loads(greeting[0])["window"]

    def close(self) -> None:
        """End the connection."""
        self._socket.close()

    def ask(self, numbers: range) -> None:
        """Send one message for each of these ids, another row each."""
        self._socket.sendall(b"".join(map(_message, numbers)))

    def take(self) -> list[bytes]:
        """The payloads of the messages that have come; waits for bytes."""
        self._read += self._socket.recv(1 << 18)
        data, at, payloads = self._read, 0, []
        while len(data) >= at + 4:
            size, head = data[at + 1], 2
            if size == 126:
                size, head = struct.unpack_from("!H", data, at + 2)[0], 4
            if len(data) < at + head + size:
                break
            if data[at] & 15 == 1:  # else a ping, and a run is over before its pong is missed
                payloads.append(data[at + head : at + head + size])
            at += head + size
        self._read = data[at:]
        return payloads


def _message(number: int) -> bytes:
    text = b'{"id":%d,"vector":[%.6f,%.6f]}' % (number, random.random(), random.random())
    return b"\x81" + bytes([0x80 | len(text)]) + bytes(4) + text


def over_socket(server: Server, seconds: float) -> Rate:
    """Keep the window full for so long."""
    client = Socket(server.port)
    before, began = server.cpu()[0], time.perf_counter()
    asked, answered = client.window, 0
    client.ask(range(asked))
    while time.perf_counter() - began < seconds:
        came = client.take()
        bad = [each for each in came if b'"status":true' not in each]
        if bad:
            raise RuntimeError(f"a request was refused: {bad[0]!r}")
        client.ask(range(asked, asked + len(came)))
        asked, answered = asked + len(came), answered + len(came)
    took = time.perf_counter() - began
    cpu = server.cpu()[0] - before
    client.close()
    return Rate(answered / took, 1000 * cpu / answered)


def over_http(run: Run, server: Server, connections: int, seconds: float) -> Rate:
    """The same over as many connections as the window is wide."""
    before = server.cpu()[0]
    load = drive(server, "pairs.lua", clients=connections, seconds=seconds, seed=run.seed())
    return Rate(load.rate, 1000 * (server.cpu()[0] - before) / load.requests)


def websocket(run: Run) -> list[Figure]:
    """Pairs of runs, and the medians of each kind."""
    with gateway(run.directory) as server:
        upload_sample(server)
        client = Socket(server.port)
        window = client.window
        client.close()
        over_socket(server, 1)
        ours, theirs = [], []
        for n in range(run.repeats):
            run.say(f"websocket: run {n + 1} of {run.repeats}, then HTTP")
            ours.append(over_socket(server, run.seconds))
            theirs.append(over_http(run, server, window, run.seconds))
    run.details["websocket"] = {"socket": [r._asdict() for r in ours], "http": [r._asdict() for r in theirs]}
    return [
        Figure(f"one WebSocket, window {window}", median(r.rate for r in ours), "requests/s"),
        Figure("  gateway CPU per 1,000", median(r.cpu for r in ours), "s"),
        Figure(f"HTTP, {window} connections", median(r.rate for r in theirs), "requests/s"),
        Figure("  gateway CPU per 1,000", median(r.cpu for r in theirs), "s"),
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; an exit code."""
    return run_benchmark("bench.websocket", "A WebSocket beside HTTP.", websocket, argv)


if __name__ == "__main__":
    sys.exit(main())
