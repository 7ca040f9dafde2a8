"""Collaboration: versions that made room for others and are loaded on demand, and workers that refuse one;
real gateway, fake workers, virtual time."""

from __future__ import annotations

from collections import Counter

import pytest
import trio

from common import wire
from common.errors import DeadlineExceeded, LinkError, NoWorker
from gateway.fleet.roster import State as Life
from gateway.models.placement import place
from gateway.models.refusals import Refusals
from gateway.scheduling.requests import ModelKey
from tests.gateway.fakes import FakeWorker
from tests.gateway.site import Asked, Site, open_site

pytestmark = pytest.mark.usefixtures("virtual_time")

A, B, C = ModelKey("a", "1"), ModelKey("b", "1"), ModelKey("c", "1")
FACTORS = {"a": 2.0, "b": 3.0, "c": 5.0}


async def add_three(site: Site, **settings: object) -> None:
    for model, factor in FACTORS.items():
        assert (await site.add(model, "1", b"%d" % factor, **settings)).ok


def loads(worker: FakeWorker) -> list[str]:
    return [load.key.model for load in worker.asked(wire.Load)]


async def check_answers(asked: list[tuple[str, int, Asked]]) -> None:
    for model, number, each in asked:
        assert await each.answer() == FACTORS[model] * number


# --- on demand


async def test_a_version_that_made_room_for_another_is_loaded_again_when_it_is_asked_for():
    async with open_site() as site:
        worker = await site.ready_worker(room=2, load_takes=0.5)
        await add_three(site)
        assert set(worker.weights) == {"b/1", "c/1"}
        assert [site.holders.of(key) for key in (A, B, C)] == [set(), {worker.id}, {worker.id}]
        asked = [site.ask(n, model="a") for n in range(20)]
        assert await site.predict(1, model="c") == 5.0
        assert trio.current_time() < asked[0].request.admitted + 0.1  # while the other one loads
        assert [await each.answer() for each in asked] == [2.0 * n for n in range(20)]
        assert loads(worker) == ["a", "b", "c", "a"]  # once, whoever asks
        assert worker.asked(wire.Load)[-1].awaited
        assert not worker.asked(wire.Load)[-2].awaited
        assert site.holders.of(B) == set()


async def test_nobody_is_loaded_whom_nobody_asks_for():
    async with open_site() as site:
        worker = await site.ready_worker(room=1)
        await add_three(site)
        await trio.sleep(1000)
        assert loads(worker) == ["a", "b", "c"]


async def test_a_load_on_demand_that_takes_longer_than_a_worker_is_waited_for_costs_nobody_an_error():
    async with open_site(timeout=60.0) as site:
        worker = await site.ready_worker(room=1)
        await add_three(site)
        worker.load_takes = 20
        assert await site.predict(1, model="a") == 2.0


async def test_who_waits_for_a_load_is_told_when_his_own_time_is_over():
    async with open_site() as site:
        worker = await site.ready_worker(room=1)
        await add_three(site)
        worker.load_takes = 20
        asked = site.ask(1, model="a", seconds=8)
        before = trio.current_time()
        assert isinstance(await asked.answer(), DeadlineExceeded)
        assert 8 <= trio.current_time() - before < 8.1


async def test_three_models_in_the_room_of_one_take_turns_and_everybody_is_answered():
    async with open_site() as site:
        worker = await site.ready_worker(room=1, load_takes=0.05, takes=0.01)
        await add_three(site)
        asked = []
        for n in range(60):
            model = "abc"[n % 3]
            asked.append((model, n, site.ask(n, model=model)))
            await trio.sleep(0.01)
        await check_answers(asked)
        assert Counter(loads(worker)).total() < 30


async def test_an_eviction_that_nobody_was_told_of_is_found_out_and_costs_no_request_and_no_link():
    async with open_site() as site:
        worker = await site.ready_worker(room=1)
        worker.tells_evicted = False
        await add_three(site)
        assert site.holders.of(A) == {worker.id}  # as far as the gateway knows
        asked = site.ask(1, model="a")
        assert await asked.answer() == 2.0
        assert asked.request.strikes == 0
        assert site.life(worker) is Life.READY
        assert loads(worker) == ["a", "b", "c", "a"]
        figures = site.statistics.of(A)
        assert (figures.success.count, figures.fail.count) == (1, 0)


async def test_a_worker_that_forgets_whatever_it_loads_is_not_asked_in_a_tight_loop():
    async with open_site() as site:
        worker = await site.ready_worker()
        await site.add("a", "1", b"2")
        loading = worker._load

        async def load_and_forget(message, buffers):
            answer = await loading(message, buffers)
            worker.weights.clear()
            return answer

        worker._load = load_and_forget
        worker.weights.clear()
        assert isinstance(await site.predict(1, model="a", seconds=2), DeadlineExceeded)
        assert len(loads(worker)) < 25


