"""Collaboration: which worker holds which model as workers come and go; real gateway, fake workers, virtual
time."""

from __future__ import annotations

import pytest
import trio

from common import wire
from common.errors import DeadlineExceeded, LinkError, NoWorker
from gateway.fleet.roster import State as Life
from gateway.models.placement import place
from gateway.scheduling.queues import Limits
from gateway.scheduling.requests import ModelKey
from tests.gateway.fakes import FakeWorker
from tests.gateway.site import Asked, Site, open_site

pytestmark = pytest.mark.usefixtures("virtual_time")

IRIS = ModelKey("iris", "1")


def holding(name: str, *workers: FakeWorker) -> list[FakeWorker]:
    """The workers that have a version loaded."""
    return [worker for worker in workers if name in worker.weights]


def ask(site: Site, model: str, count: int = 20) -> list[Asked]:
    """Rows that would be spread over every worker that may be asked."""
    return [site.ask(n, model=model) for n in range(count)]


async def workers_that_answer(site: Site, model: str) -> set[str]:
    asked = ask(site, model)
    for each in asked:
        assert isinstance(await each.answer(), float)
    return {each.worker for each in asked}


def id_that_wins(model: str, *, over: FakeWorker) -> str:
    """The id of a worker that takes the one place of a model from another."""
    ids = (f"{n:032x}" for n in range(1000))
    return next(each for each in ids if place(model, 1, {each: [], over.id: []}) == {each})


# --- several at once


async def test_workers_that_join_together_load_together_and_a_rollout_waits_for_them():
    async with open_site() as site:
        await site.ready_worker()
        await site.set_weights(b"2")
        began = trio.current_time()
        await site.ready(*[site.worker(load_takes=10.0) for _ in range(5)])
        assert 10 <= trio.current_time() - began < 11
        site.worker(load_takes=10.0)
        await trio.sleep(5)
        began = trio.current_time()
        assert (await site.set_weights(b"3", "other")).ok
        assert 14 <= trio.current_time() - began < 16  # what was left of its load, and a load of its own


# --- so many instances


async def test_a_model_of_one_instance_is_on_one_worker_and_only_that_one_is_asked():
    async with open_site() as site:
        workers = [await site.ready_worker() for _ in range(3)]
        assert (await site.add("iris", "1", b"2", instances=1)).results == [(True, "")]
        (holder,) = holding("iris/1", *workers)
        assert site.holders.of(IRIS) == {holder.id}
        assert await workers_that_answer(site, "iris") == {holder.name}
        await site.set_weights(b"3")
        assert len(await workers_that_answer(site, "default")) == 3


async def test_when_the_only_holder_dies_another_loads_the_model_and_what_waited_is_answered():
    async with open_site() as site:
        workers = [await site.ready_worker(load_takes=0.5) for _ in range(3)]
        await site.add("iris", "1", b"2", instances=1)
        (holder,) = holding("iris/1", *workers)
        others = [worker for worker in workers if worker is not holder]
        holder.hold()
        asked = ask(site, "iris")
        await trio.sleep(0.1)
        holder.die()
        assert [await each.answer() for each in asked] == [2.0 * n for n in range(20)]
        (heir,) = holding("iris/1", *others)
        assert {each.worker for each in asked} == {heir.name}
        assert site.holders.of(IRIS) == {heir.id}


async def test_what_a_leaving_worker_held_is_loaded_elsewhere():
    async with open_site() as site:
        workers = [await site.ready_worker() for _ in range(2)]
        await site.add("iris", "1", b"2", instances=1)
        (holder,) = holding("iris/1", *workers)
        holder.says_draining = True
        await site.until_life(holder, Life.DRAINING)
        assert await site.predict(1, model="iris") == 2.0
        assert len(holding("iris/1", *workers)) == 2


