"""`GET /status`: what the gateway and each worker say of themselves. The contract dashboards poll."""

from __future__ import annotations

import trio

from common import wire
from gateway.autoscaler.workforce import Workforce
from gateway.doors.rest_api import ManagerShown, StatusShown, WorkerShown
from gateway.fleet.fleet import Fleet
from gateway.fleet.roster import Worker
from gateway.metrics.carried import Carried
from gateway.models.catalog import Catalog
from gateway.scheduling.predictions import Predictions

SURVEY_TIME = 0.008  # with the rest of the answer: well under 20 ms for 50 workers, whatever they do
PATIENCE = 0.25


class StatusDoor:
    """Surveys the fleet for every poll; polls that come together share one survey, and a worker that does
    not answer in time is shown with what it said last."""

    def __init__(
        self, fleet: Fleet, predictions: Predictions, catalog: Catalog, workforce: Workforce | None = None
    ) -> None:
        self._fleet = fleet
        self._predictions = predictions
        self._catalog = catalog
        self._workforce = workforce
        self.carried = Carried()
        self._turn = trio.Lock()
        self._asked = -1.0

    async def status(self) -> StatusShown:
        """The whole answer, as JSON values."""
        await self.look()
        return self._shown()

    async def patiently(self) -> StatusShown:
        """The same for who does not wait for it: busy workers have longer to answer."""
        await self._survey(PATIENCE)
        return self._shown()

    async def look(self) -> None:
        """Ask every worker how it is, together with whoever else asks now."""
        came = trio.current_time()
        async with self._turn:
            if self._asked < came:
                self._asked = trio.current_time()
                await self._survey(SURVEY_TIME)

    def _shown(self) -> StatusShown:
        workers = list(self._fleet.roster)
        predictions = self._predictions
        return {
            "status": True,
            "message": "OK",
            "queue_requests_current": predictions.waiting,
            "queue_requests_max": predictions.queue_max,
            "queue_requests_peak": predictions.peak_waiting,
            "requests_in_progress": predictions.in_progress,
            "req_handling_time_avg_ms": predictions.handling.mean * 1000,
            "count_requests_handled": predictions.handling.count,
            "bad_frames": self._fleet.bad_frames,
            "workers_count": len(workers),
            "workers": [self._worker(worker, trio.current_time()) for worker in workers],
            "manager": None if self._workforce is None else manager_shown(self._workforce),
        }

    async def _survey(self, seconds: float) -> None:
        def take(answer: wire.StatusAnswer) -> None:
            worker = self._fleet.roster.get(answer.worker)
            if worker is not None:
                worker.status = answer
                self.carried.take(answer)

        await self._fleet.surveys.ask(
            wire.Status(), wire.StatusAnswer, seconds, expected=self._fleet.ids, on_answer=take
        )

    def _worker(self, worker: Worker, now: float) -> WorkerShown:
        hello, said = worker.hello, worker.status
        active = self._catalog.get("default")
        versions = said.versions if said is not None else worker.versions
        holds = active is not None and any(key.version == active.key.version for key in versions)
        if said is None:
            said = wire.StatusAnswer(worker.id, [], 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, [])
        return {
            "name": worker.name,
            "id": worker.id,
            "state": worker.state.value,
            "trouble": worker.trouble,
            "host": hello.host,
            "pid": hello.pid,
            "address": said.addresses,
            "device": hello.device,
            "versions": [{"model": key.model, "version": key.version} for key in versions],
            "nn_id": active.nn_id if active is not None and holds else None,
            "in_flight": self._predictions.in_flight(worker.id),
            "last_seen_s": round(now - worker.heard, 3),
            "req_handling_time_avg_ms": said.handling_mean * 1000,
            "count_requests_handled": said.requests,
            "count_rows_handled": said.rows,
            "inference_time_avg_ms": said.infer_mean * 1000,
            "p50": said.p50 * 1000,
            "p95": said.p95 * 1000,
            "p99": said.p99 * 1000,
            "cpu_percent": round(said.cpu * 100, 1),
            "rss_mb": round(said.rss / 2**20, 1),
            "models_used_mb": round(said.memory / 2**20, 1) if said.memory_limit else None,
            "models_limit_mb": said.memory_limit // 2**20 or None,
            "cache": {
                "size": said.cache_size,
                "capacity": said.cache_capacity,
                "hits": said.cache_hits,
                "misses": said.cache_misses,
            },
        }


def manager_shown(workforce: Workforce) -> ManagerShown:
    """The worker manager, as JSON values."""
    counts = workforce.counts()
    return {
        "wanted": counts.wanted,
        "min_workers": workforce.limits.min_workers,
        "max_workers": workforce.limits.max_workers,
        "because": workforce.reason,
        "ready": counts.ready,
        "starting": counts.starting,
        "draining": counts.draining,
        "failing": counts.failing,
        "trouble": workforce.trouble,
        "ordered": [
            {"name": each.name, "state": each.state, "why": each.why, "for_s": round(each.seconds, 3)}
            for each in workforce.ordered()
        ],
    }
