"""A constant load over every door; of each request it is put down when it was sent, and what came back."""

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from bench.executor.codecs.codec import Answer
from bench.executor.connection import Request
from bench.executor.doors import Door, open_door
from bench.executor.load import Limits, Load
from bench.executor.payloads import VECTOR
from bench.executor.records import Records
from bench.schedule import Row
from tests.chaos.answers import NETWORK, READERS
from tests.chaos.history import Asked
from tests.hosts.hosts import Host

LINE = "line"
TENSORS = {NETWORK: VECTOR, LINE: VECTOR._replace(name="x")}
COMMON = 20  # rows that come again and again, so that caches have something to remember
TIMEOUT = 20.0  # seconds that a client waits: longer than any deadline


class Where(NamedTuple):
    """The gateway's doors."""

    rest: str
    grpc: str


class _Kept(Records):
    """Records that read every answer, and hand it on."""

    def __init__(self, name: str, door: Door, tell: Callable[[Asked], None]) -> None:
        super().__init__()
        self._name = name
        self._door = door
        self._tell = tell

    def add(self, request: Request, sent: float, done: float, answer: Answer) -> None:
        super().add(request, sent, done, answer)
        x, y = self._door.payloads.values(request.input)
        version, result, error = "", math.nan, answer.error
        if not error:
            try:
                version, result = READERS[self._name](answer.body)
            except (ValueError, LookupError, TypeError) as failure:
                error = f"an answer that is none ({failure!r}): {answer.body!r}"
        elif answer.body:
            error = f"{error}: {answer.body.decode(errors='replace')}"
        asked = Asked(self._name, request.model, (x, y), sent, done, error, version, result)
        self._tell(asked)


def rows(name: str, model: str, rate: float, seconds: float) -> list[Row]:
    """What one door is asked of a model; every fourth row is one that is asked often."""
    count = int(rate * seconds)
    inputs = [f"common {n % COMMON}" if n % 4 == 0 else f"{name} {n}" for n in range(count)]
    return [Row(n / rate, model, inputs[n]) for n in range(count)]


@contextmanager
def traffic(
    host: Host | None, where: Where, rate: float, seconds: float, clock: Callable[[], float],
    tell: Callable[[Asked], None],
) -> Iterator[None]:  # fmt: skip
    """Ask at `rate` over all doors together, from a host or from here, for so many seconds; a block that ends
    earlier waits for the rest, and one that fails does not."""
    loads, threads = [], []
    for name, (model, tensor) in itertools.product(READERS, TENSORS.items()):
        door = open_door(name, where.grpc if name == "grpc" else where.rest, tensor)
        load = Load(door, Limits(timeout=TIMEOUT), clock)
        load.records = _Kept(name, door, tell)
        planned = rows(name, model, rate / len(READERS) / len(TENSORS), seconds)
        loads.append(load)
        threads.append(threading.Thread(target=_run, args=(host, load, planned), daemon=True))
    for thread in threads:
        thread.start()
    try:
        yield
    except BaseException:
        for load in loads:
            load.stop()
        raise
    finally:
        for thread in threads:
            thread.join()
    for load in loads:
        for _ in range(load.records.missed):
            tell(Asked("", NETWORK, (0, 0), clock(), clock(), "never sent"))


def _run(host: Host | None, load: Load, planned: list[Row]) -> None:
    if host is None:
        load.run(planned, math.inf)
    else:
        with host.on_network():
            load.run(planned, math.inf)