async def test_of_several_workers_the_one_that_is_best_for_a_version_loads_it():
    async with open_site() as site:
        workers = [await site.ready_worker(room=1) for _ in range(4)]
        await add_three(site)
        before = [len(loads(worker)) for worker in workers]
        assert await site.predict(1, model="a") == 2.0
        (best,) = place("a", 1, {worker.id: [] for worker in workers})
        assert [len(loads(w)) - n for w, n in zip(workers, before, strict=True)] == [
            int(worker.id == best) for worker in workers
        ]


async def test_a_worker_that_dies_while_it_loads_on_demand_leaves_it_to_the_next_best():
    async with open_site() as site:
        workers = [await site.ready_worker(room=1) for _ in range(2)]
        await add_three(site)
        for worker in workers:
            worker.load_takes = 1
        asked = site.ask(1, model="a")
        await trio.sleep(0.5)
        (loading,) = [worker for worker in workers if worker.asked(wire.Load)[-1].awaited]
        loading.die()
        assert await asked.answer() == 2.0
        assert asked.worker != loading.name


async def test_while_a_rollout_takes_its_time_another_model_is_loaded_on_demand():
    async with open_site() as site:
        slow, quick = [await site.ready_worker(models=(model,), room=1) for model in ("slow", "a")]
        await site.add("a", "1", b"2")
        site.holders.evict(site.catalog.active("a"), quick.id)
        quick.weights.clear()
        slow.load_takes = 25
        site.nursery.start_soon(site.add, "slow", "1", b"7")
        await trio.sleep(1)
        before = trio.current_time()
        assert await site.predict(1, model="a") == 2.0
        assert trio.current_time() - before < 1


async def test_a_version_that_is_removed_while_it_is_loaded_on_demand_is_dropped():
    async with open_site() as site:
        worker = await site.ready_worker(room=2)
        await site.add("a", "1", b"2")
        await site.add("a", "2", b"3")
        await site.rollouts.activate("a", "2")
        site.holders.evict(site.catalog.find("a", "1"), worker.id)
        worker.weights.pop("a/1")
        worker.load_takes = 3
        request = site.predictions.start(
            site.catalog.find("a", "1"), (wire.TensorSpec("vector", "FP32", (1,)),), (b"\0\0\0\0",), 1, 1,
            lambda answer: None, door="test",
        )  # fmt: skip
        await trio.sleep(0.5)
        site.predictions.cancel(request)
        await site.rollouts.remove("a", "1")
        await trio.sleep(5)
        assert set(worker.weights) == {"a/2"}


async def test_a_worker_that_joins_is_given_what_it_has_room_for_and_the_rest_on_demand():
    async with open_site() as site:
        await add_three(site)
        for version in site.catalog.all():
            site.state.mark_checked(*version.key, (), ())
        for n in range(20):
            await site.add(f"more-{n}", "1", b"7")
            site.state.mark_checked(f"more-{n}", "1", (), ())
        worker = await site.ready_worker(room=2)
        assert loads(worker) == ["a", "b", "c"]  # the third one showed that it is full
        assert await site.predict(1, model="more-7") == 7.0
        assert await site.predict(1, model="a") == 2.0


# --- refusals


async def test_a_worker_that_refuses_one_model_serves_the_others(caplog):
    async with open_site() as site:
        first = await site.ready_worker()
        await add_three(site)
        odd = await site.ready_worker("odd", refuses={b"3"})
        assert set(odd.weights) == {"a/1", "c/1"}
        assert site.holders.refusals.of(B) == {odd.id: "it does not fit"}
        for n in range(20):
            asked = site.ask(n, model="b")
            assert await asked.answer() == 3.0 * n
            assert asked.worker == first.name
        first.die()
        assert [await site.predict(1, model=model) for model in "ac"] == [2.0, 5.0]
        error = await site.predict(1, model="b")
        assert isinstance(error, NoWorker)
        assert str(error) == "No worker can load version 1 of b: it does not fit"
        await trio.sleep(1000)
        assert 5 < loads(odd).count("b") < 15  # it is tried again, seldom and more seldom
        assert caplog.text.count("worker refuses a version worker=odd") == 1


async def test_a_refusal_that_has_a_reason_that_goes_ends_by_itself():
    async with open_site() as site:
        await site.ready_worker()
        await add_three(site)
        odd = await site.ready_worker(refuses={b"3"})
        odd.refuses.clear()
        await site.until(lambda: "b/1" in odd.weights)
        assert site.holders.refusals.of(B) == {}


async def test_a_worker_that_comes_back_is_asked_anew():
    async with open_site() as site:
        await site.ready_worker()
        await add_three(site)
        odd = await site.ready_worker(refuses={b"3"})
        await trio.sleep(100)
        count = loads(odd).count("b")
        odd.break_link()
        await site.until(lambda: loads(odd).count("b") > count)
        await site.ready(odd)


