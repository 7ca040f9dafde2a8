"""One soak: a load over every door while models and workers are replaced, and what processes hold."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import psutil

from tests.chaos.checker import violations
from tests.chaos.history import History
from tests.chaos.operations import Operations, Paces
from tests.chaos.run import expected
from tests.chaos.traffic import Where, traffic
from tests.e2e.processes import Gateway, Site, open_site
from tests.soak.findings import Samples
from tests.soak.footprint import Footprint, footprint, left

SWAP, REPLACE = 60.0, 120.0  # seconds between two changes of each model, and two replacements
LOOK = 1.0
WORKERS = 2  # of which the first stays
SLACK = 16  # files in temporary places that may be there while the service runs


class Outcome(NamedTuple):
    """What each process that stayed held, what happened, and what should not have."""

    samples: dict[str, Samples]
    history: History
    replaced: int
    violations: list[str]


class Soaked(NamedTuple):
    """What `Operations` act on."""

    gateway: Gateway
    batch: Path


def run(seconds: float, rate: float, folder: Path, say: Callable[[str], None]) -> Outcome:
    """Let it run, and check it."""
    history = History()
    temporary, batch = folder / "tmp", folder / "batch"
    for each in (temporary, batch):
        each.mkdir()
    before = left(temporary)
    with open_site(folder / "site") as site:
        gateway, where = _start(site, batch, temporary)
        start = time.monotonic()

        def clock() -> float:
            return time.monotonic() - start

        quick = min(1.0, seconds / 600)  # a short run has as many changes as one of ten minutes
        paces = Paces(SWAP * quick, SWAP * quick, 5.0)
        operations = Operations(Soaked(gateway, batch), history, clock, paces)
        with operations.going_on():
            start = time.monotonic()
            history.changes[:] = [each._replace(begun=-2.0, ended=-1.0) for each in history.changes]
            load = traffic(None, where, rate, seconds, clock, history.asked.append)
            doors = {int(url.rpartition(":")[2]) for url in where}
            stays = gateway.status()["workers"][0]["pid"]
            with _looks(gateway, stays, doors, clock) as samples, load:
                replaced = _replace(gateway, stays, seconds, REPLACE * quick, clock, say)
        operations.collect()
        idle = left(temporary)
        gateway.send(signal.SIGTERM)
        gateway.wait()
    after = left(temporary)
    found = violations(history, expected)
    found += [f"was left behind: {name}" for name in after if name not in before]
    if len(idle) > len(before) + SLACK:
        found.append(f"{len(idle)} files in temporary places, where there were {len(before)}")
    return Outcome(samples, history, replaced, found)


def _start(site: Site, batch: Path, temporary: Path) -> tuple[Gateway, Where]:
    # Over ws NNG 1.11 aborts a process now and then: docs/decisions.md.
    site.use_scheme("tcp")
    port = site.ports.take()
    flags = ["--workers", str(WORKERS), "--addr_grpc", f"127.0.0.1:{port}", "--batch_root", str(batch)]
    gateway = site.start_gateway(*flags, ephemeral=False, TMPDIR=str(temporary))
    gateway.wait_ready(WORKERS)
    return gateway, Where(gateway.url, f"http://127.0.0.1:{port}")


def _replace(
    gateway: Gateway, stays: int, seconds: float, every: float, clock: Callable[[], float],
    say: Callable[[str], None],
) -> int:  # fmt: skip
    """Have the other worker leave again and again, and be replaced; how often that was."""
    times = 0
    while clock() + every < seconds:
        time.sleep(every)
        leaving = next(each for each in gateway.status()["workers"] if each["pid"] != stays)
        with suppress(ProcessLookupError):
            psutil.Process(leaving["pid"]).send_signal(signal.SIGTERM)
        gateway.wait_state(leaving["pid"], None)
        gateway.wait_ready(WORKERS)
        times += 1
        say(f"{clock():7.1f} s  {leaving['name']} was replaced")
    time.sleep(max(0.0, seconds - clock()))
    return times


@contextmanager
def _looks(
    gateway: Gateway, stays: int, doors: set[int], clock: Callable[[], float]
) -> Iterator[dict[str, Samples]]:
    """Look at the gateway, at what it starts workers from, and at the worker that stays: all outlive this."""
    watched = {"gateway": psutil.Process(gateway.pid), "the worker that stays": psutil.Process(stays)}
    server = psutil.Process(gateway.pid).children()[0]
    if server.pid != stays:
        watched["what workers are forked from"] = server
    seen: dict[str, list[tuple[float, Footprint]]] = {name: [] for name in watched}
    over = threading.Event()

    def look() -> None:
        while not over.wait(LOOK):
            for name, process in watched.items():
                seen[name].append((clock(), footprint(process, doors)))

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield {**seen}
    finally:
        is_well = thread.is_alive()
        over.set()
        thread.join()
    if not is_well:
        raise RuntimeError("a process that was to stay has ended")
