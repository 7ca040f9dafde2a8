"""Collaboration: probes over a gateway on a network in memory; ready is who can answer, and the rest say why
not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import trio

from gateway.autoscaler.scaling import Scaling
from gateway.core import Doors
from tests.gateway.autoscaler.staff import Staff
from tests.gateway.site import Site, open_site

pytestmark = pytest.mark.usefixtures("virtual_time")

OK = (200, "OK")
NO_WEIGHTS = "no weights are set: PUT /set_weights, or add a model at /models"


class Prober:
    """`ask` gives a probe's status and sentence, which V2's has to agree with."""

    def __init__(self, site: Site) -> None:
        transport = httpx.ASGITransport(Doors(site, max_upload=1000).app, raise_app_exceptions=False)
        self.site = site
        self.http = httpx.AsyncClient(transport=transport, base_url="http://gateway")

    async def ask(self, path: str) -> tuple[int, Any]:
        answer = await self.http.get(path)
        assert answer.json()["status"] is (answer.status_code == 200)
        return answer.status_code, answer.json()["message"]

    async def ready(self) -> tuple[int, Any]:
        status, message = await self.ask("/health/ready")
        other = await self.http.get("/v2/health/ready")
        assert other.status_code == status
        assert other.json() == ({"ready": True} if status == 200 else {"error": message})
        return status, message


@asynccontextmanager
async def open_prober() -> AsyncIterator[Prober]:
    async with open_site() as site:
        prober = Prober(site)
        async with prober.http:
            yield prober


async def test_ready_follows_the_default_models_weights_and_workers():
    async with open_prober() as prober:
        site = prober.site
        assert await prober.ask("/health/live") == OK
        assert await prober.ready() == (503, NO_WEIGHTS)
        worker = await site.ready_worker()
        assert await prober.ready() == (503, NO_WEIGHTS)
        await site.set_weights(b"2")
        assert await prober.ready() == OK
        worker.die()
        await site.until(lambda: worker.id not in site.fleet.ids())
        assert await prober.ready() == (503, "no worker is ready: none has come")
        assert await prober.ask("/health/live") == OK


async def test_a_worker_that_may_not_hold_the_default_model_is_not_enough():
    async with open_prober() as prober:
        site = prober.site
        worker = await site.ready_worker()
        await site.set_weights(b"2")
        await site.ready_worker(models=("other",))
        worker.die()
        await site.until(lambda: worker.id not in site.fleet.ids())
        version = site.catalog.active().key.version
        why_not = f"none of the workers that are ready holds version {version} of default"
        assert await prober.ready() == (503, why_not)


async def test_without_a_default_model_any_other_is_enough():
    async with open_prober() as prober:
        await prober.site.ready_worker()
        await prober.site.add("other", "1", b"2")
        assert await prober.ready() == OK


async def test_who_drains_is_alive_and_not_ready():
    async with open_prober() as prober:
        await prober.site.ready_worker()
        await prober.site.set_weights(b"2")
        prober.site.drain()
        assert await prober.ready() == (503, "the gateway is shutting down")
        assert await prober.ask("/health/live") == OK


async def test_startup_is_over_when_what_was_there_is_there_again():
    async with open_prober() as prober:
        prober.site.health.starting = "the folder of models is being loaded"
        assert await prober.ask("/health/startup") == (503, "the folder of models is being loaded")
        assert await prober.ready() == (503, "the folder of models is being loaded")
        prober.site.health.starting = ""
        assert await prober.ask("/health/startup") == OK


async def test_a_fleet_scaled_to_zero_is_ready_unless_no_worker_can_be_started():
    async with open_prober() as prober:
        site = prober.site
        staff = Staff(site, first=1)
        site.scale(staff, Scaling(min_workers=0, max_workers=2))
        site.nursery.start_soon(staff.run)
        await site.set_weights(b"2")
        await site.until(lambda: bool(staff.there))
        staff.want(0, "idle")
        await site.until(lambda: not site.fleet.ids())
        assert await prober.ready() == OK
        staff.fails, staff.trouble = True, "the launcher is gone"
        staff.want(1, "a request")
        await trio.sleep(1)
        assert await prober.ready() == (503, "no worker is ready: none has come (the launcher is gone)")
        staff.want(0, "over")
        staff.fails = False


async def test_a_fleet_that_may_not_be_empty_is_not_ready_without_workers():
    async with open_prober() as prober:
        site = prober.site
        site.scale(Staff(site, first=1), Scaling(min_workers=1, max_workers=2))
        await site.set_weights(b"2")
        assert await prober.ready() == (503, "no worker is ready: none has come")