async def test_a_version_that_retires_is_loaded_elsewhere_too_while_somebody_waits_for_it():
    async with open_site() as site:
        workers = [await site.ready_worker() for _ in range(2)]
        await site.add("iris", "1", b"2", instances=1)
        (holder,) = holding("iris/1", *workers)
        holder.hold()
        asked = site.ask(1, model="iris")
        await site.add("iris", "2", b"3", instances=1, keep_versions=2)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(site.rollouts.activate, "iris", "2")
            await site.until(lambda: site.catalog.active("iris").key.version == "2")
            nursery.start_soon(site.rollouts.remove, "iris", "1")
            await site.until(lambda: IRIS in site.switching.retiring)
            holder.die()
            assert await asked.answer() == 2.0
            assert asked.version == "1"
        assert holding("iris/1", *workers) == [holder]  # who has died; the heir has forgotten it


async def test_a_placement_that_fails_is_tried_again():
    async with open_site() as site:
        first, second = [await site.ready_worker() for _ in range(2)]
        await site.add("iris", "1", b"2", instances=1)
        (holder,) = holding("iris/1", first, second)
        heir = second if holder is first else first
        heir.refuses.add(b"2")
        holder.die()
        await site.until_life(holder, Life.GONE)
        assert isinstance(await site.predict(1, seconds=1, model="iris"), NoWorker)
        heir.refuses.clear()
        await site.until(lambda: site.holders.of(IRIS) == {heir.id})
        assert await site.predict(1, model="iris") == 2.0


async def test_while_a_placement_fails_what_another_death_leaves_finds_its_place_at_once():
    async with open_site() as site:
        iris = [await site.ready_worker(models=("iris",)) for _ in range(2)]
        mnist = [await site.ready_worker(models=("mnist",)) for _ in range(2)]
        await site.add("iris", "1", b"2", instances=1)
        await site.add("mnist", "1", b"3", instances=1)
        for worker in iris:
            worker.refuses.add(b"2")
        (holder,) = holding("iris/1", *iris)
        holder.die()
        await site.until_life(holder, Life.GONE)
        (holder,) = holding("mnist/1", *mnist)
        holder.die()
        assert await site.predict(1, seconds=0.5, model="mnist") == 3.0


async def test_a_survey_that_cannot_be_asked_does_not_end_the_placing_of_models():
    async with open_site() as site:
        workers = [await site.ready_worker() for _ in range(2)]
        await site.add("iris", "1", b"2", instances=1)
        (holder,) = holding("iris/1", *workers)
        site.surveyor.broken = LinkError("no memory")
        holder.die()
        await trio.sleep(1)
        site.surveyor.broken = None
        await site.until(lambda: len(site.holders.of(IRIS)) == 1)
        assert await site.predict(1, model="iris") == 2.0


# --- a place that is taken over


async def test_a_worker_that_takes_over_a_place_holds_the_model_alone():
    async with open_site() as site:
        old = await site.ready_worker()
        await site.set_weights(b"5")
        await site.add("iris", "1", b"2", instances=1)
        new = await site.ready_worker(worker_id=id_that_wins("iris", over=old))
        await site.until(lambda: "iris/1" not in old.weights)
        assert site.holders.of(IRIS) == {new.id}
        assert await workers_that_answer(site, "iris") == {new.name}
        drops = [(drop.workers, drop.model, drop.version) for drop in old.asked(wire.Drop)]
        assert drops == [([old.id], "iris", "1")]
        assert new.asked(wire.Drop) == []
        assert await workers_that_answer(site, "default") == {old.name, new.name}


async def test_the_old_holder_keeps_its_copy_until_it_has_answered_what_it_was_sent():
    async with open_site() as site:
        old = await site.ready_worker()
        await site.add("iris", "1", b"2", instances=1)
        old.hold()
        flying = ask(site, "iris", 3)
        await trio.sleep(0.1)
        new = await site.ready_worker(worker_id=id_that_wins("iris", over=old))
        await site.until(lambda: site.holders.of(IRIS) == {new.id})
        later = ask(site, "iris", 3)
        assert [await each.answer() for each in later] == [0.0, 2.0, 4.0]
        assert {each.worker for each in later} == {new.name}
        await trio.sleep(1)
        assert old.asked(wire.Drop) == []
        old.held.set()
        assert [await each.answer() for each in flying] == [0.0, 2.0, 4.0]
        await site.until(lambda: old.weights == {})


