"""Those who watch a gateway, each as one would have it: Prometheus, a log that is kept, a collector
of spans, and a dashboard that is open."""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from bench.programs import Server

SCRAPE = 5.0  # seconds; 15 are usual
STREAMS = ("/events", "/dashboard/live")


class Watching(NamedTuple):
    """What a gateway is told, whether it is scraped, whether somebody looks at its dashboard, and whether its
    spans go to a collector; in words."""

    name: str
    flags: tuple[str, ...] = ()
    scrapes: bool = False
    looks: bool = False
    traces: bool = False


NOBODY = Watching("nobody")
METRICS = Watching(f"/metrics and Triton's names every {SCRAPE:g} s", ("--metrics_triton",), scrapes=True)
LOG = Watching("JSON log with 1 % of the requests", ("--log_format", "json", "--access_log", "0.01"))
SPANS = Watching("spans of 0.1 %", traces=True)
DASHBOARD = Watching("a dashboard and /events", looks=True)
EACH = (METRICS, LOG, SPANS, DASHBOARD)
ALL = Watching(
    "; ".join(each.name for each in EACH),
    tuple(flag for each in EACH for flag in each.flags),
    scrapes=True,
    looks=True,
    traces=True,
)


def scrape(server: Server) -> bytes:
    """The page, as Prometheus fetches it."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    try:
        connection.request("GET", "/metrics")
        answer = connection.getresponse()
        page = answer.read()
    finally:
        connection.close()
    if answer.status != 200:
        raise RuntimeError(f"/metrics was answered {answer.status}")
    return page


@contextlib.contextmanager
def watched(server: Server, watching: Watching) -> Iterator[None]:
    """Meanwhile somebody scrapes, and somebody follows what happens."""
    over = threading.Event()

    def scrape_on() -> None:
        while not over.wait(SCRAPE):
            scrape(server)

    streams = STREAMS if watching.looks else ()
    followed = [http.client.HTTPConnection("127.0.0.1", server.port, timeout=60) for _ in streams]
    for path, connection in zip(streams, followed, strict=True):
        connection.request("GET", path)
    sockets = [each.sock for each in followed]
    threads = [threading.Thread(target=scrape_on)] if watching.scrapes else []
    threads += [threading.Thread(target=_read, args=(each.getresponse(),)) for each in followed]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for each in sockets:
            each.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join()
        for connection in followed:
            connection.close()


def _read(stream: http.client.HTTPResponse) -> None:
    with contextlib.suppress(OSError, http.client.HTTPException):
        while stream.read1(65536):
            pass


class _Sink(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextlib.contextmanager
def collector() -> Iterator[str]:
    """The URL of one that takes spans and forgets them."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Sink)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
