"""A closed loop on a server: by wrk where there is one and the door is HTTP's, else by the executor."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import numpy as np

from bench.executor.doors import DOORS, open_door
from bench.executor.load import Limits
from bench.executor.load import Load as ExecutorLoad
from bench.executor.records import Records
from bench.executor.summary import columns
from bench.workloads import Workload
from bench.wrk import Load, replay

TIMEOUT = 30.0
WARM_UP = 1.0
HTTP_DOORS = tuple(door for door in DOORS if door not in ("grpc", "ws"))


def generator(url: str, door: str) -> str:
    """What makes the load there: a thread of wrk takes a third of the CPU that the executor takes."""
    return "wrk" if shutil.which("wrk") and door in HTTP_DOORS and url.startswith("http:") else "the executor"


class ClosedLoop:
    """So many clients, each of which waits for its answer before it asks again. The requests are made
    beforehand, the same ones for either generator."""

    def __init__(
        self,
        url: str,
        workload: Workload,
        *,
        clients: int,
        folder: Path,
        door: str = "v1",
        path: str | None = None,
    ) -> None:
        self._url = url
        self._clients = clients
        self._rows = workload.rows()
        self._door = open_door(door, url, workload.tensor, path)
        self._requests = folder / "requests"
        payloads = [self._door.payloads.get(row.model, row.input) for row in self._rows]
        self.generator = generator(url, door)
        if self.generator == "wrk":
            self._requests.write_bytes(b"".join(b"%d\n%b" % (len(each), each) for each in payloads))

    def warm_up(self, seconds: float = WARM_UP) -> None:
        """Load, and see that every request is answered well; `RuntimeError`."""
        records = self._execute(seconds)
        if len(records.kinds) > 1 or not len(records):
            errors = ", ".join(records.kinds[1:]) or "nothing"
            raise RuntimeError(f"{self._url} does not answer as it should: {errors}")

    def run(self, seconds: float) -> Load:
        """Load, and measure."""
        if self.generator == "wrk":
            return replay(self._url, self._requests, clients=self._clients, seconds=seconds)
        records = self._execute(seconds)
        found = columns(records)
        latency = found.latency
        if not len(latency):
            return Load(0, seconds, 0.0, 0.0, 0.0, len(records))
        p50, p99 = np.quantile(latency, (0.5, 0.99), method="inverted_cdf")
        last = max(seconds, float(found.done.max()))
        failed = len(records) - len(latency)
        return Load(len(latency), last, float(p50), float(p99), float(latency.max()), failed)

    def _execute(self, seconds: float) -> Records:
        start = time.monotonic()
        limits = Limits(max(512, self._clients), TIMEOUT, self._clients)
        load = ExecutorLoad(self._door, limits, lambda: time.monotonic() - start)
        load.run(self._rows, seconds)
        return load.records