async def test_a_worker_that_is_needed_again_before_it_forgot_keeps_its_copy():
    async with open_site() as site:
        old = await site.ready_worker()
        await site.add("iris", "1", b"2", instances=1)
        old.hold()
        flying = site.ask(1, model="iris")
        await trio.sleep(0.1)
        new = await site.ready_worker(worker_id=id_that_wins("iris", over=old))
        await site.until(lambda: site.holders.of(IRIS) == {new.id})
        new.die()
        await site.until(lambda: site.holders.of(IRIS) == {old.id})
        old.held.set()
        assert await flying.answer() == 2.0
        await trio.sleep(1)
        assert old.asked(wire.Drop) == []
        assert await site.predict(3, model="iris") == 6.0


async def test_a_place_is_not_taken_over_by_a_worker_that_refuses_the_model():
    async with open_site() as site:
        old = await site.ready_worker()
        await site.add("iris", "1", b"2", instances=1)
        new = site.worker(worker_id=id_that_wins("iris", over=old), refuses={b"2"})
        await site.ready(new)
        assert site.holders.refusals.of(IRIS) == {new.id: "it does not fit"}
        assert await workers_that_answer(site, "iris") == {old.name}
        rolled = await site.add("iris", "2", b"3", instances=1)
        assert rolled.results == [(True, "")]
        assert "iris/2" in new.weights  # this one it takes


# --- who may hold what


async def test_a_worker_with_name_patterns_never_gets_other_models():
    async with open_site() as site:
        any_model = await site.ready_worker()
        await site.set_weights(b"2")
        await site.add("text-short", "1", b"3")
        picky = await site.ready_worker(models=("iris", "text-*"))
        assert await workers_that_answer(site, "default") == {any_model.name}
        await site.add("iris", "1", b"4")
        await site.add("mnist", "1", b"5")
        await site.set_weights(b"6", "f" * 32)
        assert sorted(picky.weights) == ["iris/1", "text-short/1"]
        assert sorted(any_model.weights) == ["f" * 32, "iris/1", "mnist/1", "text-short/1"]
        assert {load.key.model for load in picky.asked(wire.Load)} == {"iris", "text-short"}
        for model, workers in (
            ("default", {any_model.name}),
            ("mnist", {any_model.name}),
            ("iris", {any_model.name, picky.name}),
            ("text-short", {any_model.name, picky.name}),
        ):
            assert await workers_that_answer(site, model) == workers


