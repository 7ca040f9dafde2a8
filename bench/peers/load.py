"""The load: wrk where there is one, else this project's own executor; the same for every server of a run.

Both send the same requests, byte for byte, from clients of which each waits for its answer.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from bench.executor.doors import open_door
from bench.executor.execute import execute
from bench.executor.progress import Moment
from bench.executor.settings import Settings
from bench.peers.served import Served
from bench.peers.workloads import WORKLOADS
from bench.results import Result
from bench.schedule import Made, Row, Schedule
from bench.wrk import drive

TIMEOUT = 30.0  # seconds
_ANYWHERE = "http://127.0.0.1:80"  # the Host of requests that are written once for every port


class Load(NamedTuple):
    """What was seen; seconds. `errors` are answers that are not 200, and connections that broke."""

    answered: int
    seconds: float
    p50: float
    p99: float
    errors: int

    @property
    def rate(self) -> float:
        """Right answers a second."""
        return self.answered / self.seconds if self.seconds else 0.0


class Generator(NamedTuple):
    """`wrk` or `executor`, and where it keeps the requests that it made."""

    name: str
    folder: Path

    def run(
        self, server: Served, inputs: Sequence[str], *, clients: int, seconds: float, first: int = 0
    ) -> Load:
        """Ask for the rows of these numbers, in turn and again and again; `first` are passed over."""
        if self.name == "wrk":
            return self._wrk(server, inputs, clients, seconds, first)
        inputs = [*inputs[first % len(inputs) :], *inputs[: first % len(inputs)]]
        result = closed(server, inputs, clients=clients, seconds=seconds)
        latency = result.latency
        errors = sum(result.errors.values())
        return Load(result.answered, result.duration, latency.p50, latency.p99, errors)

    def _wrk(self, server: Served, inputs: Sequence[str], clients: int, seconds: float, first: int) -> Load:
        different = list(dict.fromkeys(inputs))
        stem = "-".join(
            [server.workload, server.door_name, (server.path or "").replace("/", "_"), f"{len(inputs)}"]
        )
        requests, order = self.folder / f"{stem}.requests", self.folder / f"{stem}.order"
        if not requests.exists():
            requests.write_bytes(b"".join(_written(server, number) for number in different))
            if len(different) < len(inputs):
                at = {number: n for n, number in enumerate(different, 1)}
                order.write_text("\n".join(str(at[number]) for number in inputs))
        told = {"requests": requests, "order": order if order.exists() else "", "first": first}
        seen = drive(server, "requests.lua", clients=clients, seconds=seconds, **told)
        return Load(max(0, seen.requests - seen.errors), seen.seconds, seen.p50, seen.p99, seen.errors)


def choose(folder: Path, name: str | None = None) -> Generator:
    """The one that is here. `ValueError` where it is to be wrk, and there is none."""
    has_wrk = shutil.which("wrk") is not None
    if name == "wrk" and not has_wrk:
        raise ValueError("wrk is not installed: apt install wrk, or --generator executor")
    return Generator(name or ("wrk" if has_wrk else "executor"), folder)


def closed(
    server: Served,
    inputs: Sequence[str],
    *,
    clients: int,
    seconds: float,
    timeout: float = TIMEOUT,
    show: Callable[[Moment], None] = lambda _: None,
) -> Result:
    """The executor's closed loop, which knows of every request what became of it."""
    schedule = Schedule(Made(seconds), [Row(0.0, "", number) for number in inputs])
    settings = Settings(
        url=server.url,
        door=server.door_name,
        path=server.path,
        tensor=WORKLOADS[server.workload].tensor,
        connections=clients,
        closed=clients,
        warm_up=0.0,
        timeout=timeout,
        pids=(server.tree.root,),
    )
    result = execute(schedule, settings, show=show)
    if result.is_interrupted:  # it ends a run in good order, and with it this one
        raise KeyboardInterrupt
    return result


def _written(server: Served, number: str) -> bytes:
    tensor = WORKLOADS[server.workload].tensor
    request = open_door(server.door_name, _ANYWHERE, tensor, server.path).payloads.get("", number)
    return b"%d\n%b" % (len(request), request)
