"""One part of a batch on its way to its answer: who is late, what is known, who gets which rows or error.

Decides and keeps count; what it is told comes from the cache and the model, the time from its caller's
clock at `received`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from typing import NamedTuple

from common.errors import DeadlineExceeded
from common.tensor import row_end
from common.wire import Call, Part, PartAnswer, RequestError
from engine.batching import Layout, Outcome
from engine.cache import Claim, Key, Value


class Ran(NamedTuple):
    """What became of a part: its answer, the buffers that go with it, seconds spent in the model."""

    answer: PartAnswer
    buffers: list[bytes]
    infer: float


class Answering:
    """Invariant: every key that a request in time needs gets a value or an error before `answer`."""

    def __init__(self, part: Part, keys: list[Key], known: list[Value | None], received: float) -> None:
        self._part = part
        self._keys = keys
        self._known = known  # by row: what the cache had
        self._received = received
        self._computed: dict[Key, Value] = {}  # by us, for this part's sake
        self._collected: dict[Key, Value] = {}  # from those who computed them meanwhile
        self._errors: dict[Key, RequestError] = {}
        self._late: set[int] = set()
        self._layout: Layout | None = None
        self._infer = 0.0
        self._calls: list[Call] = []
        self.note_time()

    def note_time(self) -> None:
        """Requests whose deadline has passed by now are late from now on."""
        timeouts = self._part.timeouts
        spent = time.monotonic() - self._received
        if timeouts and min(timeouts) <= spent:
            self._late = {index for index, timeout in enumerate(timeouts) if timeout <= spent}

    def wanted(self, rows: dict[Key, int]) -> dict[Key, int]:
        """Those of the rows that some request still in time needs."""
        if not self._late:
            return rows
        needed: set[Key] = set()
        at = 0
        for index, count in enumerate(self._part.counts):
            if index not in self._late:
                needed.update(self._keys[at : at + count])
            at += count
        return {key: row for key, row in rows.items() if key in needed}

    def collect(self, waiting: dict[Key, Claim]) -> dict[Key, int]:
        """Take what other batches compute; the rows they left undone, as far as these are still wanted."""
        latest = self._received + max(self._part.timeouts, default=0.0)
        for key, other in waiting.items():
            left = min(max(0.0, latest - time.monotonic()), threading.TIMEOUT_MAX)
            value = other.wait(left).get(key)
            if value is not None:
                self._collected[key] = value
        undone = {row: key for row, key in enumerate(self._keys) if key in waiting}
        self.note_time()
        return self.wanted({key: row for row, key in undone.items() if key not in self._collected})

    def learn(self, keys: Iterable[Key], values: Iterable[Value | None]) -> None:
        """Take what the cache has by now of keys that others were computing."""
        self._collected.update((k, v) for k, v in zip(keys, values, strict=True) if v is not None)

    def take(self, outcome: Outcome) -> None:
        """Take what the model said."""
        self._computed = {**self._computed, **outcome.values} if self._computed else outcome.values
        self._errors.update(outcome.errors)
        self._layout = outcome.layout
        self._infer += outcome.infer
        self._calls += outcome.calls

    def answer(self, layout: Layout | None, lookup: float = 0.0) -> Ran:
        """The part's answer; `layout` says what one row of each output is, where that was known before, and
        `lookup` the seconds that the cache took."""
        layout = self._layout or layout or ()
        counts = self._part.counts
        failed: list[RequestError] = []
        rows: Iterable[Value | None]
        if self._late or self._errors or self._collected or 0 in counts:
            hits, rows = self._request_by_request(failed)
        elif not self._computed:
            hits, rows = b"\1" * len(counts), self._known
        elif len(self._computed) == len(self._keys):  # nothing was known and all rows are different
            hits, rows = bytes(len(counts)), map(self._computed.get, self._keys)
        else:
            hits, rows = self._request_by_request(failed)
        part = PartAnswer(layout, failed, hits, self._calls, lookup)
        return Ran(part, _columns(rows, layout), self._infer)

    def _request_by_request(self, failed: list[RequestError]) -> tuple[bytes, list[Value | None]]:
        """(hits, rows of the requests that did not fail); adds to `failed`."""
        hits = bytearray(len(self._part.counts))
        rows: list[Value | None] = []
        unpaid = set(self._computed)  # an equal row further on was not computed for its own sake
        values = {**self._collected, **self._computed}
        at = 0
        for index, count in enumerate(self._part.counts):
            keys, known = self._keys[at : at + count], self._known[at : at + count]
            at += count
            if index in self._late:
                failed.append(RequestError(index, DeadlineExceeded.code, "Deadline exceeded"))
                continue
            own = [values.get(k) if v is None else v for k, v in zip(keys, known, strict=True)]
            if None in own:
                error = self._errors[keys[own.index(None)]]
                failed.append(RequestError(index, error.code, error.message, error.trace))
                continue
            hits[index] = unpaid.isdisjoint(keys)
            unpaid.difference_update(keys)
            rows += own
        return bytes(hits), rows


def refuse_all(part: Part, error: RequestError) -> Ran:
    """Every request of the part fails alike."""
    failed = [RequestError(i, error.code, error.message, error.trace) for i in range(len(part.counts))]
    return Ran(PartAnswer((), failed, bytes(len(part.counts))), [], 0.0)


def answer_known(
    part: Part, values: list[Value | None], layout: Layout, missing: RequestError, lookup: float
) -> Ran:
    """Requests whose rows all have values are answered; the others are `missing`."""
    failed: list[RequestError] = []
    hits = bytearray(len(part.counts))
    at = 0
    for index, count in enumerate(part.counts):
        hits[index] = None not in values[at : at + count]
        if not hits[index]:
            failed.append(RequestError(index, missing.code, missing.message))
        at += count
    known = [value for value in values if value is not None]
    return Ran(PartAnswer(layout, failed, bytes(hits), [], lookup), _columns(known, layout), 0.0)


def _columns(rows: Iterable[Value | None], layout: Layout) -> list[bytes]:
    """One buffer per output, of rows that hold all outputs one after the other (and none is None)."""
    whole = b"".join(rows)  # type: ignore[arg-type]
    if len(layout) <= 1:
        return [whole] * len(layout)
    if not all(spec.is_sized for spec in layout):
        return _columns_of_any_size(whole, layout)
    columns: list[bytes] = []
    width, at = sum(spec.row_bytes for spec in layout), 0
    for spec in layout:
        end = at + spec.row_bytes
        columns.append(b"".join([whole[row + at : row + end] for row in range(0, len(whole), width)]))
        at = end
    return columns


def _columns_of_any_size(whole: bytes, layout: Layout) -> list[bytes]:
    columns = [bytearray() for _ in layout]
    at = 0
    while at < len(whole):
        for spec, column in zip(layout, columns, strict=True):
            end = row_end(spec, whole, at)
            column += whole[at:end]
            at = end
    return [bytes(column) for column in columns]
