"""An HTTP server that answers so many requests a second, one after the other: `paced_server.py PORT RATE`."""

from __future__ import annotations

import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    lock = threading.Lock()
    free_at = 0.0
    each = 0.0

    def do_GET(self) -> None:
        self.answer(b"ready")

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        with Handler.lock:
            now = time.monotonic()
            Handler.free_at = max(now, Handler.free_at) + Handler.each
            wait = Handler.free_at - now
        time.sleep(wait)
        self.answer(b"{}")

    def answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    request_queue_size = 512


if __name__ == "__main__":
    Handler.each = 1 / float(sys.argv[2])
    Server(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
