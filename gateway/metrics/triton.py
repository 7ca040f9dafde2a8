"""The same figures by the names that Triton gives them, for dashboards and autoscaling rules that know these.

Durations are sums in microseconds, and what failed is told by Triton's own four reasons.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

from gateway.metrics.reasons import reason_of
from gateway.metrics.recorder import OK, Recorder
from gateway.metrics.text import Sample, counter, gauge, labels
from gateway.models.catalog import Catalog
from gateway.observing.statistics import Figures, Statistics
from gateway.scheduling.requests import ModelKey
from gateway.scheduling.scheduler import Scheduler

_REASONS = {
    "queue_full": "REJECTED",
    "deadline": "REJECTED",
    "client_gone": "CANCELED",
    "model_error": "BACKEND",
    "worker_lost": "BACKEND",
}
_COUNTS: dict[str, tuple[str, Callable[[Figures], float]]] = {
    "nv_inference_request_success": ("Requests that were answered.", lambda f: f.success.count),
    "nv_inference_count": ("Rows that models ran.", lambda f: f.rows),
    "nv_inference_exec_count": ("Calls of models.", lambda f: f.executions),
    "nv_cache_num_hits_per_model": ("Requests that a cache answered.", lambda f: f.cache_hit.count),
    "nv_cache_num_misses_per_model": ("Requests that no cache answered.", lambda f: f.cache_miss.count),
}
_DURATIONS: dict[str, Callable[[Figures], float]] = {
    "nv_inference_request_duration_us": lambda f: f.success.seconds,
    "nv_inference_queue_duration_us": lambda f: f.queue.seconds,
    "nv_inference_compute_input_duration_us": lambda f: f.computed.input.seconds,
    "nv_inference_compute_infer_duration_us": lambda f: f.computed.infer.seconds,
    "nv_inference_compute_output_duration_us": lambda f: f.computed.output.seconds,
    "nv_cache_hit_duration_per_model": lambda f: f.cache_hit.seconds,
    "nv_cache_miss_duration_per_model": lambda f: f.cache_miss.seconds,
}


def aliases(
    recorder: Recorder, statistics: Statistics, catalog: Catalog, scheduler: Scheduler
) -> Iterator[str]:
    """Families for every version that serves or was ever asked."""
    asked = [key for key in recorder.work if key.version]
    keys = list(dict.fromkeys([*(version.key for version in catalog.all()), *asked]))
    figures = [(_labels(key), statistics.of(key)) for key in keys]
    for name, (text, value) in _COUNTS.items():
        yield counter(name, text, [(each, value(found)) for each, found in figures])
    for name, value in _DURATIONS.items():
        spent = [(each, round(value(found) * 1e6)) for each, found in figures]
        yield counter(name, "Microseconds, of all requests together.", spent)
    yield counter("nv_inference_request_failure", "Requests that failed.", _failures(recorder, keys))
    waiting = scheduler.waiting_by_version()
    yield gauge(
        "nv_inference_pending_request_count",
        "Requests that wait.",
        [(_labels(key), waiting[key]) for key in keys],
    )


def _failures(recorder: Recorder, keys: list[ModelKey]) -> list[Sample]:
    reasons = (*dict.fromkeys(_REASONS.values()), "OTHER")
    failed = Counter({(key, reason): 0 for key in keys for reason in reasons})
    for series in recorder.series.values():
        for code, count in series.codes.items():
            if code != OK:
                failed[series.key, _REASONS.get(reason_of(code), "OTHER")] += count
    return [(f'{_labels(key)},reason="{reason}"', count) for (key, reason), count in failed.items()]


def _labels(key: ModelKey) -> str:
    return labels(model=key.model, version=key.version)
