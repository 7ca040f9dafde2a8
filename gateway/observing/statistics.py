"""What each model version did since the gateway started, counted where its answers come in. Pure.

The meaning of each count is that of Triton's statistics extension: cache hits are among successes and what
was queued, and not among what was computed; `rows` and `executions` are those that the model really ran.
Workers come and go, and nothing here goes back.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from common.errors import PipelineError
from common.wire import PartAnswer
from gateway.scheduling.requests import Answer, ModelKey, Request


class Duration:
    """How often something happened, and the seconds it took in all."""

    __slots__ = ("count", "seconds")

    def __init__(self) -> None:
        self.count = 0
        self.seconds = 0.0

    def add(self, count: int, seconds: float) -> None:
        """So many more, which took so long together."""
        self.count += count
        self.seconds += seconds


class Computing:
    """The three steps of computing something."""

    __slots__ = ("infer", "input", "output")

    def __init__(self) -> None:
        self.input = Duration()
        self.infer = Duration()
        self.output = Duration()

    def add(self, count: int, seconds: Sequence[float]) -> None:
        """So many more, each of which took so long in these steps."""
        for duration, each in zip((self.input, self.infer, self.output), seconds, strict=True):
            duration.add(count, count * each)


class Figures:
    """What one version did. All but `rows`, `executions` and `batches` count requests."""

    __slots__ = (
        "batches", "cache_hit", "cache_miss", "computed", "executions", "fail", "last", "queue", "rows",
        "success",
    )  # fmt: skip

    def __init__(self) -> None:
        self.rows = 0
        self.executions = 0
        self.last = 0.0  # when a batch came back last, in unix seconds
        self.success = Duration()  # from admission to the answer
        self.fail = Duration()
        self.queue = Duration()  # from admission to the worker
        self.computed = Computing()  # each request with the whole of its batch
        self.cache_hit = Duration()
        self.cache_miss = Duration()
        self.batches: dict[int, Computing] = {}  # by rows: every call of the model


class Statistics:
    """The figures of every version that was ever asked, until it is forgotten."""

    def __init__(self) -> None:
        self._figures: dict[ModelKey, Figures] = {}

    def of(self, key: ModelKey) -> Figures:
        """Those of one version; all 0 where nobody asked it yet."""
        figures = self._figures.get(key)
        if figures is None:
            figures = self._figures[key] = Figures()
        return figures

    def versions(self) -> set[ModelKey]:
        """Those that have figures."""
        return set(self._figures)

    def forget(self, key: ModelKey) -> None:
        """Nobody looks at a version any more."""
        self._figures.pop(key, None)

    def failed(self, key: ModelKey, seconds: float) -> None:
        """A request was answered with an error, so long after it came."""
        self.of(key).fail.add(1, seconds)

    def answered(
        self,
        key: ModelKey,
        replies: Iterable[tuple[Request, Answer | PipelineError]],
        parts: Iterable[PartAnswer],
        now: float,
        unix_time: float,
    ) -> None:
        """A batch came back: these of its requests are answered now (an error is counted by `failed`)."""
        figures = self.of(key)
        figures.last = unix_time
        admitted = queued = 0.0
        count = hits = 0
        for request, answer in replies:
            if isinstance(answer, Answer):
                count += 1
                hits += answer.hit
                admitted += request.admitted
                queued += answer.queue
        steps = [0.0, 0.0, 0.0]
        lookup = 0.0
        for part in parts:
            lookup += part.lookup
            for call in part.calls:
                each = (call.input, call.infer, call.output)
                steps = [sum(pair) for pair in zip(steps, each, strict=True)]
                figures.rows += call.rows
                figures.executions += 1
                figures.batches.setdefault(call.rows, Computing()).add(1, each)
        if not count:
            return
        figures.success.add(count, count * now - admitted)
        figures.queue.add(count, queued)
        figures.cache_hit.add(hits, lookup * hits / count)
        figures.cache_miss.add(count - hits, lookup * (count - hits) / count)
        if count > hits:
            figures.computed.add(count - hits, steps)
