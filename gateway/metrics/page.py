"""What `/metrics` says: counts that were made as requests ended, and the live tables as they are now.

Names follow Prometheus' conventions: base units, `_total` for what only grows, no ids in labels. What
depends on how many there are is summed by name: two series of one name would spoil the whole page.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import chain
from operator import attrgetter

from gateway.autoscaler.workforce import Workforce
from gateway.doors.json import JsonReader
from gateway.fleet.fleet import Fleet
from gateway.fleet.roster import State
from gateway.metrics.carried import Carried
from gateway.metrics.limits import Limited
from gateway.metrics.reasons import REASONS, reason_of
from gateway.metrics.recorder import DOORS, OK, SHADOW, Histogram, Recorder
from gateway.metrics.text import Sample, counter, gauge, histogram, labels
from gateway.metrics.triton import aliases
from gateway.models.catalog import Catalog
from gateway.observing.statistics import Statistics
from gateway.scheduling.requests import ModelKey
from gateway.scheduling.scheduler import Scheduler

PHASES = ("queue", "batch", "link", "infer")


class Page:
    """Reads.

    `workforce` is None where no autoscaler says how many workers there should be: 0 would mean that none are
    wanted.
    """

    def __init__(
        self,
        recorder: Recorder,
        statistics: Statistics,
        catalog: Catalog,
        scheduler: Scheduler,
        fleet: Fleet,
        carried: Carried,
        workforce: Workforce | None,
        *,
        with_triton: bool = False,
        limited: Limited | None = None,
    ) -> None:
        self._limited = Limited({}, JsonReader()) if limited is None else limited
        self._recorder = recorder
        self._statistics = statistics
        self._catalog = catalog
        self._scheduler = scheduler
        self._fleet = fleet
        self._carried = carried
        self._workforce = workforce
        self._with_triton = with_triton

    def text(self) -> str:
        """The page, process metrics apart."""
        for version in self._catalog.all():
            for door in DOORS:  # what nobody asked yet is there and 0, or its first request is no increase
                self._recorder.of(door, version.key)
            self._recorder.work_of(version.key)
        parts = [self._requests(), self._queues(), self._caches(), self._workers(), self._limited.lines()]
        if self._with_triton:
            parts.append(aliases(self._recorder, self._statistics, self._catalog, self._scheduler))
        return "".join(chain(*parts))

    # --- requests

    def _requests(self) -> Iterator[str]:
        every = [(_labels(s.key, arm=s.arm, door=s.door), s) for s in self._recorder.series.values()]
        yield counter(
            "pipeline_requests_total", "Requests that ended, by ok or their error's word.",
            [(f'{each},code="{code}"', n) for each, s in every for code, n in s.codes.items()
             if n or (code == OK and s.key.version)],
        )  # fmt: skip
        yield histogram(
            "pipeline_request_duration_seconds", "From admission to the answer, errors too.",
            [(each, s.duration) for each, s in every if s.duration.is_used],
        )  # fmt: skip
        yield self._dropped()
        work = [(_labels(key), done) for key, done in self._recorder.work.items()]
        phases: list[tuple[str, Histogram]] = [
            (f'{each},phase="{phase}"', attrgetter(phase)(done))
            for each, done in work if done.queue.is_used for phase in PHASES
        ]  # fmt: skip
        yield histogram(
            "pipeline_phase_duration_seconds",
            "Parts of a request's time: waiting here (queue) and there (batch), under way (link), in the"
            " model (infer).",
            phases,
        )
        yield histogram(
            "pipeline_batch_rows", "Rows of each call of a model.",
            [(each, done.batch_rows) for each, done in work if done.batch_rows.is_used],
        )  # fmt: skip
        rows = [(each, round(done.batch_rows.sum)) for each, done in work]
        yield counter("pipeline_rows_total", "Rows that models ran.", rows)
        calls = [(each, sum(done.batch_rows.counts)) for each, done in work]
        yield counter("pipeline_executions_total", "Calls of models.", calls)

    def _dropped(self) -> str:
        dropped = Counter({(model, reason): 0 for model in self._catalog.models() for reason in REASONS})
        poisoned = 0
        for series in self._recorder.series.values():
            if series.door == SHADOW:
                continue  # nobody waits for its answers
            for code, count in series.codes.items():
                if code != OK:
                    dropped[series.key.model, reason_of(code)] += count
            poisoned += series.codes.get("poisoned", 0)
        samples = [(labels(model=model, reason=reason), n) for (model, reason), n in dropped.items()]
        text = "Requests that got no answer of a model, by why."
        return counter("pipeline_dropped_total", text, samples) + counter(
            "pipeline_poisoned_total", "Requests given up as two workers died under them.", [("", poisoned)]
        )

    # --- live tables

    def _queues(self) -> Iterator[str]:
        scheduler, models = self._scheduler, self._catalog.models()
        waiting = scheduler.waiting_by_model
        unfinished: Counter[str] = Counter()
        for key, count in scheduler.live_by_version.items():
            unfinished[key.model] += count
        names = sorted({*models, *waiting, *unfinished})
        each = [(labels(model=name), waiting[name], unfinished[name] - waiting[name]) for name in names]
        yield gauge("pipeline_queue_requests", "Requests that wait.", [(name, n) for name, n, _ in each])
        yield gauge("pipeline_queue_limit_requests", "Requests that may wait.", [("", scheduler.queue_max)])
        yield gauge("pipeline_inflight_requests", "Requests at workers.", [(name, n) for name, _, n in each])
        yield counter(
            "pipeline_retries_total",
            "Requests sent again as their worker was lost.",
            [("", scheduler.retries)],
        )

    def _caches(self) -> Iterator[str]:
        caches = self._carried.caches
        statuses = [worker.status for worker in self._fleet.roster if worker.status is not None]
        entries, size = sum(s.cache_size for s in statuses), sum(s.cache_bytes for s in statuses)
        rows = caches.hits - caches.coalesced
        yield counter(
            "pipeline_cache_queries_total", "Rows looked up in caches.", [("", caches.hits + caches.misses)]
        )
        yield counter(
            "pipeline_cache_hits_total", "Rows that were known (row), or being computed (coalesced).",
            [(labels(kind="row"), rows), (labels(kind="coalesced"), caches.coalesced)],
        )  # fmt: skip
        yield counter(
            "pipeline_cache_evictions_total", "Entries that made room (size), or went with their weights.",
            [(labels(cause="size"), caches.evicted), (labels(cause="weights"), caches.forgotten)],
        )  # fmt: skip
        yield gauge("pipeline_cache_entries", "Rows in caches.", [("", entries)])
        yield gauge("pipeline_cache_bytes", "Bytes that these take.", [("", size)])

    def _workers(self) -> Iterator[str]:
        fleet = self._fleet
        states = Counter({state.value: 0 for state in State if state is not State.GONE})
        states.update(worker.state.value for worker in fleet.roster)
        yield gauge(
            "pipeline_workers", "Workers, by state.", [(labels(state=s), n) for s, n in states.items()]
        )
        yield counter(
            "pipeline_workers_lost_total", "Workers that died, broke off or fell silent.", [("", fleet.lost)]
        )
        yield counter("pipeline_bad_frames_total", "Frames that were no use.", [("", fleet.bad_frames)])
        text = "Strangers at the fleet's sockets, without its token."
        yield counter("pipeline_fleet_strangers_total", text, [("", fleet.strangers())])
        yield from self._each_worker()
        yield from self._weights()
        if self._workforce is not None:
            target, ready = self._workforce.target, self._workforce.counts().ready
            text = "Workers that there should be."
            yield gauge("pipeline_autoscaler_desired_workers", text, [("", target)])
            yield gauge("pipeline_autoscaler_actual_workers", "Those of them that are ready.", [("", ready)])

    def _each_worker(self) -> Iterator[str]:
        rows: Counter[str] = Counter()
        memory: Counter[str] = Counter()
        for worker in self._fleet.roster:
            rows[worker.name] += self._scheduler.in_flight(worker.id)
            memory[worker.name] += worker.status.rss if worker.status is not None else 0
        yield gauge("pipeline_worker_inflight_rows", "Rows at a worker.", _by_name(rows))
        yield gauge("pipeline_worker_resident_memory_bytes", "Memory of a worker.", _by_name(memory))

    def _weights(self) -> Iterator[str]:
        found = [self._catalog.get(name) for name in self._catalog.models()]
        active = {each.key.model: each.key.version for each in found if each is not None}
        behind = dict.fromkeys(active, 0)
        for worker in self._fleet.roster.in_state(State.READY):
            keys = worker.versions
            others = {key.model for key in keys if active.get(key.model, key.version) != key.version}
            if others:
                others -= {key.model for key in keys if active.get(key.model) == key.version}
            for model in others:
                behind[model] += 1
        generations = [(labels(model=n), self._catalog.generations[n]) for n in active]
        yield gauge("pipeline_weights_generation", "Active versions since the gateway started.", generations)
        yield gauge(
            "pipeline_weights_skew", "Ready workers that hold a model, and not its active version.",
            [(labels(model=name), count) for name, count in behind.items()],
        )  # fmt: skip


def _by_name(counts: Counter[str]) -> list[Sample]:
    return [(labels(worker=name), count) for name, count in counts.items()]


def _labels(key: ModelKey, **more: str) -> str:
    return labels(model=key.model, version=key.version, **more)
