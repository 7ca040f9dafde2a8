"""How much of the fleet jobs take: all of it while nobody else asks, and little while somebody does. Pure.

A job's rows travel in slices. A request that meets one at its worker waits until it is done, so what a
request may lose is bounded by what a slice takes, and how many requests lose anything by how often there is
one. While others ask, a slice takes `SHORT` seconds of the model's time, and jobs have `SHARE` of each
worker's.
"""

from __future__ import annotations

SHORT = 0.001
LONG = 0.02
SHARE = 0.05
QUIET = 1.0  # seconds without a request after which nobody is asking
MAX_ROWS = 1024
STEP, LONG_STEP = 16, 2048  # rows read or written in one go: it keeps the interpreter from who answers others
CHUNK_TIME = 1.0  # a crash costs about as much work as is computed in this time


class Pace:
    """Invariant: `rows` is what fits the time that a slice may take, as far as is known."""

    def __init__(self) -> None:
        self._row_time = LONG / 16  # seconds that a row takes: cautious before anything is known
        self._seen = -QUIET
        self._asked: int | None = None

    def look(self, asked: int, now: float) -> None:
        """`asked` counts the requests of others so far."""
        if self._asked is not None and asked != self._asked:
            self._seen = now
        self._asked = asked

    def is_quiet(self, now: float) -> bool:
        """Whether nobody else is asking."""
        return now - self._seen >= QUIET

    def rows(self, now: float) -> int:
        """How many rows the next slice has."""
        wanted = LONG if self.is_quiet(now) else SHORT
        return max(1, min(MAX_ROWS, int(wanted / self._row_time)))

    def step(self, now: float) -> int:
        """How many rows may be read or written in one go."""
        return LONG_STEP if self.is_quiet(now) else STEP

    def learn(self, rows: int, infer: float) -> None:
        """A slice of so many rows took the model so long."""
        took = max(infer, 1e-5) / rows
        # Fast upwards, slowly downwards: a slice that is too long costs a client, one too short costs a job.
        self._row_time = took if took > self._row_time else max(took, self._row_time / 2)

    def pause(self, took: float, now: float) -> float:
        """How long others are left alone after what took so long."""
        return 0.0 if self.is_quiet(now) else took * (1 / SHARE - 1)


def chunk_rows(rows: int, seconds: float, *, most: int) -> int:
    """How many rows the next chunk has, after one of `rows` that took `seconds`."""
    wanted = rows * CHUNK_TIME / max(seconds, 1e-3)
    return max(1, min(most, rows * 4, max(int(wanted), rows // 4)))
