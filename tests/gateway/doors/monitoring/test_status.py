"""Collaboration: `GET /status`, the answer that dashboards poll; virtual time."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from common import wire
from gateway.doors.monitoring.status import PATIENCE, SURVEY_TIME, StatusDoor
from gateway.fleet.roster import State as Life
from tests.gateway.site import NN, NN2, Site, open_site

pytestmark = pytest.mark.usefixtures("virtual_time")


def door(site: Site) -> StatusDoor:
    return StatusDoor(site.fleet, site.predictions, site.catalog)


async def poll(status: StatusDoor) -> dict[str, Any]:
    """One poll, some time after the last."""
    await trio.sleep(0.001)
    return await status.status()


async def test_an_empty_gateway_has_every_field_and_no_workers():
    async with open_site(queue_max=7) as site:
        assert await door(site).status() == {
            "status": True,
            "message": "OK",
            "queue_requests_current": 0,
            "queue_requests_max": 7,
            "queue_requests_peak": 0,
            "requests_in_progress": 0,
            "req_handling_time_avg_ms": 0.0,
            "count_requests_handled": 0,
            "bad_frames": 0,
            "workers_count": 0,
            "workers": [],
            "manager": None,
        }


async def test_a_worker_is_shown_with_what_it_says_of_itself_in_milliseconds():
    async with open_site() as site:
        worker = await site.ready_worker("bob")
        await site.set_weights(b"2")
        await trio.sleep(0.1)
        [shown] = (await door(site).status())["workers"]
        last_seen = shown.pop("last_seen_s")
        assert 0 <= last_seen < 0.5
        assert shown == {
            "name": "bob",
            "id": worker.id,
            "state": "ready",
            "trouble": "",
            "host": "host",
            "pid": 1,
            "address": ["10.0.0.1"],
            "device": "cpu",
            "versions": [{"model": "default", "version": NN}],
            "nn_id": NN,
            "in_flight": 0,
            "req_handling_time_avg_ms": 250.0,
            "count_requests_handled": 3,
            "count_rows_handled": 4,
            "inference_time_avg_ms": 125.0,
            "p50": 500.0,
            "p95": 750.0,
            "p99": 1000.0,
            "cpu_percent": 0.0,
            "rss_mb": 1.0,
            "models_used_mb": None,
            "models_limit_mb": None,
            "cache": {"size": 5, "capacity": 6, "hits": 7, "misses": 8},
        }


async def test_what_goes_on_in_the_gateway_is_counted():
    async with open_site() as site:
        worker = await site.ready_worker(slots=1)
        await site.set_weights(b"2")
        worker.hold()
        asked = [site.ask(1)]
        await trio.testing.wait_all_tasks_blocked()
        asked += [site.ask(2), site.ask(3)]
        status = await door(site).status()
        assert status["requests_in_progress"] == 3
        assert (status["queue_requests_current"], status["queue_requests_peak"]) == (2, 2)
        assert status["workers"][0]["in_flight"] == 1
        await trio.sleep(1)
        worker.held.set()
        for each in asked:
            await each.answer()
        status = await door(site).status()
        assert (status["requests_in_progress"], status["queue_requests_current"]) == (0, 0)
        assert status["count_requests_handled"] == 3
        assert status["req_handling_time_avg_ms"] == pytest.approx(1000, abs=20)


async def test_frames_that_nobody_can_read_are_counted():
    async with open_site() as site:
        worker = await site.ready_worker()
        await site.set_weights(b"2")
        worker.said = [b"nonsense"]
        await site.predict(1)
        assert (await door(site).status())["bad_frames"] == 1


async def test_a_worker_that_does_not_answer_in_time_is_shown_with_what_it_said_last():
    async with open_site() as site:
        worker = await site.ready_worker()
        status = door(site)
        await poll(status)
        worker.stop()
        began = trio.current_time()
        [shown] = (await poll(status))["workers"]
        assert trio.current_time() - began == pytest.approx(SURVEY_TIME + 0.001)
        assert (shown["state"], shown["count_requests_handled"]) == ("ready", 3)
        await site.until_life(worker, Life.SUSPECT)
        [shown] = (await poll(status))["workers"]
        assert (shown["state"], shown["count_requests_handled"]) == ("suspect", 3)
        assert shown["last_seen_s"] < 3


async def test_a_worker_that_never_said_anything_is_shown_all_the_same():
    async with open_site() as site:
        worker = await site.ready_worker("mute")
        worker.stop()
        [shown] = (await door(site).status())["workers"]
        assert (shown["name"], shown["count_requests_handled"], shown["address"]) == ("mute", 0, [])


async def test_a_worker_in_trouble_says_why():
    async with open_site() as site:
        site.worker(finds_link=False)
        await trio.sleep(5)
        [shown] = (await door(site).status())["workers"]
        assert shown["state"] == "joining"
        assert shown["trouble"].startswith("it has not connected to its link, mem://link/")


async def test_the_nn_id_is_of_weights_that_the_worker_holds_now():
    async with open_site() as site:
        status = door(site)
        worker = await site.ready_worker()
        assert (await poll(status))["workers"][0]["nn_id"] is None
        await site.set_weights(b"2")
        assert (await poll(status))["workers"][0]["nn_id"] == NN
        await site.set_weights(b"3", NN2)
        assert (await poll(status))["workers"][0]["nn_id"] == NN2
        worker.weights.clear()
        assert (await poll(status))["workers"][0]["nn_id"] is None


async def test_polls_that_come_together_share_surveys():
    async with open_site() as site:
        worker = await site.ready_worker()
        status = door(site)
        async with trio.open_nursery() as nursery:
            for _ in range(100):
                nursery.start_soon(status.status)
        assert len(worker.asked(wire.Status)) <= 2


async def test_a_poll_is_never_older_than_its_question():
    async with open_site() as site:
        status = door(site)
        worker = await site.ready_worker()
        for n in range(10):
            await status.status()
            assert len(worker.asked(wire.Status)) == n + 1
            await trio.sleep(0.001)


async def test_a_poll_that_is_cancelled_does_not_hold_up_the_next():
    async with open_site() as site:
        status = door(site)
        worker = await site.ready_worker()
        worker.stop()
        with trio.move_on_after(SURVEY_TIME / 2):
            await status.status()
        began = trio.current_time()
        await status.status()
        assert trio.current_time() - began <= 2 * SURVEY_TIME


async def test_who_does_not_wait_for_it_gives_workers_longer_to_answer():
    async with open_site() as site:
        worker = await site.ready_worker()
        status = door(site)
        worker.stop()
        began = trio.current_time()
        await status.patiently()
        assert trio.current_time() - began == pytest.approx(PATIENCE)