async def test_nor_a_version_that_retires_as_it_joins():
    async with open_site() as site:
        first = await site.ready_worker()
        await site.set_weights(b"2")
        first.hold()
        asked = site.ask(1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(site.set_weights, b"3", "f" * 32)
            await site.until(lambda: bool(site.switching.retiring))
            picky = await site.ready_worker(models=("iris",))
            assert picky.asked(wire.Load) == []
            first.held.set()
        assert await asked.answer() == 2.0


async def test_a_model_that_no_worker_may_hold_is_accepted_and_its_requests_wait_for_one_that_may():
    async with open_site() as site:
        await site.ready_worker(models=("mnist",))
        assert (await site.add("iris", "1", b"2")).results == []
        assert str(await site.predict(1, model="iris")) == "No live worker"
        asked = site.ask(1, model="iris")
        late = await site.ready_worker(models=("iris",))
        assert await asked.answer() == 2.0
        assert asked.worker == late.name


# --- who comes late, or back


async def test_a_worker_that_joins_late_holds_what_it_should_before_it_is_asked():
    async with open_site() as site:
        first = await site.ready_worker()
        await site.add("iris", "1", b"2")
        await site.add("mnist", "1", b"3")
        late = site.worker(load_takes=0.5)
        await site.until_life(late, Life.SYNCING)
        assert await workers_that_answer(site, "iris") == {first.name}
        assert late.batches == []
        await site.ready(late)
        assert sorted(late.weights) == ["iris/1", "mnist/1"]
        assert await workers_that_answer(site, "iris") == {first.name, late.name}


async def test_a_worker_that_comes_with_what_it_should_not_hold_is_told_to_forget_it():
    async with open_site() as site:
        await site.ready_worker()
        await site.add("iris", "1", b"2")
        late = await site.ready_worker(holds={"iris/0": b"9", "iris/1": b"2", "mnist/1": b"9"})
        assert late.weights == {"iris/1": b"2"}
        assert late.asked(wire.Load) == []  # what it had already


async def test_what_a_worker_says_that_a_model_takes_is_known_from_then_on():
    async with open_site() as site:
        await site.add("iris", "1", b"2")  # while there is nobody to ask
        assert site.catalog.find("iris", "1").inputs == ()
        spec = wire.TensorSpec("x", "FP64", (2,))
        await site.ready_worker(inputs=(spec,))
        assert site.catalog.find("iris", "1").inputs == (spec,)
        record = site.state.version("iris", "1")
        assert record is not None
        assert (record.checked, record.inputs) == (True, (spec,))


# --- what a model's settings say of its requests


async def test_a_models_batches_queue_and_waits_are_those_of_its_settings():
    async with open_site() as site:
        worker = await site.ready_worker()
        await site.add("iris", "1", b"2", max_batch=3, max_wait_ms=200, queue_max=4, affinity=False)
        asked = ask(site, "iris", 4)
        with pytest.raises(Exception, match=r"^Server is busy$"):
            site.ask(5, model="iris")
        await trio.sleep(0.15)
        assert [numbers for _, numbers in worker.batches] == [[0, 1, 2]]  # it was full
        assert [await each.answer() for each in asked] == [0.0, 2.0, 4.0, 6.0]
        assert [numbers for _, numbers in worker.batches] == [[0, 1, 2], [3]]
        assert asked[0].request.route is None


async def test_a_request_that_names_no_deadline_has_its_models():
    async with open_site() as site:
        worker = await site.ready_worker(takes=5)
        await site.add("iris", "1", b"2", timeout=1.5)
        before = trio.current_time()
        assert isinstance(await site.predict(1, model="iris"), DeadlineExceeded)
        assert 1.5 <= trio.current_time() - before < 1.6
        assert await site.predict(1, model="iris", seconds=9) == 2.0
        assert len(worker.batches) == 2


@pytest.mark.parametrize(
    ("settings", "routed"), [({}, True), ({"cache_size": 0}, False), ({"affinity": False}, False)]
)
async def test_equal_rows_go_to_one_worker_unless_the_model_has_no_cache_or_says_otherwise(settings, routed):
    async with open_site() as site:
        await site.ready_worker()
        await site.add("iris", "1", b"2", **settings)
        asked = site.ask(1, model="iris")
        assert (asked.request.route is not None) is routed
        await asked.answer()


async def test_a_models_limits_are_those_of_its_active_version_also_after_a_restart(tmp_path):
    async with open_site(tmp_path) as site:
        await site.add("iris", "1", b"2", max_batch=9, queue_max=7)
        await site.add("iris", "2", b"3", max_batch=5, max_wait_ms=20)
        assert site.scheduler.limits["iris"] == Limits(9, 0.0, 7)
        await site.rollouts.activate("iris", "2")
        assert site.scheduler.limits["iris"] == Limits(5, 0.02, None)
        await site.add("iris", "3", b"4", max_batch=6)
    async with open_site(tmp_path) as site:
        assert site.scheduler.limits["iris"] == Limits(5, 0.02, None)


async def test_a_model_may_have_no_more_rows_in_a_batch_than_the_gateway_allows():
    async with open_site() as site:
        await site.add("iris", "1", b"2", max_batch=1000)
        assert site.scheduler.limits["iris"] == Limits(64, 0.0, None)
