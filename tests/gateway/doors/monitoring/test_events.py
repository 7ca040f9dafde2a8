"""Collaboration: `GET /events`, from what happens in a gateway to what a browser reads; virtual time."""

from __future__ import annotations

import json
import time
from typing import Any

import msgspec
import pytest
import trio
from starlette.applications import Starlette

from common.tokens import make_token
from gateway.auth.asking import CLIENT
from gateway.auth.clients import Client
from gateway.core import Doors
from gateway.doors.monitoring import events as events_door
from gateway.doors.monitoring.events import HEARTBEAT, EventsDoor, write
from gateway.experiments.plans import Plan
from gateway.observing.events import Event, Events, Lost
from tests.gateway.site import NN, open_site

pytestmark = pytest.mark.usefixtures("virtual_time")


class Watcher:
    """A client of the stream; it reads unless it is told not to."""

    def __init__(self, after: str | None = None, method: str = "GET") -> None:
        headers = [] if after is None else [(b"last-event-id", after.encode())]
        self.scope = {
            "type": "http",
            "method": method,
            "path": "/events",
            "query_string": b"",
            "headers": headers,
        }
        self.start: dict[str, Any] = {}
        self.body = b""
        self.reads = trio.Event()
        self.reads.set()
        self.left, self.ended = trio.Event(), trio.Event()

    async def receive(self) -> dict[str, Any]:
        if self.scope.pop("query_string", None) is not None:
            return {"type": "http.request", "body": b"", "more_body": False}
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: dict[str, Any]) -> None:
        await self.reads.wait()
        if message["type"] == "http.response.start":
            self.start = message
        else:
            self.body += message["body"]
            if not message.get("more_body"):
                self.ended.set()

    @property
    def told(self) -> list[dict[str, Any]]:
        """The data of every event so far."""
        lines = self.body.decode().split("\n")
        return [json.loads(line[6:]) for line in lines if line.startswith("data: ")]

    @property
    def what(self) -> list[str]:
        return [data.get("what", data["topic"]) for data in self.told]


async def watch(nursery: trio.Nursery, door: EventsDoor, watcher: Watcher) -> None:
    nursery.start_soon(Starlette(routes=door.routes()), watcher.scope, watcher.receive, watcher.send)
    await trio.testing.wait_all_tasks_blocked()


def test_an_event_is_written_with_its_id_topic_and_data():
    event = Event("run-7", "fleet", {"topic": "fleet", "what": "worker ready", "worker": "a\nb"})
    assert write(event) == (
        b'id: run-7\nevent: fleet\ndata: {"topic":"fleet","what":"worker ready","worker":"a\\nb"}\n\n'
    )
    assert write(Lost(3)) == b'event: lost\ndata: {"topic":"lost","events":3}\n\n'


async def test_a_stream_says_that_it_is_one_and_beats():
    async with trio.open_nursery() as nursery:
        watcher = Watcher()
        events = Events("run")
        await watch(nursery, EventsDoor(events), watcher)
        assert dict(watcher.start["headers"])[b"content-type"] == b"text/event-stream"
        assert watcher.body == b"retry: 1000\n\n"
        await trio.sleep(2 * HEARTBEAT + 1)
        assert watcher.body == b"retry: 1000\n\n:\n\n:\n\n"
        watcher.left.set()
        await trio.testing.wait_all_tasks_blocked()
        assert events.subscribers == 0


