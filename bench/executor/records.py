"""What became of every request, as columns: the loop appends, and everything else is read from them later.

Times are seconds after the start; those before it are of the warm-up, and never kept.
"""

from __future__ import annotations

from array import array
from collections import Counter

from bench.executor.codecs.codec import Answer
from bench.executor.connection import Request

PHASES = ("queue", "batch", "link", "infer")
ANSWERED = 0  # the outcome; others are numbers of error kinds


class Records:
    """Invariant: `due`, `taken`, `sent`, `done` and `outcome` have one entry for each request that ended.

    A request is due by the schedule, taken up by the loop (late, where that was busy), sent (later still,
    where no connection was free), and done. In a closed loop it is due when it is taken up.
    """

    def __init__(self) -> None:
        self.due, self.taken, self.sent, self.done = (array("d") for _ in range(4))
        self.outcome = array("H")
        self.kinds: list[str] = [""]
        self.workers: Counter[bytes] = Counter()
        self.cache: Counter[bytes] = Counter()
        self.phases: dict[str, array[float]] = {name: array("f") for name in PHASES}
        self.waited = 0
        """Requests for which there was no connection, nor leave to open one."""
        self.missed = 0
        """Requests that were never sent."""

    def __len__(self) -> int:
        return len(self.due)

    def add(self, request: Request, sent: float, done: float, answer: Answer) -> None:
        """A request ended."""
        if request.due < 0:
            return
        self.due.append(request.due)
        self.taken.append(request.taken)
        self.sent.append(sent)
        self.done.append(done)
        if answer.error:
            if answer.error not in self.kinds:
                self.kinds.append(answer.error)
            self.outcome.append(self.kinds.index(answer.error))
            return
        self.outcome.append(ANSWERED)
        if answer.worker:
            self.workers[answer.worker] += 1
        if answer.cache:
            self.cache[answer.cache] += 1
        if answer.timing:
            self._time(answer.timing)

    def _time(self, header: bytes) -> None:
        """Server-Timing, as in `queue;dur=0.012, infer;dur=0.3`: milliseconds."""
        for entry in header.decode(errors="replace").split(","):
            name, _, took = entry.partition(";dur=")
            phase = self.phases.get(name.strip())
            if phase is not None:
                try:
                    phase.append(float(took) / 1e3)
                except ValueError:
                    continue

    def extend(self, other: Records) -> None:
        """Another process's, behind these."""
        places = array("H", [0])
        for kind in other.kinds[1:]:
            if kind not in self.kinds:
                self.kinds.append(kind)
            places.append(self.kinds.index(kind))
        self.outcome.extend(array("H", (places[each] for each in other.outcome)))
        for name in ("due", "taken", "sent", "done"):
            getattr(self, name).extend(getattr(other, name))
        for phase, values in other.phases.items():
            self.phases[phase].extend(values)
        self.workers.update(other.workers)
        self.cache.update(other.cache)
        self.waited += other.waited
        self.missed += other.missed
