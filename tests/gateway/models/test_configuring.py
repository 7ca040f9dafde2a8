"""Collaboration: a model's settings change while it serves; real gateway, fake workers, virtual time."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from common import wire
from common.errors import InvalidRequest, StateError
from common.models import ModelSettings
from common.tensor import TensorSpec
from gateway.fleet.roster import State as Life
from gateway.models.switching import Rolled
from gateway.scheduling.queues import Limits
from gateway.scheduling.requests import ModelKey
from tests.gateway.fakes import FakeWorker
from tests.gateway.site import NN, NN2, Site, open_site

pytestmark = pytest.mark.usefixtures("virtual_time")

IRIS = ModelKey("iris", "1")
REFUSAL = (False, "Traceback\nLoadError: it does not fit")


async def change(site: Site, model: str = "iris", *, reload: bool = True, **settings: Any) -> Rolled:
    """Change some of a model's settings."""
    said = await site.configuring.change(
        model, lambda before: msgspec.structs.replace(before, **settings), reload=reload
    )
    return said[1]


def by(worker: FakeWorker, name: str = "iris/1") -> ModelSettings:
    """The settings by which a worker has a version loaded."""
    return worker.settings[name]


def shown(site: Site, version: str = "1") -> ModelSettings:
    return site.catalog.find("iris", version).settings


# --- what counts without the workers


async def test_what_only_the_gateway_looks_at_counts_at_once_and_no_worker_is_asked():
    async with open_site() as site:
        worker = await site.ready_worker()
        await site.add("iris", "1", b"2")
        await site.add("iris", "2", b"3")
        said = {"max_wait_ms": 250.0, "queue_max": 7, "timeout": 3.0, "labels": ("a", "b"), "affinity": False}
        assert (await change(site, **said)).results == []
        assert shown(site) == shown(site, "2") == ModelSettings(**said)
        assert site.scheduler.limits["iris"] == Limits(64, 0.25, 7)
        assert len(worker.asked(wire.Load)) == 2
        asked = site.ask(1, model="iris")
        assert (asked.request.deadline - asked.request.admitted, asked.request.route) == (3.0, None)
        await asked.answer()


async def test_fewer_versions_to_keep_are_kept_at_once():
    async with open_site() as site:
        worker = await site.ready_worker()
        for version, weights in (("1", b"2"), ("2", b"3"), ("3", b"4")):
            await site.add("iris", version, weights, keep_versions=3)
        await change(site, keep_versions=2)
        assert [each.key.version for each in site.catalog.of("iris")] == ["1", "3"]  # 1 is the active one
        assert list(worker.weights) == ["iris/1", "iris/3"]
        assert [record.version for record in site.state.all_serving()] == ["1", "3"]


async def test_more_and_fewer_instances_are_placed():
    async with open_site() as site:
        workers = [await site.ready_worker() for _ in range(3)]
        await site.add("iris", "1", b"2", instances=1)
        for instances, count in ((2, 2), (None, 3), (1, 1)):
            await change(site, instances=instances)
            await site.until(lambda: len(site.holders.of(IRIS)) == count)  # noqa: B023 - it is over by then
            await site.until(lambda: sum("iris/1" in each.weights for each in workers) == count)  # noqa: B023
        assert await site.predict(1, model="iris") == 2.0


# --- what workers load by


async def test_workers_load_what_serves_again_and_nobody_waits_for_it():
    async with open_site() as site:
        workers = [await site.ready_worker(load_takes=1.0) for _ in range(2)]
        await site.add("iris", "1", b"2")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: change(site, round_decimals=2, device="cpu"))
            await site.until(lambda: all(len(each.asked(wire.Load)) == 2 for each in workers))
            began = trio.current_time()
            assert await site.predict(1, model="iris") == 2.0
            assert trio.current_time() - began < 0.5
            assert [by(each) for each in workers] == [ModelSettings()] * 2
        wanted = ModelSettings(round_decimals=2, device="cpu")
        assert [by(each) for each in workers] == [wanted] * 2
        assert shown(site) == wanted
        assert site.state.version("iris", "1").settings == wanted
        assert [worker.staged for worker in workers] == [{}, {}]


