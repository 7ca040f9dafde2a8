"""Figures of a run, read from its records. Pure; times are in seconds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from hdrh.histogram import HdrHistogram

from bench.executor.records import ANSWERED, Records
from bench.results import DIGITS, HIGHEST, Cache, Heat, Kept, Phase, Process, Second, Times

LATE = 0.005  # a hundredth of the requests may leave later than this, else the schedule was not kept
WAITED = 0.01  # and so many may wait for a connection
_BUCKETS_PER_TENFOLD = 64  # 3.7 % wide: what a comparison of two lone runs can tell apart
_QUANTILES = (0.5, 0.9, 0.95, 0.99, 0.999, 0.9999)

Column = np.ndarray[Any, np.dtype[np.float64]]


class Columns(NamedTuple):
    """The records as arrays; `kind` is 0 where a request was answered."""

    due: Column
    taken: Column
    sent: Column
    done: Column
    kind: np.ndarray[Any, np.dtype[np.uint16]]

    @property
    def latency(self) -> Column:
        """From when each answered request was due."""
        good = self.kind == ANSWERED
        waits: Column = self.done[good] - self.due[good]
        return waits

    @property
    def service(self) -> Column:
        """From when each answered request was sent."""
        good = self.kind == ANSWERED
        waits: Column = self.done[good] - self.sent[good]
        return waits


def columns(records: Records) -> Columns:
    """The records as arrays."""
    due, taken, sent, done = (
        np.array(each, np.float64) for each in (records.due, records.taken, records.sent, records.done)
    )
    return Columns(due, taken, sent, done, np.array(records.outcome, np.uint16))


def times(durations: Column) -> Times:
    """What answered requests took; the figures are exact, the histogram within its digits."""
    if not len(durations):
        return Times()
    histogram = HdrHistogram(1, HIGHEST, DIGITS)
    micros = np.clip(np.rint(durations * 1e6), 1, HIGHEST).astype(np.int64)
    for value, count in zip(*np.unique(micros, return_counts=True), strict=True):
        histogram.record_value(int(value), int(count))
    at = np.quantile(durations, _QUANTILES, method="inverted_cdf")
    figures = [float(each) for each in (*at, durations.max())]
    return Times(histogram.encode().decode(), len(durations), float(durations.mean()), *figures)


def kept(records: Records, connections: int) -> Kept:
    """How the executor kept the schedule, with a sentence where it did not."""
    found = columns(records)
    if not len(found.due):
        return Kept(missed=records.missed, is_kept=not records.missed)
    late = found.taken - found.due
    p50, p99 = np.quantile(late, (0.5, 0.99), method="inverted_cdf")
    complaints = []
    if p99 > LATE:
        complaints.append(
            f"one request of a hundred left more than {p99 * 1e3:.1f} ms late (the latest one"
            f" {late.max() * 1e3:.1f} ms), as this side was busy: give it more --processes, or a lower rate"
        )
    if records.waited > WAITED * len(late):
        complaints.append(
            f"{records.waited:,} requests waited, as all {connections} connections were taken: give more"
            " --connections, or a lower rate"
        )
    if records.missed:
        complaints.append(f"{records.missed:,} requests were never sent")
    sentence = "the schedule was not kept: " + "; ".join(complaints) if complaints else ""
    return Kept(
        float(p50), float(p99), float(late.max()), records.waited, records.missed, not complaints, sentence
    )


def timeline(found: Columns) -> list[Second]:
    """Second by second."""
    if not len(found.due):
        return []
    good = found.kind == ANSWERED
    came, latency = np.floor(found.done[good]).astype(int), found.latency
    seconds = int(found.done.max()) + 1
    due, done = (
        np.bincount(np.floor(each).astype(int), minlength=seconds) for each in (found.due, found.done)
    )
    errors = np.bincount(np.floor(found.done[~good]).astype(int), minlength=seconds)
    begun = np.bincount(np.floor(found.sent).astype(int), minlength=seconds)
    in_flight = np.cumsum(begun[:seconds]) - np.cumsum(done[:seconds])
    lines = []
    for t in range(seconds):
        here = latency[came == t]
        p50, p99 = np.quantile(here, (0.5, 0.99), method="inverted_cdf") if len(here) else (0.0, 0.0)
        longest = float(here.max()) if len(here) else 0.0
        counts = int(due[t]), len(here), int(errors[t])
        lines.append(Second(t, *counts, float(p50), float(p99), longest, int(in_flight[t])))
    return lines


def heat(found: Columns) -> tuple[list[float], list[Heat]]:
    """Where each bucket begins, and how many answers of each second are in each."""
    latency = found.latency
    if not len(latency):
        return [], []
    came = np.floor(found.done[found.kind == ANSWERED]).astype(int)
    places = np.floor(np.log10(np.maximum(latency, 1e-6)) * _BUCKETS_PER_TENFOLD).astype(int)
    low, high = int(places.min()), int(places.max())
    edges = [10 ** (each / _BUCKETS_PER_TENFOLD) for each in range(low, high + 1)]
    rows = [np.bincount(places[came == t] - low, minlength=len(edges)) for t in range(int(came.max()) + 1)]
    return edges, [Heat(t, [int(each) for each in row]) for t, row in enumerate(rows)]


def goodput(found: Columns, deadline: float, duration: float) -> float:
    """Answers a second within the deadline."""
    return int((found.latency <= deadline).sum()) / duration


def cpu_per_1000(processes: list[Process], answered: int) -> float | None:
    """Seconds of all of them; None where nobody looked, or nothing was answered."""
    return 1000 * sum(each.cpu_s for each in processes) / answered if processes and answered else None


def errors(records: Records) -> dict[str, int]:
    """How many of each kind, the most frequent first; what was never sent is one of them."""
    counts = np.bincount(columns(records).kind, minlength=len(records.kinds))
    found = {kind: int(count) for kind, count in zip(records.kinds, counts, strict=True) if kind and count}
    if records.missed:
        found["never sent"] = records.missed
    return dict(sorted(found.items(), key=lambda each: -each[1]))


def phases(records: Records) -> dict[str, Phase]:
    """What the server said that its answers took."""
    found = {}
    for name, values in records.phases.items():
        if values:
            seconds = np.frombuffer(values, np.float32).astype(np.float64)
            p50, p99 = np.quantile(seconds, (0.5, 0.99), method="inverted_cdf")
            found[name] = Phase(float(p50), float(p99), float(seconds.mean()))
    return found


def cache(records: Records) -> Cache | None:
    """What the server said of its caches; None where it said nothing."""
    said: Mapping[bytes, int] = records.cache
    return Cache(said.get(b"hit", 0), said.get(b"miss", 0)) if said else None


def workers(records: Records) -> dict[str, float]:
    """Each worker's share of the answers whose worker is known."""
    whole = sum(records.workers.values())
    return {name.decode(errors="replace"): n / whole for name, n in records.workers.most_common()}
