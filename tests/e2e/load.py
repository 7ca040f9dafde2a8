"""Clients in a closed loop: each sends its next row as soon as it has the answer to the last one."""

from __future__ import annotations

import http.client
import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from tests.e2e.processes import Gateway, wait_for
from tests.e2e.rest import Answer
from tests.e2e.weights import is_right

Rows = Callable[[random.Random], tuple[float, float]]


class Outcome(NamedTuple):
    """One request of a load: its row, its answer (or what went wrong instead), and when."""

    row: tuple[float, float]
    answer: Answer | None
    error: str
    began: float
    ended: float

    def is_right(self, nn_id: str | None = None) -> bool:
        """Whether it was answered rightly by the version that the answer names (or by `nn_id`)."""
        if self.answer is None or self.answer.status != 200:
            return False
        said = json.loads(self.answer.body)
        named = self.answer.version.partition(".")[0]  # after the dot: which bytes of that name
        return (
            said["status"] is True
            and said["message"] == named
            and nn_id in (None, named)
            and is_right(said["result"], named, *self.row)
        )

    def __str__(self) -> str:
        said = self.error if self.answer is None else f"{self.answer.status} {self.answer.body!r}"
        return f"{self.row} → {said} after {self.ended - self.began:.3f} s"


def any_row(chance: random.Random) -> tuple[float, float]:
    """Two numbers in [0, 1]."""
    return chance.random(), chance.random()


class Load:
    """What became of every request so far."""

    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []
        self._stop = threading.Event()

    def stop(self) -> None:
        """No request begins after this."""
        self._stop.set()

    @property
    def wrong(self) -> list[str]:
        """Every request that failed or was answered wrongly."""
        return [str(outcome) for outcome in list(self.outcomes) if not outcome.is_right()]

    @property
    def slowest(self) -> float:
        """The longest that any request took."""
        return max(outcome.ended - outcome.began for outcome in list(self.outcomes))

    def run_client(self, gateway: Gateway, rows: Rows, headers: dict[str, str], seed: int) -> None:
        """One client, until stopped or until its connection fails."""
        chance = random.Random(seed)
        with gateway.client() as client:
            while not self._stop.is_set():
                row = rows(chance)
                began = time.monotonic()
                try:
                    answer, error = client.predict(*row, **headers), ""
                except (OSError, http.client.HTTPException) as failure:
                    answer, error = None, repr(failure)
                self.outcomes.append(Outcome(row, answer, error, began, time.monotonic()))
                if answer is None:
                    return


@contextmanager
def run_load(gateway: Gateway, *, clients: int = 16, rows: Rows = any_row, **headers: str) -> Iterator[Load]:
    """A load that runs while the block does."""
    load = Load()
    threads = [
        threading.Thread(target=load.run_client, args=(gateway, rows, headers, seed), daemon=True)
        for seed in range(clients)
    ]
    for thread in threads:
        thread.start()
    try:
        yield load
    finally:
        load.stop()
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive(), "a request had no answer within a minute"


def wait_answered(load: Load, more: int) -> None:
    """Until so many more requests have been answered."""
    goal = len(load.outcomes) + more
    wait_for(lambda: len(load.outcomes) >= goal, f"{more} more answers")
