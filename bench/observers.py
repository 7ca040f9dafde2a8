"""What watching costs: `python -m bench.observers`. Prints a table.

Two gateways stand side by side, one that nobody watches and one with everything on: metrics scraped every few
seconds by both sets of names, JSON logs with a share of the requests in them, spans of a share sent to a
collector, and somebody who follows /events and the dashboard. They are loaded in turn. Then /metrics of a
large fleet is timed.

Exit codes: 0 every bound reached, 1 one missed, 2 it could not be run.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from statistics import median, quantiles
from typing import Any

from bench.client import Client
from bench.figures import Figure
from bench.programs import FIRST, Server, gateway, gather
from bench.run import Run, run_benchmark, upload_sample
from bench.wrk import Load, drive

CLIENTS = 32
PAIRS = 4  # for each repeat: many short ones, as what else a machine does differs from one to the next
SCRAPE = 5.0  # seconds; 15 are usual
WORKERS, MODELS = 200, 50
SCRAPES = 50
LOAD_TIME = 120.0
STREAMS = ("/events", "/dashboard/live")
OBSERVERS = ("--metrics_triton", "--log_format", "json", "--access_log", "0.01")


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; an exit code."""
    return run_benchmark("bench.observers", (__doc__ or "").split("\n")[0], observers, argv)


def observers(run: Run) -> list[Figure]:
    """Both measurements."""
    return [*rotation(run), *scraping(run)]


def rotation(run: Run) -> list[Figure]:
    """Requests per second with all observers beside none, in pairs whose order turns."""
    loads: dict[str, list[Load]] = {"off": [], "on": []}
    with contextlib.ExitStack() as stack:
        collector = stack.enter_context(_collector())
        servers: dict[str, Server] = {}
        for name, flags in (("off", ()), ("on", (*OBSERVERS, "--otel", collector))):
            directory = run.directory / name
            directory.mkdir()
            servers[name] = stack.enter_context(gateway(directory, flags=flags))
            upload_sample(servers[name])
            _load(run, servers[name], seconds=1)
        stack.enter_context(_watched(servers["on"]))
        for n in range(PAIRS * run.repeats):
            for name in ("off", "on") if n % 2 == 0 else ("on", "off"):
                run.say(f"observers {name}: run {n + 1} of {PAIRS * run.repeats}")
                loads[name].append(_load(run, servers[name], seconds=run.seconds / 2))
    pairs = list(zip(loads["on"], loads["off"], strict=True))
    costs = [1 - on.rate / off.rate for on, off in pairs]
    errors = sum(load.errors for kind in loads.values() for load in kind)
    note = "pairs: " + ", ".join(f"{cost:.1%}" for cost in costs)
    return [
        Figure("requests, 32 clients, nobody watches", median(e.rate for e in loads["off"]), "requests/s"),
        Figure("  all observers on", median(each.rate for each in loads["on"]), "requests/s"),
        Figure("  what they cost", 100 * median(costs), "%", at_most=5, note=note),
        Figure("  p99 without", median(each.p99 for each in loads["off"]) * 1000, "ms"),
        Figure("  p99 with", median(each.p99 for each in loads["on"]) * 1000, "ms"),
        Figure("  failed", errors, "requests", at_most=0),
    ]


def scraping(run: Run) -> list[Figure]:
    """`/metrics` of 200 workers, and of 50 models that were all asked, through two doors."""
    models = run.directory / "models"
    models.mkdir()
    flags = ("--models", str(models), "--metrics_triton")
    with (
        gateway(run.directory, near=0, crowd=WORKERS, is_busy=False, flags=flags) as server,
        Client(server.port) as client,
    ):
        run.say(f"/metrics: {FIRST} workers load {MODELS} models, then {WORKERS} hold them")
        for n in range(MODELS):
            version = models / f"model-{n}" / "1"
            version.mkdir(parents=True)
            (version / "model.pt").write_bytes(b"the crowd looks into no file")
            _load_model(client, f"model-{n}")
            client.ask("POST", f"/models/model-{n}/predict", b'{"vector":[1.0]}')
            tensor = b'{"name":"vector","shape":[1,1],"datatype":"FP32","data":[1.0]}'
            client.ask("POST", f"/v2/models/model-{n}/infer", b'{"inputs":[%b]}' % tensor)
        gather(server, WORKERS)
        count = SCRAPES // (5 if run.is_quick else 1)
        run.say(f"/metrics: {count} scrapes")
        took = []
        for _ in range(count):
            began = time.perf_counter()
            page = _scrape(server)
            took.append(time.perf_counter() - began)
            time.sleep(0.1)
    run.details["scrapes"] = took
    lines = page.count(b"\n")
    return [
        Figure(
            f"/metrics of {WORKERS} workers and {MODELS} models, p50", 1000 * median(took), "ms", at_most=50
        ),
        Figure("  p90", 1000 * quantiles(took, n=10)[-1], "ms"),
        Figure("  lines", lines, "", note=f"{len(page) / 2**20:.2f} MiB"),
    ]


def _load(run: Run, server: Server, *, seconds: float) -> Load:
    return drive(server, "pairs.lua", clients=CLIENTS, seconds=seconds, seed=run.seed())


def _load_model(client: Client, name: str) -> None:
    """A survey that a worker of a crowd misses is asked again."""
    end = time.monotonic() + LOAD_TIME
    while "error" in (answer := client.ask("POST", f"/v2/repository/models/{name}/load")):
        if time.monotonic() > end:
            raise RuntimeError(f"{name} cannot be loaded: {answer['error']}")


def _scrape(server: Server) -> bytes:
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
def _watched(server: Server) -> Iterator[None]:
    """Meanwhile somebody scrapes, and somebody follows what happens."""
    over = threading.Event()

    def scrape() -> None:
        while not over.wait(SCRAPE):
            _scrape(server)

    followed = [http.client.HTTPConnection("127.0.0.1", server.port, timeout=60) for _ in STREAMS]
    for path, connection in zip(STREAMS, followed, strict=True):
        connection.request("GET", path)
    sockets = [each.sock for each in followed]
    threads = [threading.Thread(target=scrape)]
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
def _collector() -> Iterator[str]:
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


if __name__ == "__main__":
    sys.exit(main())
