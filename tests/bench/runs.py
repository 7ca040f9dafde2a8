"""Results of runs that never were, with known distributions. Nothing here is a test."""

from __future__ import annotations

from typing import Any

import numpy as np
from hdrh.histogram import HdrHistogram

from bench.results import DIGITS, HIGHEST, Heat, Kept, Machine, Phase, Planned, Process, Result, Second, Times

EDGES = [10 ** (-4 + n / 64) for n in range(320)]  # 0.1 ms to 10 s


def times(seconds: np.ndarray[Any, Any]) -> Times:
    """Durations as the executor writes them."""
    histogram = HdrHistogram(1, HIGHEST, DIGITS)
    micros = np.maximum(1, np.rint(seconds * 1e6).astype(int))
    for value, count in zip(*np.unique(micros, return_counts=True), strict=True):
        histogram.record_value(int(value), int(count))
    p50, p90, p95, p99, p999, p9999 = np.quantile(seconds, [0.5, 0.9, 0.95, 0.99, 0.999, 0.9999])
    return Times(
        hdr=histogram.encode().decode(), count=len(seconds), mean=float(seconds.mean()),
        max=float(seconds.max()),
        p50=float(p50), p90=float(p90), p95=float(p95), p99=float(p99), p999=float(p999), p9999=float(p9999),
    )  # fmt: skip


def made_run(
    seed: int,
    *,
    name: str = "a",
    rate: float = 200.0,
    median: float = 0.01,
    spread: float = 0.5,
    duration: int = 30,
    stall: tuple[int, int] | None = None,
    **fields: Any,
) -> Result:
    """A run of Poisson arrivals whose latencies are log-normal, and a second in the seconds of the stall."""
    source = np.random.default_rng(seed)
    answered = source.poisson(rate, duration)
    taken = [source.lognormal(np.log(median), spread, count) for count in answered]
    for t in range(*stall or (0, 0)):
        taken[t] = taken[t] + 1.0
    everything = np.concatenate(taken)
    planned = Planned(int(answered.sum()), float(duration), rate, seed, "poisson")
    found: dict[str, Any] = {
        "name": name, "started": "2024-05-01T12:00:00+00:00", "schedule": planned, "door": "v1",
        "url": "http://127.0.0.1:54321", "machine": Machine("a processor", 2, 8 << 30, "Linux 6", "3.11.9"),
        "versions": {"numpy": "2.0"}, "commit": "0123456", "duration": float(duration),
        "requests": len(everything), "answered": len(everything), "deadline": 0.05,
        "goodput": float((everything < 0.05).sum() / duration),
        "latency": times(everything), "service": times(everything * 0.9),
        "timeline": [_second(t, each) for t, each in enumerate(taken)], "heat_edges": EDGES,
        "heat": [Heat(t, _counts(each)) for t, each in enumerate(taken)], "kept_schedule": Kept(),
        "phases": {"queue": Phase(0.001, 0.004, 0.0012), "infer": Phase(0.002, 0.003, 0.0021)},
        "workers": {"w-1": 0.5, "w-2": 0.5}, "processes": [Process("gateway", 17, 3.2, 50 << 20)],
        "cpu_per_1000": 0.12,
    }  # fmt: skip
    return Result(**found | fields)


def _second(t: int, taken: np.ndarray[Any, Any]) -> Second:
    p50, p99 = np.quantile(taken, [0.5, 0.99])
    return Second(t, len(taken), len(taken), 0, float(p50), float(p99), float(taken.max()), len(taken) // 10)


def _counts(taken: np.ndarray[Any, Any]) -> list[int]:
    bucket = np.searchsorted(EDGES, taken, side="right") - 1
    return [int(count) for count in np.bincount(np.clip(bucket, 0, None), minlength=len(EDGES))]
