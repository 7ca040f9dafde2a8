"""What one run of the executor measured, as one JSON file. Pure, but for reading and writing that file.

Times are in seconds, counted from the run's start where they are moments. Nothing here measures anything.
"""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import msgspec
from hdrh.histogram import HdrHistogram

FORMAT = 1
HIGHEST = 3_600_000_000  # of a histogram: an hour, in microseconds
DIGITS = 3  # of a histogram: what it says is right within 0.1 %


class Machine(msgspec.Struct, frozen=True):
    """Where it ran; `memory` is in bytes."""

    cpu: str = ""
    cores: int = 0
    memory: int = 0
    kernel: str = ""
    python: str = ""


class Planned(msgspec.Struct, frozen=True):
    """The schedule: its requests, how long it lasts, and how many a second that is."""

    rows: int
    duration: float
    offered_rate: float
    seed: int | None = None
    pattern: str = ""


class Kept(msgspec.Struct, frozen=True):
    """How the executor itself kept the schedule: how late requests left because it was busy, how many
    `waited` because every connection was taken, and how many it never sent (`missed`)."""

    late_p50: float = 0.0
    late_p99: float = 0.0
    late_max: float = 0.0
    waited: int = 0
    missed: int = 0
    is_kept: bool = True
    sentence: str = ""


class Times(msgspec.Struct, frozen=True):
    """Durations of answered requests; `hdr` is an encoded HdrHistogram in microseconds (base64)."""

    hdr: str = ""
    count: int = 0
    mean: float = 0.0
    p50: float = 0.0
    p90: float = 0.0
    p95: float = 0.0
    p99: float = 0.0
    p999: float = 0.0
    p9999: float = 0.0
    max: float = 0.0

    def histogram(self) -> HdrHistogram:
        """The histogram, decoded; an empty one where nothing was recorded."""
        if not self.hdr:
            return HdrHistogram(1, HIGHEST, DIGITS)
        return HdrHistogram.decode(self.hdr)


class Second(msgspec.Struct, frozen=True):
    """One second: requests that were due in it by the schedule (`sent`), answers and errors that came in it,
    the latencies of these answers, and requests in flight at its end."""

    t: int
    sent: int
    answered: int
    errors: int
    p50: float
    p99: float
    max: float
    in_flight: int


class Heat(msgspec.Struct, frozen=True):
    """Answers that came in one second, by latency: bucket `n` counts those from `heat_edges[n]` on."""

    t: int
    counts: list[int]


class Phase(msgspec.Struct, frozen=True):
    """What the server said a phase of its answers took."""

    p50: float
    p99: float
    mean: float


class Cache(msgspec.Struct, frozen=True):
    """What the server said of its caches."""

    hits: int
    misses: int


class Process(msgspec.Struct, frozen=True):
    """A process of the server during the run; `rss_max` is in bytes."""

    name: str
    pid: int
    cpu_s: float
    rss_max: int


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """One run. `latency` begins when a request was due, `service` when it was sent; both are of answered
    requests. `goodput` is answers a second that came within `deadline` of their due time. `errors` are
    counted by kind, and never part of a latency."""

    format: int = FORMAT
    name: str
    started: str
    machine: Machine = Machine()
    versions: dict[str, str] = {}
    commit: str = ""
    dirty: bool = False
    settings: dict[str, Any] = {}
    schedule: Planned
    door: str
    url: str
    is_closed: bool = False
    is_interrupted: bool = False
    kept_schedule: Kept = Kept()
    duration: float
    requests: int
    answered: int
    errors: dict[str, int] = {}
    deadline: float | None = None
    goodput: float | None = None
    latency: Times = Times()
    service: Times = Times()
    timeline: list[Second] = []
    heat_edges: list[float] = []
    heat: list[Heat] = []
    phases: dict[str, Phase] = {}
    cache: Cache | None = None
    workers: dict[str, float] = {}
    processes: list[Process] = []
    cpu_per_1000: float | None = None

    @property
    def rate(self) -> float:
        """Answers a second."""
        return self.answered / self.duration if self.duration else 0.0


def write_result(result: Result, path: Path) -> None:
    """Write it, as JSON that one can read."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=1) + b"\n")


def read_result(path: Path) -> Result:
    """What is in the file; `ValueError` with a sentence where that is no result."""
    try:
        result = msgspec.json.decode(path.read_bytes(), type=Result)
        for times in (result.latency, result.service):
            base64.b64decode(times.hdr, validate=True)
    except ValueError as error:  # msgspec's and base64's are of it too
        raise ValueError(f"{path} is no result of a run: {error}") from None
    if result.format != FORMAT:
        raise ValueError(f"{path} is of format {result.format}, and this program reads format {FORMAT}")
    return result