async def test_every_version_that_serves_is_loaded_again_and_those_that_do_not_are_left():
    async with open_site() as site:
        worker = await site.ready_worker()
        for version, weights in (("1", b"2"), ("2", b"3"), ("3", b"4")):
            await site.add("iris", version, weights)
        await change(site, cache_size=0, timeout=5.0)
        wanted = ModelSettings(cache_size=0, timeout=5.0)
        assert [by(worker, f"iris/{each}") for each in "13"] == [wanted, wanted]
        assert site.state.version("iris", "2").settings == ModelSettings(timeout=5.0)
        assert (await site.rollouts.activate("iris", "2")).ok
        assert by(worker, "iris/2") == ModelSettings(timeout=5.0)


async def test_settings_that_one_worker_refuses_change_nothing_anywhere():
    async with open_site() as site:
        good = await site.ready_worker()
        bad = await site.ready_worker(lacks={"cuda"})
        await site.add("iris", "1", b"2")
        rolled = await change(site, device="cuda", timeout=5.0)
        assert sorted(rolled.results) == [REFUSAL, (True, "")]
        assert rolled.reason == "LoadError: it does not fit"
        assert (by(good), by(bad), shown(site)) == (ModelSettings(),) * 3
        assert (good.staged, bad.staged) == ({}, {})
        assert site.state.settings("iris") is None
        assert site.state.version("iris", "1").settings == ModelSettings()


async def test_settings_that_one_of_the_versions_is_refused_with_change_none_of_them():
    async with open_site() as site:
        worker = await site.ready_worker()
        await site.add("iris", "1", b"2")
        await site.add("iris", "2", b"3")
        worker.refuses = {b"3"}
        assert (await change(site, max_batch=7)).results == [REFUSAL]
        assert (shown(site), shown(site, "2")) == (ModelSettings(), ModelSettings())
        assert (by(worker), worker.staged) == (ModelSettings(), {})


async def test_a_worker_that_does_not_answer_in_time_refuses():
    async with open_site() as site:
        worker = await site.ready_worker()
        await site.add("iris", "1", b"2")
        worker.load_takes = 100.0
        assert (await change(site, max_batch=7)).results == [(False, "the worker did not answer in time")]
        assert shown(site) == ModelSettings()


async def test_settings_may_be_kept_for_the_next_version():
    async with open_site() as site:
        worker = await site.ready_worker(lacks={"cuda"})
        await site.add("iris", "1", b"2")
        assert (await change(site, reload=False, device="cuda", timeout=5.0)).results == []
        assert shown(site) == ModelSettings(timeout=5.0)
        assert site.state.settings("iris") == ModelSettings(device="cuda", timeout=5.0)
        assert len(worker.asked(wire.Load)) == 1


async def test_what_a_version_takes_is_known_anew():
    async with open_site() as site:
        worker = await site.ready_worker(inputs=(TensorSpec("x", "FP32", (2,)),))
        await site.add("iris", "1", b"2")
        worker.inputs = (TensorSpec("x", "FP64", (2,)),)
        await change(site, max_batch=7)
        assert site.catalog.find("iris", "1").inputs == worker.inputs
        assert site.state.version("iris", "1").inputs == worker.inputs


async def test_requests_under_way_are_all_answered():
    async with open_site() as site:
        workers = [await site.ready_worker(takes=0.01) for _ in range(2)]
        await site.add("iris", "1", b"2")
        asked = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: change(site, max_batch=7))
            for n in range(100):
                asked.append(site.ask(n, model="iris"))
                await trio.sleep(0.001)
        assert [await each.answer() for each in asked] == [2.0 * n for n in range(100)]
        assert {by(each).max_batch for each in workers} == {7}


# --- when it goes wrong


async def test_a_full_disk_leaves_everything_as_it_was(monkeypatch):
    async with open_site() as site:
        worker = await site.ready_worker()
        await site.add("iris", "1", b"2")

        def full(*_: object, **__: object) -> None:
            raise StateError("the disk is full")

        monkeypatch.setattr(site.state, "set_settings", full)
        with pytest.raises(StateError, match=r"^the disk is full$"):
            await change(site, max_batch=7, timeout=5.0)
        assert (shown(site), by(worker), worker.staged) == (ModelSettings(), ModelSettings(), {})


