"""What every measurement is given: where to work, how long to take, and how to say what it is doing."""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bench.client import Client
from bench.figures import Figure
from bench.programs import ROOT, Server

SAMPLE = "000127a35b5f462b8ec68fb4d905ac36"


@dataclass(frozen=True)
class Run:
    """One run of the benchmark. `details` is for the JSON file: whatever a figure was made of."""

    directory: Path
    is_quick: bool
    details: dict[str, object] = field(default_factory=dict)
    _seeds: Iterator[int] = field(default_factory=lambda: itertools.count(time.time_ns() % 1_000_000))

    @property
    def seconds(self) -> float:
        """How long one load lasts."""
        return 2.0 if self.is_quick else 8.0

    @property
    def repeats(self) -> int:
        """How many runs a median is taken of."""
        return 1 if self.is_quick else 3

    def seed(self) -> int:
        """Another number each time."""
        return next(self._seeds)

    def say(self, what: str) -> None:
        """Progress, as a line on stderr."""
        print(f"  {what}", file=sys.stderr, flush=True)


Measurement = Callable[[Run], list[Figure]]


def upload_sample(server: Server) -> None:
    """Make the sample weights the ones that serve."""
    (file,) = (ROOT / "data").glob(f"{SAMPLE}_*.b64")
    with Client(server.port) as client:
        answer = client.set_weights(SAMPLE, file.read_bytes()).answer
    if not answer["status"]:
        raise RuntimeError(f"the sample weights were refused: {answer}")
