"""Collaboration: what a dashboard polls, and its stream of the same; virtual time."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
import trio

from common.errors import NoWorker
from gateway.core import Doors
from gateway.doors.monitoring.live import PERIOD
from gateway.observing.history import STEP
from tests.gateway.doors.monitoring.test_events import Watcher
from tests.gateway.site import NN, Site, open_site

pytestmark = pytest.mark.usefixtures("virtual_time")


class Dashboard(Watcher):
    """A client of the dashboard's stream."""

    def __init__(self, doors: Doors, method: str = "GET") -> None:
        super().__init__(method=method)
        self.scope["path"] = "/dashboard/live"
        self.scope["root_path"] = ""
        self._app = doors.app

    async def run(self) -> None:
        await self._app(self.scope, self.receive, self.send)

    @property
    def messages(self) -> list[tuple[str, Any]]:
        """Every message so far: its kind, and its data."""
        found = []
        for block in self.body.decode().split("\n\n"):
            lines = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)
            if "data" in lines:
                found.append((lines["event"], json.loads(lines["data"])))
        return found

    def of(self, kind: str) -> list[Any]:
        return [data for name, data in self.messages if name == kind]


async def get(doors: Doors, path: str) -> Any:
    transport = httpx.ASGITransport(doors.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        answer = await client.get(path)
        assert answer.status_code == 200
        return answer.json()


async def fail(site: Site) -> None:
    """One request that no worker is there for."""
    assert isinstance(await site.ask(1).answer(), NoWorker)


async def test_the_history_has_a_step_for_every_five_seconds():
    async with open_site() as site:
        doors = Doors(site, max_upload=1000)
        await trio.sleep(0.1)
        assert (await get(doors, "/history"))["at"] == []
        await site.ready_worker()
        await site.set_weights(b"2")
        for n in range(10):
            await site.ask(n).answer()
        await trio.sleep(2 * STEP)
        shown = await get(doors, "/history")
        assert shown["requests_per_second"] == [2.0, 0.0]
        assert shown["failures_per_second"] == [0.0, 0.0]
        assert (shown["workers_ready"], shown["workers"]) == ([1, 1], [1, 1])
        assert shown["p99"][0] > 0
        assert shown["p99"][1] is None
        assert {len(values) for values in shown.values() if isinstance(values, list)} == {2}


async def test_what_requests_failed_of_and_what_happened_are_there_to_be_polled():
    async with open_site() as site:
        doors = Doors(site, max_upload=1000)
        worker = await site.ready_worker("amy")
        await site.set_weights(b"2")
        worker.die()
        await fail(site)
        shown = await get(doors, "/recent")
        [failure] = shown["failures"]
        assert (failure["model"], failure["version"], failure["code"]) == ("default", NN, "no_worker")
        assert (failure["message"], failure["count"]) == ("No live worker", 1)
        assert failure["first"] == failure["last"] > 1e9
        assert [each["what"] for each in shown["events"]] == [
            "worker gone", "worker suspect", "version serves", "worker ready", "worker syncing",
            "worker joining",
        ]  # fmt: skip
        assert all(each["at"] > 1e9 for each in shown["events"])


async def test_what_is_refused_at_the_door_is_among_the_failures():
    async with open_site() as site:
        doors = Doors(site, max_upload=1000)
        await site.set_weights(b"2")
        transport = httpx.ASGITransport(doors.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
            for path in ("/predict", "/predict", "/models/none/predict"):
                assert (await client.post(path, content=b"{")).status_code in (400, 404)
        failures = (await get(doors, "/recent"))["failures"]
        found = [(each["model"], each["version"], each["code"], each["count"]) for each in failures]
        assert sorted(found) == [("", "", failures[0]["code"], 1), ("default", "", "bad_request", 2)]
        await trio.sleep(STEP + 0.1)
        assert (await get(doors, "/history"))["failures_per_second"] == [0.6]


async def test_a_stream_begins_with_everything_and_goes_on_with_what_is_new():
    async with open_site() as site, trio.open_nursery() as nursery:
        doors = Doors(site, max_upload=1000)
        await site.set_weights(b"2")
        watcher = Dashboard(doors)
        nursery.start_soon(watcher.run)
        await trio.sleep(0.5)
        assert watcher.start["status"] == 200
        assert [kind for kind, _ in watcher.messages] == ["recent", "history", "status"]
        assert watcher.of("status")[0]["workers_count"] == 0
        await site.ready_worker("amy")
        await trio.sleep(2 * PERIOD)
        assert [data["what"] for data in watcher.of("event")] == [
            "worker joining", "worker syncing", "worker ready",
        ]  # fmt: skip
        assert watcher.of("status")[-1]["workers"][0]["name"] == "amy"
        await trio.sleep(2 * STEP)
        assert [len(data["at"]) for data in watcher.of("history")] == [0, 1, 1]
        assert watcher.of("failures") == []
        watcher.left.set()
    assert (site.events.subscribers, site.sampling.watchers) == (0, set())


async def test_a_stream_tells_of_failures_as_they_come():
    async with open_site() as site, trio.open_nursery() as nursery:
        doors = Doors(site, max_upload=1000)
        await site.set_weights(b"2")
        watcher = Dashboard(doors)
        nursery.start_soon(watcher.run)
        await fail(site)
        await fail(site)
        await trio.sleep(2 * PERIOD)
        assert [failures[0]["count"] for failures in watcher.of("failures")] == [1, 2]
        watcher.left.set()


async def test_watchers_share_one_look_at_the_fleet():
    async with open_site() as site, trio.open_nursery() as nursery:
        doors = Doors(site, max_upload=1000)
        worker = await site.ready_worker()
        watchers = [Dashboard(doors) for _ in range(10)]
        for watcher in watchers:
            nursery.start_soon(watcher.run)
        await trio.sleep(10.5 * PERIOD)
        asked = sum(type(message).__name__ == "Status" for message in worker.surveyed)
        assert all(9 <= len(watcher.of("status")) <= 12 for watcher in watchers)
        assert asked <= 13
        for watcher in watchers:
            watcher.left.set()


async def test_a_drain_ends_it():
    async with open_site() as site, trio.open_nursery() as nursery:
        doors = Doors(site, max_upload=1000)
        watcher = Dashboard(doors)
        nursery.start_soon(watcher.run)
        await trio.sleep(1)
        doors.drain()
        await watcher.ended.wait()