async def test_the_life_of_a_worker_of_versions_and_of_an_experiment_is_told():
    async with open_site() as site:
        door, watcher = EventsDoor(site.events), Watcher()
        await watch(site.nursery, door, watcher)
        worker = await site.ready_worker("amy")
        await site.set_weights(b"2")
        assert not (await site.set_weights(b"bad")).ok
        assert (await site.add("m", "1", b"2")).ok
        assert (await site.add("m", "2", b"3")).ok
        await site.experimenting.put("e", Plan(model="m", arms={"1": 50, "2": 50}))
        await site.experimenting.promote("e", "2")
        await site.experimenting.end("e")
        await site.rollouts.remove("m", "1")
        worker.die()
        await site.until(lambda: "worker gone" in watcher.what)
        assert watcher.what == [
            "worker joining", "worker syncing", "worker ready",
            "version serves", "version refused", "version serves", "version serves",
            "experiment runs", "version serves", "experiment promoted", "experiment ended", "version retires",
            "worker suspect", "worker gone",
        ]  # fmt: skip
        assert watcher.told[2] == {
            "topic": "fleet",
            "what": "worker ready",
            "worker": "amy",
            "id": worker.id,
            "because": "synced",
        }
        assert watcher.told[3] == {
            "topic": "rollout",
            "what": "version serves",
            "model": "default",
            "version": NN,
            "active": True,
            "workers": 1,
        }
        watcher.left.set()


async def test_who_comes_back_is_told_what_was_since():
    async with trio.open_nursery() as nursery:
        events = Events("run")
        door = EventsDoor(events)
        for n in range(3):
            events.publish("fleet", "worker ready", n=n)
        watcher = Watcher("run-1")
        await watch(nursery, door, watcher)
        assert [data["n"] for data in watcher.told] == [1, 2]
        watcher.left.set()


async def test_a_slow_watcher_is_told_how_much_it_lost_and_holds_nobody_up():
    async with trio.open_nursery() as nursery:
        events = Events("run", room=10)
        door, slow, quick = EventsDoor(events), Watcher(), Watcher()
        for watcher in (slow, quick):
            await watch(nursery, door, watcher)
        slow.reads = trio.Event()
        for n in range(100):
            events.publish("fleet", "worker ready", n=n)
            await trio.testing.wait_all_tasks_blocked()
        assert len(quick.told) == 100
        slow.reads.set()
        await trio.testing.wait_all_tasks_blocked()
        assert [data.get("n") for data in slow.told] == [*range(11), None]
        assert slow.told[-1] == {"topic": "lost", "events": 89}
        events.publish("fleet", "worker ready", n=100)
        await trio.testing.wait_all_tasks_blocked()
        assert slow.told[-1]["n"] == 100
        slow.left.set()
        quick.left.set()


async def test_a_drain_ends_every_stream():
    async with trio.open_nursery() as nursery:
        door, watcher = EventsDoor(Events("run")), Watcher()
        await watch(nursery, door, watcher)
        door.drain()
        await watcher.ended.wait()
        late = Watcher()
        await watch(nursery, door, late)
        await late.ended.wait()


async def test_there_is_room_for_so_many_watchers(monkeypatch):
    monkeypatch.setattr(events_door, "MAX_WATCHERS", 1)
    async with open_site() as site, trio.open_nursery() as nursery:
        app: Any = Doors(site, max_upload=1).app
        first, second, head = Watcher(), Watcher(), Watcher(method="HEAD")
        nursery.start_soon(app, head.scope, head.receive, head.send)
        await head.ended.wait()
        nursery.start_soon(app, first.scope, first.receive, first.send)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(app, second.scope, second.receive, second.send)
        await second.ended.wait()
        assert second.start["status"] == 503
        assert json.loads(second.body)["message"] == "1 clients watch already, as many as may"
        first.left.set()


@pytest.mark.parametrize("how", ["revoked", "expired", "another role"])
async def test_a_stream_ends_within_a_second_of_its_token(how):
    async with trio.open_nursery() as nursery:
        events, watcher, other = Events("run"), Watcher(), Watcher()
        token, _ = make_token("read", time.time())
        client = Client(token)
        watcher.scope[CLIENT] = client
        door = EventsDoor(events)
        for each in (watcher, other):
            await watch(nursery, door, each)
        await trio.sleep(5)
        assert not watcher.ended.is_set()
        if how == "revoked":
            client.revoke()
        elif how == "expired":
            client.renew(msgspec.structs.replace(token, expires=time.time()))
        else:
            client.renew(msgspec.structs.replace(token, role="predict"))
        await trio.sleep(0.5)
        assert watcher.ended.is_set()
        assert events.subscribers == 1
        assert not other.ended.is_set()
        other.left.set()
