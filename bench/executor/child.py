"""A process that carries its part of the load, and says twice a second how far it is."""

from __future__ import annotations

import gc
import signal
import time
from multiprocessing.connection import Connection
from typing import NamedTuple

from bench.executor.doors import Door
from bench.executor.load import Limits, Load
from bench.executor.progress import Tick
from bench.executor.records import ANSWERED, Records
from bench.executor.settings import Settings
from bench.schedule import Row

TICK = 0.5


class Part(NamedTuple):
    """What one process does; `host` is an address, so that names are asked for once."""

    settings: Settings
    number: int
    host: str
    rows: list[Row]
    end: float


def main(parent: Connection, part: Part) -> None:
    """Be ready, wait for the moment to start, and send ticks and then the records."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent has it, and says so
    try:
        door = _door(part)
    except (ValueError, OSError) as error:
        parent.send(str(error))
        return
    # What was made so far stays: to go through a million rows again and again would stop the loop each time.
    gc.collect()
    gc.freeze()
    parent.send(None)
    start: float = parent.recv()
    settings = part.settings
    limits = Limits(
        settings.share(settings.connections, part.number),
        settings.timeout,
        settings.share(settings.closed, part.number),
    )
    load = Load(door, limits, lambda: time.monotonic() - start)
    load.run(part.rows, part.end, _Reporter(parent, load))
    parent.send(load.records)


def _door(part: Part) -> Door:
    settings = part.settings
    door = settings.open_door()
    for row in part.rows:
        door.payloads.prepare(row.model, row.input)
    return door._replace(host=part.host)


class _Reporter:
    """Invariant: every record before `_seen` has been told of."""

    def __init__(self, parent: Connection, load: Load) -> None:
        self._parent = parent
        self._load = load
        self._next = 0.0
        self._seen = 0

    def __call__(self) -> None:
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + TICK
        if self._parent.poll():  # there is one thing that it says
            self._load.stop()
        self._parent.send(self._tick(self._load.records))

    def _tick(self, records: Records) -> Tick:
        new = range(self._seen, len(records))
        self._seen = len(records)
        latencies = [records.done[n] - records.due[n] for n in new if records.outcome[n] == ANSWERED]
        return Tick(latencies, len(new) - len(latencies), self._load.in_flight, records.workers)