async def test_where_the_best_worker_refuses_a_model_of_one_instance_the_next_best_holds_it():
    async with open_site() as site:
        workers = [await site.ready_worker() for _ in range(4)]
        await site.add("a", "1", b"2", instances=1)
        (holder,) = [worker for worker in workers if worker.weights]
        others = {worker.id: worker for worker in workers if worker is not holder}
        (best,) = place("a", 1, {worker: [] for worker in others})
        others[best].refuses.add(b"2")
        (second,) = place("a", 2, {worker: [] for worker in others}) - {best}
        holder.die()
        await site.until(lambda: site.holders.of(A) == {second})
        assert await site.predict(1, model="a") == 2.0
        await trio.sleep(100)
        assert site.holders.of(A) == {second}


async def test_an_upload_of_so_many_instances_passes_over_who_refuses_it():
    async with open_site() as site:
        workers = {worker.id: worker for worker in [await site.ready_worker() for _ in range(4)]}
        (best,) = place("a", 1, {worker: [] for worker in workers})
        workers[best].refuses.add(b"2")
        assert (await site.add("a", "1", b"2", instances=2)).results == [(True, "")] * 2
        assert site.holders.of(A) == place("a", 3, {worker: [] for worker in workers}) - {best}
        assert site.holders.refusals.of(A) == {best: "it does not fit"}
        assert await site.predict(1, model="a") == 2.0


async def test_an_upload_that_everybody_refuses_is_refused_and_leaves_nothing():
    async with open_site() as site:
        for _ in range(3):
            await site.ready_worker()
        rolled = await site.add("a", "1", b"bad", instances=1)
        assert [loaded for loaded, _ in rolled.results] == [False] * 3
        assert site.holders.refusals.of(A) == {}
        assert site.catalog.all() == []


async def test_a_load_elsewhere_that_takes_long_costs_no_waiting_request_a_503():
    async with open_site(timeout=60.0) as site:
        workers = [await site.ready_worker() for _ in range(2)]
        await site.add("a", "1", b"2", instances=1)
        (holder,) = [worker for worker in workers if worker.weights]
        for worker in workers:
            worker.load_takes = 20
        holder.die()
        await site.until_life(holder, Life.GONE)
        assert await site.predict(1, model="a") == 2.0


async def test_nor_does_a_worker_that_joins_and_loads_for_long():
    async with open_site(timeout=60.0) as site:
        await add_three(site)
        site.worker(load_takes=4)
        await site.until(lambda: bool(site.fleet.ids(Life.SYNCING)))
        assert await site.predict(1, model="c") == 5.0


async def test_a_load_on_demand_that_is_refused_answers_whoever_waits_and_is_not_repeated_for_each():
    async with open_site() as site:
        worker = await site.ready_worker(room=1)
        await add_three(site)
        worker.refuses.add(b"2")
        before = trio.current_time()
        asked = [site.ask(n, model="a") for n in range(10)]
        errors = [str(await each.answer()) for each in asked]
        errors += [str(await site.predict(1, model="a")) for _ in range(10)]
        assert set(errors) == {"No worker can load version 1 of a: it does not fit"}
        assert trio.current_time() - before < 1
        assert loads(worker).count("a") == 2  # with the first one, which was fine
        worker.refuses.clear()
        await trio.sleep(5)
        assert await site.predict(1, model="a") == 2.0


async def test_a_load_on_demand_that_cannot_even_be_asked_is_an_error_and_no_end():
    async with open_site() as site:
        await site.ready_worker(room=1)
        await add_three(site)
        site.surveyor.broken = LinkError("no memory")
        assert str(await site.predict(1, model="a")).endswith("1 of a: no memory")
        site.surveyor.broken = None
        await trio.sleep(6)
        assert await site.predict(1, model="a") == 2.0


def test_a_refusing_worker_is_asked_again_after_pauses_that_double():
    refusals = Refusals()
    assert refusals.add(A, "w", "no", 0.0)
    assert (refusals.spared(A, 4.9), refusals.spared(A, 5.0)) == ({"w"}, set())
    assert not refusals.add(A, "w", "still no", 5.0)
    assert (refusals.spared(A, 14.9), refusals.next_due(5.0), refusals.next_due(15.0)) == (
        {"w"}, 15.0, float("inf")
    )  # fmt: skip
    assert refusals.of(A) == {"w": "still no"}
    for _ in range(10):
        refusals.add(A, "w", "no", 100.0)
    assert refusals.next_due(100.0) == 400.0
    refusals.forget_worker("w")
    assert refusals.of(A) == refusals.of(B) == {}
    assert refusals.add(A, "w", "no", 500.0)
    assert refusals.next_due(500.0) == 505.0
