"""Collaboration: /metrics over a gateway on a network in memory, read as Prometheus' own library reads it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families

from common.wire import StatusAnswer
from gateway.core import Doors
from gateway.metrics.carried import CacheCounts, Carried
from gateway.metrics.reasons import REASONS
from gateway.metrics.recorder import SHADOW
from tests.gateway.site import Site, open_site

pytestmark = pytest.mark.usefixtures("virtual_time")


class Page:
    """One scrape: a value for each name with its labels."""

    def __init__(self, text: str) -> None:
        self.families = {family.name: family for family in text_string_to_metric_families(text)}
        self.samples: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
        for family in self.families.values():
            for sample in family.samples:
                key = sample.name, frozenset(sample.labels.items())
                assert key not in self.samples, f"{key} is there twice"
                self.samples[key] = sample.value

    def value(self, name: str, **labels: str) -> float:
        return self.samples[name, frozenset(labels.items())]

    def names(self, name: str) -> list[dict[str, str]]:
        return [dict(labels) for found, labels in self.samples if found == name]


class Watcher:
    def __init__(self, site: Site, **how: Any) -> None:
        transport = httpx.ASGITransport(Doors(site, max_upload=1000, **how).app, raise_app_exceptions=False)
        self.site = site
        self.http = httpx.AsyncClient(transport=transport, base_url="http://gateway")

    async def scrape(self) -> Page:
        answer = await self.http.get("/metrics")
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        return Page(answer.text)

    async def predict(self, *row: float, **headers: str) -> int:
        return (await self.http.post("/predict", json={"vector": row}, headers=headers)).status_code


@asynccontextmanager
async def open_watcher(*, how: Any = None, **more: Any) -> AsyncIterator[Watcher]:
    async with open_site(**more) as site:
        watcher = Watcher(site, **(how or {}))
        async with watcher.http:
            yield watcher


def active(site: Site) -> dict[str, str]:
    return {"model": "default", "version": site.catalog.active().key.version}


async def test_before_anything_happened_all_is_zero_and_there():
    async with open_watcher() as watcher:
        page = await watcher.scrape()
        assert page.value("pipeline_workers", state="ready") == 0
        assert page.value("pipeline_retries_total") == 0
        await watcher.site.ready_worker()
        await watcher.site.set_weights(b"2")
        page = await watcher.scrape()
        version = active(watcher.site)
        for door in ("rest", "v2", "grpc", "ws"):
            assert page.value("pipeline_requests_total", **version, arm="", door=door, code="ok") == 0
        assert {each["reason"] for each in page.names("pipeline_dropped_total")} == set(REASONS)
        assert page.value("pipeline_rows_total", **version) == 0
        assert page.value("pipeline_queue_requests", model="default") == 0


async def test_a_request_is_counted_with_its_durations_and_its_phases():
    async with open_watcher() as watcher:
        worker = await watcher.site.ready_worker(takes=0.2)
        await watcher.site.set_weights(b"2")
        assert await watcher.predict(1.0) == 200
        assert await watcher.predict(2.0) == 200
        page = await watcher.scrape()
        version = active(watcher.site)
        came = {**version, "arm": "", "door": "rest"}
        assert page.value("pipeline_requests_total", **came, code="ok") == 2
        assert page.value("pipeline_request_duration_seconds_count", **came) == 2
        assert page.value("pipeline_request_duration_seconds_sum", **came) == pytest.approx(0.4, abs=0.01)
        assert page.value("pipeline_request_duration_seconds_bucket", **came, le="0.1") == 0
        assert page.value("pipeline_request_duration_seconds_bucket", **came, le="0.25") == 2
        assert page.value("pipeline_request_duration_seconds_bucket", **came, le="+Inf") == 2
        for phase in ("queue", "batch", "link", "infer"):
            assert page.value("pipeline_phase_duration_seconds_count", **version, phase=phase) == 2
        assert page.value("pipeline_workers", state="ready") == 1
        assert page.value("pipeline_worker_resident_memory_bytes", worker=worker.name) > 0
        assert page.value("pipeline_cache_entries") == worker.cached


async def test_what_failed_is_told_by_code_and_by_reason():
    async with open_watcher() as watcher:
        worker = await watcher.site.ready_worker()
        await watcher.site.set_weights(b"2")
        assert await watcher.predict(worker.refused) == 200  # the model's own failure is told in the body
        assert (await watcher.http.post("/predict", content=b"no")).status_code == 400
        assert (await watcher.http.post("/models/nobody/predict", json={"vector": [1]})).status_code == 404
        page = await watcher.scrape()
        version = active(watcher.site)
        came = {"arm": "", "door": "rest"}
        assert page.value("pipeline_requests_total", **version, **came, code="model_error") == 1
        none = {"model": "default", "version": ""}
        assert page.value("pipeline_requests_total", **none, **came, code="bad_request") == 1
        none = {"model": "", "version": ""}
        assert page.value("pipeline_requests_total", **none, **came, code="not_found") == 1
        assert page.value("pipeline_dropped_total", model="default", reason="model_error") == 1
        assert page.value("pipeline_dropped_total", model="default", reason="bad_request") == 1
        assert page.value("pipeline_dropped_total", model="", reason="bad_request") == 1


async def test_what_fails_for_a_shadow_failed_for_no_client():
    async with open_watcher() as watcher:
        await watcher.site.ready_worker()
        await watcher.site.set_weights(b"2")
        key = watcher.site.catalog.active().key
        watcher.site.recorder.of(SHADOW, key, "2").failed("model_error", 1.0)
        page = await watcher.scrape()
        came = {**active(watcher.site), "arm": "2", "door": "shadow"}
        assert page.value("pipeline_requests_total", **came, code="model_error") == 1
        assert page.value("pipeline_dropped_total", model="default", reason="model_error") == 0


async def test_queue_and_flight_are_those_of_now():
    async with open_watcher() as watcher:
        site = watcher.site
        worker = await site.ready_worker(slots=1)
        await site.set_weights(b"2")
        worker.hold()
        asked = [site.ask(1.0)]
        await trio.testing.wait_all_tasks_blocked()
        asked += [site.ask(n) for n in (2.0, 3.0)]
        page = await watcher.scrape()
        assert page.value("pipeline_queue_requests", model="default") == 2
        assert page.value("pipeline_inflight_requests", model="default") == 1
        assert page.value("pipeline_worker_inflight_rows", worker=worker.name) == 1
        worker.held.set()
        for each in asked:
            await each.answer()
        page = await watcher.scrape()
        assert page.value("pipeline_queue_requests", model="default") == 0
        assert page.value("pipeline_inflight_requests", model="default") == 0


async def test_counters_stay_when_a_worker_dies_and_its_gauges_go():
    async with open_watcher() as watcher:
        site = watcher.site
        first = await site.ready_worker()
        await site.set_weights(b"2")
        first.cache_counts = (7, 3)
        before = await watcher.scrape()
        assert before.value("pipeline_cache_queries_total") == 10
        first.die()
        await site.until(lambda: not site.fleet.roster.get(first.id))
        second = await site.ready_worker()
        second.cache_counts = (1, 1)
        page = await watcher.scrape()
        assert page.value("pipeline_cache_queries_total") == 12
        assert page.value("pipeline_cache_hits_total", kind="row") == 8
        assert page.value("pipeline_workers_lost_total") == 1
        assert page.names("pipeline_worker_inflight_rows") == [{"worker": second.name}]


async def test_two_workers_of_one_name_are_one_series():
    async with open_watcher() as watcher:
        await watcher.site.ready_worker("same")
        await watcher.site.ready_worker("same")
        page = await watcher.scrape()  # which refuses what is there twice
        assert page.names("pipeline_worker_inflight_rows") == [{"worker": "same"}]


async def test_weights_have_a_generation_and_laggards_are_counted():
    async with open_watcher() as watcher:
        site = watcher.site
        await site.ready_worker()
        await site.set_weights(b"2")
        page = await watcher.scrape()
        assert page.value("pipeline_weights_generation", model="default") == 1
        await site.set_weights(b"3", nn_id="other")
        await trio.sleep(1)  # until the next hello says what is held
        page = await watcher.scrape()
        assert page.value("pipeline_weights_generation", model="default") == 2
        assert page.value("pipeline_weights_skew", model="default") == 0


async def test_the_names_of_triton_are_there_when_asked_for():
    async with open_watcher(how={"metrics_triton": True}) as watcher:
        worker = await watcher.site.ready_worker()
        await watcher.site.set_weights(b"2")
        await watcher.predict(1.0)
        await watcher.predict(worker.refused)
        page = await watcher.scrape()
        version = active(watcher.site)
        # Triton counts without `_total`, which the library that reads here puts there itself.
        assert page.value("nv_inference_request_success_total", **version) == 1
        assert page.value("nv_inference_request_failure_total", **version, reason="BACKEND") == 1
        assert page.value("nv_inference_pending_request_count", **version) == 0
    async with open_watcher() as watcher:
        assert not [name for name in (await watcher.scrape()).families if name.startswith("nv_")]


PROMISED = {  # by what an operator asks for, and the labels of each
    "pipeline_requests": {"model", "version", "arm", "door", "code"},
    "pipeline_request_duration_seconds": {"model", "version", "arm", "door", "le"},
    "pipeline_phase_duration_seconds": {"model", "version", "phase", "le"},
    "pipeline_dropped": {"model", "reason"},
    "pipeline_rows": {"model", "version"},
    "pipeline_executions": {"model", "version"},
    "pipeline_batch_rows": {"model", "version", "le"},
    "pipeline_queue_requests": {"model"},
    "pipeline_inflight_requests": {"model"},
    "pipeline_retries": set(),
    "pipeline_poisoned": set(),
    "pipeline_cache_queries": set(),
    "pipeline_cache_hits": {"kind"},
    "pipeline_cache_evictions": {"cause"},
    "pipeline_workers": {"state"},
    "pipeline_weights_generation": {"model"},
    "pipeline_autoscaler_desired_workers": set(),
    "pipeline_autoscaler_actual_workers": set(),
    "process_cpu_seconds": set(),
    "process_resident_memory_bytes": set(),
    "process_open_fds": set(),
}


async def test_everything_that_is_promised_is_told_with_its_labels_and_no_others():
    async with open_watcher() as watcher:
        await watcher.site.ready_worker()
        await watcher.site.set_weights(b"2")
        assert await watcher.predict(1.0) == 200
        watcher.site.recorder.work_of(watcher.site.catalog.active().key).batch_rows.add(
            1
        )  # its worker says nothing
        page = await watcher.scrape()
        told = {
            name: {label for sample in family.samples for label in sample.labels}
            for name, family in page.families.items()
        }
        missing = {each for each in PROMISED if each not in told}
        assert missing == {"pipeline_autoscaler_desired_workers", "pipeline_autoscaler_actual_workers"}
        assert {name: told[name] for name in PROMISED.keys() - missing} == {
            name: labels for name, labels in PROMISED.items() if name not in missing
        }  # nobody starts workers here: test_autoscaler has a page of somebody who does


async def test_every_family_has_a_text_and_a_base_unit():
    async with open_watcher(how={"metrics_triton": True}) as watcher:
        await watcher.site.ready_worker()
        page = await watcher.scrape()
        for name, family in page.families.items():
            assert family.documentation.endswith((".",)) or not name.startswith("pipeline")
            assert not name.endswith(("_ms", "_mb"))


def said(worker: str, hits: int, misses: int) -> StatusAnswer:
    return StatusAnswer(worker, [], 0, 0, 0, 0, 0, 0, 0, 0, 0, hits, misses, 0, [])


async def test_what_caches_counted_is_never_less_than_it_was():
    carried = Carried(most=2)
    carried.take(said("a", 5, 1))
    carried.take(said("a", 4, 3))  # nothing counts back; should it look so, it is as it was
    assert carried.caches == CacheCounts(hits=5, misses=3)
    carried.take(said("b", 2, 2))
    carried.take(said("a", 6, 3))
    assert carried.caches == CacheCounts(hits=8, misses=5)
