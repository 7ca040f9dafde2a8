"""A gateway of which only the dashboard is real: its files, and answers that were recorded once.

For what would take too many processes to have: `serve_recorded(answers)` with the body of each path.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from gateway.doors.pages.dashboard import FOLDER, PAGE_FILE, TYPES

LIVE = ("recent", "history", "status")


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, answers: Mapping[str, Any]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers = answers
        self.ended = threading.Event()


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        """A file, a recorded answer, or the stream of three of them."""
        path = self.path.partition("?")[0]
        name = PAGE_FILE if path == "/dashboard" else path.removeprefix("/dashboard/")
        if path == "/dashboard/live":
            self._send_stream()
        elif path.startswith("/dashboard") and (FOLDER / name).is_file():
            self._send(200, TYPES[(FOLDER / name).suffix], (FOLDER / name).read_bytes())
        elif path in self.server.answers:
            self._send(200, "application/json", json.dumps(self.server.answers[path]).encode())
        else:
            self._send(404, "application/json", b'{"status": false, "message": "There is nothing there"}')

    def _send(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _send_stream(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        try:
            for kind in LIVE:
                self._tell(kind)
            while not self.server.ended.wait(1.0):
                self._tell("status")
        except OSError:  # the browser has gone
            return

    def _tell(self, kind: str) -> None:
        data = json.dumps(self.server.answers[f"/{kind}"])
        self.wfile.write(f"event: {kind}\ndata: {data}\n\n".encode())
        self.wfile.flush()

    def log_message(self, format: str, *_values: Any) -> None:
        """Nothing: whoever reads a test's output looks for what went wrong."""


@contextmanager
def serve_recorded(answers: Mapping[str, Any]) -> Iterator[str]:
    """Its URL, for as long as it is there."""
    server = _Server(answers)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.ended.set()
        server.shutdown()
        thread.join()
        server.server_close()
