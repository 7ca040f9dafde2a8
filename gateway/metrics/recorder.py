"""What became of requests, as plain numbers: written where a request ends, read when somebody looks. Pure.

Nothing here goes back. Every name in it is bounded: doors and error words by the code, models, versions and
arms by what serves; what a client merely names is counted under no model.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable

from common.errors import PipelineError
from common.wire import PartAnswer
from gateway.scheduling.requests import Answer, ModelKey, Provenance, Request

# Upper bounds in seconds, about twice the one before each: quantiles that are read from them are not far off.
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
ROWS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0)
OK = "ok"
DOORS = ("rest", "v2", "grpc", "ws")  # through which clients ask for predictions
RETIRED = 20  # versions that serve no more, and still have figures of their own
SHADOW = "shadow"  # the door of what a shadow is sent; its answers go to nobody


class Histogram:
    """`counts[i]` values were at most `bounds[i]` and above the bound before; the last had no bound."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...] = SECONDS) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def add(self, value: float, count: int = 1) -> None:
        """Count a value, or `count` times the same."""
        self.counts[bisect_left(self.bounds, value)] += count
        self.sum += value * count

    def merge(self, other: Histogram) -> None:
        """Count everything that another one of the same bounds counted."""
        self.counts = [sum(pair) for pair in zip(self.counts, other.counts, strict=True)]
        self.sum += other.sum

    @property
    def is_used(self) -> bool:
        """Whether anything was counted."""
        return any(self.counts)


class Series:
    """Requests for one version that came through one door, under one arm ("" outside experiments).

    `codes` counts each of them once, by "ok" or its error's wire word; `duration` is from admission to the
    answer, whichever it was, of those that were admitted. Version "" has what was refused before it had one,
    and what versions did that went long ago.
    """

    __slots__ = ("arm", "codes", "door", "duration", "key")

    def __init__(self, door: str, key: ModelKey, arm: str) -> None:
        self.door = door
        self.key = key
        self.arm = arm
        self.codes = {OK: 0}
        self.duration = Histogram()

    def answered(self, seconds: float) -> None:
        """A request got what it asked for, so long after it was admitted."""
        self.codes[OK] += 1
        duration = self.duration  # its `add`, without a call: each request passes here
        duration.counts[bisect_left(duration.bounds, seconds)] += 1
        duration.sum += seconds

    def failed(self, code: str, seconds: float) -> None:
        """A request that was admitted got an error."""
        self.refused(code)
        self.duration.add(seconds)

    def refused(self, code: str) -> None:
        """A request was not admitted, or whoever asked has gone."""
        self.codes[code] = self.codes.get(code, 0) + 1

    def merge(self, other: Series) -> None:
        """Count everything that another one counted."""
        for code, count in other.codes.items():
            self.codes[code] = self.codes.get(code, 0) + count
        self.duration.merge(other.duration)


class Work:
    """What workers did for one version. Phases count requests, each with the whole of its batch."""

    __slots__ = ("batch", "batch_rows", "infer", "link", "queue")

    def __init__(self) -> None:
        self.queue = Histogram()  # from admission until it was sent
        self.batch = Histogram()  # at the worker, before the model
        self.link = Histogram()  # there and back, with the packing
        self.infer = Histogram()
        self.batch_rows = Histogram(ROWS)  # of each call of the model

    def merge(self, other: Work) -> None:
        """Count everything that another one counted."""
        for name in self.__slots__:
            getattr(self, name).merge(getattr(other, name))


class Recorder:
    """`is_model` says whether a model of that name serves; `on_refused(key, error)` is told of what was
    refused before it had a version."""

    def __init__(self) -> None:
        self.is_model: Callable[[str], bool] = lambda name: False
        self.on_refused: Callable[[ModelKey, PipelineError], None] = lambda key, error: None
        self.series: dict[tuple[str, ModelKey, str], Series] = {}
        self.work: dict[ModelKey, Work] = {}

    def of(self, door: str, key: ModelKey, arm: str = "") -> Series:
        """Where requests are counted that come so; what a request keeps, so that its end costs no look-up."""
        series = self.series.get((door, key, arm))
        if series is None:
            series = self.series[door, key, arm] = Series(door, key, arm)
        return series

    def refused(self, door: str, model: str, error: PipelineError) -> None:
        """A request was answered with an error before, or instead of, its admission."""
        name = model if self.is_model(model) else ""
        key = ModelKey(name, "")
        self.of(door, key).refused(error.code)
        self.on_refused(key, error)

    def codes(self) -> Counter[str]:
        """What all requests of clients were answered, those of jobs among them."""
        codes: Counter[str] = Counter()
        for series in self.series.values():
            if series.door != SHADOW:
                codes.update(series.codes)
        return codes

    def work_of(self, key: ModelKey) -> Work:
        """What was done for a version."""
        work = self.work.get(key)
        if work is None:
            work = self.work[key] = Work()
        return work

    def flew(
        self,
        key: ModelKey,
        replies: Iterable[tuple[Request, Answer | PipelineError]],
        parts: Iterable[PartAnswer],
        by: Provenance,
    ) -> int:
        """A batch came back with these answers; how many of them the cache had."""
        work = self.work_of(key)
        count = hits = 0
        queue = work.queue
        bounds, counts = queue.bounds, queue.counts
        for _, answer in replies:
            if isinstance(answer, Answer):
                count += 1
                hits += answer.hit
                waited = answer.queue
                counts[bisect_left(bounds, waited)] += 1
                queue.sum += waited
        if count:
            work.batch.add(by.batch, count)
            work.link.add(by.link, count)
            work.infer.add(by.infer, count)
        for part in parts:
            for call in part.calls:
                work.batch_rows.add(call.rows)
        return hits

    def fold(self, serves: Callable[[ModelKey], bool]) -> list[ModelKey]:
        """Bound what there is: of the versions that serve no more all but the newest are counted together,
        under version "". A model's sums stay what they were. Those whose figures went there now."""
        keys = dict.fromkeys([*(series.key for series in self.series.values()), *self.work])
        retired = [key for key in keys if key.version and not serves(key)]
        folded = retired[:-RETIRED]
        for key in folded:
            together = ModelKey(key.model, "")
            for name in [name for name in self.series if name[1] == key]:
                series = self.series.pop(name)
                self.of(series.door, together).merge(series)
            if key in self.work:
                self.work_of(together).merge(self.work.pop(key))
        return folded