async def test_who_makes_no_settings_changes_none():
    async with open_site() as site:

        def refuse(_: ModelSettings) -> ModelSettings:
            raise InvalidRequest("no")

        with pytest.raises(InvalidRequest):
            await site.configuring.change("iris", refuse)
        assert site.state.settings("iris") is None
        with trio.fail_after(1):
            async with site.switching.turn:
                pass


async def test_a_change_that_is_cancelled_while_workers_load_changes_nothing():
    async with open_site() as site:
        worker = await site.ready_worker()
        await site.add("iris", "1", b"2")
        worker.load_takes = 1.0
        with trio.move_on_after(0.5) as scope:
            await change(site, max_batch=7)
        assert scope.cancelled_caught
        assert (shown(site), site.state.settings("iris")) == (ModelSettings(), None)
        await trio.sleep(2)  # it has loaded, and is not asked for it any more
        assert by(worker) == ModelSettings()
        assert (await change(site, max_batch=8)).ok
        assert by(worker).max_batch == 8


async def test_a_worker_that_was_away_has_what_it_holds_loaded_again():
    async with open_site() as site:
        away = await site.ready_worker()
        await site.ready_worker()
        await site.add("iris", "1", b"2")
        away.stop()
        await site.until(lambda: away.id not in site.fleet.ids())
        await change(site, max_batch=7)
        assert by(away) == ModelSettings()
        away.go_on()
        await site.ready(away)
        assert by(away) == ModelSettings(max_batch=7)


async def test_a_worker_that_holds_it_so_is_not_sent_it_again():
    async with open_site() as site:
        worker = await site.ready_worker()
        await site.add("iris", "1", b"2")
        await change(site, max_batch=7)
        worker.break_link()
        await site.until(lambda: site.life(worker) is not Life.READY)
        await site.ready(worker)
        assert await site.predict(1, model="iris") == 2.0
        assert len(worker.asked(wire.Load)) == 2


async def test_settings_that_nobody_could_try_are_tried_by_the_first_worker():
    async with open_site() as site:
        await site.add("iris", "1", b"2")
        assert (await change(site, device="cuda")).results == []
        assert site.state.version("iris", "1").checked is False
        worker = await site.ready_worker()
        assert by(worker) == ModelSettings(device="cuda")
        assert site.state.version("iris", "1").checked is True


async def test_settings_that_the_first_worker_refuses_cost_the_version_and_not_the_worker():
    async with open_site() as site:
        first = await site.ready_worker()
        await site.add("iris", "1", b"2")
        first.die()
        await site.until(lambda: not site.fleet.ids())
        await change(site, device="cuda")
        worker = await site.ready_worker(lacks={"cuda"})
        assert site.catalog.of("iris") == []
        assert worker.weights == {}
        await change(site, device=None)
        assert (await site.rollouts.activate("iris", "1")).results == [(True, "")]


# --- before the first version, and after a restart


async def test_settings_are_kept_before_there_is_a_version_and_over_a_restart(tmp_path: Path):
    wanted = ModelSettings(timeout=5.0, device="cpu", labels=("a", "b"))
    async with open_site(tmp_path) as site:
        await change(site, timeout=5.0, device="cpu", labels=("a", "b"))
    async with open_site(tmp_path) as site:
        assert site.state.settings("iris") == wanted
        assert site.catalog.of("iris") == []


async def test_after_a_restart_versions_have_the_settings_they_were_given_and_none_is_loaded_again(tmp_path):
    async with open_site(tmp_path) as site:
        await site.ready_worker()
        await site.add("iris", "1", b"2")
        await change(site, max_wait_ms=250.0, max_batch=7)
        version = site.catalog.find("iris", "1")
    async with open_site(tmp_path) as site:
        assert shown(site) == ModelSettings(max_wait_ms=250.0, max_batch=7)
        assert site.scheduler.limits["iris"] == Limits(7, 0.25, None)
        key = wire.VersionKey("iris", "1", hashlib.sha256(b"2").hexdigest(), version.settings.loaded_as)
        worker = site.worker(holds={"iris/1": b"2"})
        worker.keys["iris/1"] = key
        await site.ready(worker)
        assert worker.asked(wire.Load) == []


# --- the default model


async def test_settings_of_the_default_model_outlive_its_weights():
    async with open_site() as site:
        worker = await site.ready_worker()
        await change(site, "default", timeout=5.0)
        await site.set_weights(b"2")
        await site.set_weights(b"3", NN2)
        assert (await change(site, "default", max_batch=7)).results == [(True, "")]
        wanted = ModelSettings(
            runtime="torch", architecture="sample", keep_versions=1, timeout=5.0, max_batch=7
        )
        assert site.catalog.active().settings == wanted
        assert worker.settings[NN2] == wanted
        assert list(worker.weights) == [NN2]
        await site.set_weights(b"2")
        assert worker.settings[NN] == wanted
        assert list(worker.weights) == [NN]


# --- where there is no room for all


async def test_a_worker_that_let_a_version_go_loads_it_by_the_new_settings_when_it_is_asked_for():
    async with open_site() as site:
        small, large = await site.ready_worker(room=2), await site.ready_worker()
        for model in ("iris", "b", "c"):
            await site.add(model, "1", b"2")
        assert site.holders.of(IRIS) == {large.id}
        assert (await change(site, round_decimals=2)).results == [(True, "")]
        assert site.holders.evicted_at(IRIS) == {small.id}
        large.die()
        assert await site.predict(1, model="iris") == 2.0
        assert by(small) == ModelSettings(round_decimals=2)


async def test_a_version_that_every_worker_let_go_is_tried_by_the_one_that_would_load_it():
    async with open_site() as site:
        worker = await site.ready_worker(room=2, lacks={"cuda"})
        for model in ("iris", "b", "c"):
            await site.add(model, "1", b"2")
        assert (await change(site, device="cuda")).results == [REFUSAL]
        assert (site.holders.of(IRIS), worker.staged) == (set(), {})
        assert await site.predict(1, model="iris") == 2.0
        assert by(worker) == ModelSettings()
        assert (await change(site, device="cpu")).ok
        assert (site.holders.of(IRIS), by(worker)) == ({worker.id}, ModelSettings(device="cpu"))


async def test_a_version_is_not_served_by_the_old_settings_where_those_change_while_it_is_loaded_on_demand():
    async with open_site(timeout=60.0) as site:
        worker = await site.ready_worker(room=2)
        for model in ("iris", "b", "c"):
            await site.add(model, "1", b"2")
        worker.load_takes = 5.0
        asked = site.ask(1, model="iris")
        await site.until(lambda: len(worker.asked(wire.Load)) == 4)
        assert (await change(site, round_decimals=2)).ok
        assert await asked.answer() == 2.0
        await site.until(lambda: site.holders.of(IRIS) == {worker.id})
        assert by(worker) == ModelSettings(round_decimals=2)


async def test_a_worker_that_refused_a_version_is_asked_again_at_once_when_its_settings_change():
    async with open_site() as site:
        await site.ready_worker()
        await site.add("iris", "1", b"2", device="cuda")
        lacking = await site.ready_worker(lacks={"cuda"})
        assert site.holders.refusals.of(IRIS).keys() == {lacking.id}
        began = trio.current_time()
        assert (await change(site, device="cpu")).results == [(True, "")]
        await site.until(lambda: lacking.id in site.holders.of(IRIS))
        assert trio.current_time() - began < 1.0
        assert site.holders.refusals.of(IRIS) == {}


async def test_versions_that_make_room_for_the_trial_of_another_are_told_apart_from_those_that_hold_it():
    async with open_site() as site:
        worker = await site.ready_worker(room=3)
        await site.add("b", "1", b"3")
        await site.add("iris", "1", b"2")
        await site.add("c", "1", b"5")
        assert (await change(site, round_decimals=2)).ok
        assert site.holders.of(ModelKey("b", "1")) == set()
        assert [await site.predict(1, model=model) for model in ("b", "iris", "c")] == [3.0, 2.0, 5.0]
        assert by(worker) == ModelSettings(round_decimals=2)
