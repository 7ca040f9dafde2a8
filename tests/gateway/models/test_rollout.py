"""Collaboration: the fleet moves to new weights, all or nothing; real gateway, fake workers, virtual time."""

from __future__ import annotations

import hashlib

import pytest
import trio

from common import wire
from common.errors import LinkError, NoWeights, PipelineError, StateError
from gateway.fleet.roster import State as Life
from gateway.models.switching import OLD_VERSION_GRACE, Rolled
from gateway.scheduling.requests import ModelKey
from tests.gateway.fakes import FakeWorker
from tests.gateway.site import NN, NN2, Asked, Site, open_site

pytestmark = pytest.mark.usefixtures("virtual_time")

TRACE = "Traceback\nLoadError: it does not fit"


def serves(site: Site) -> str | None:
    """The version that new requests are admitted under."""
    active = site.catalog.get("default")
    return None if active is None else active.key.version


def durable(site: Site) -> str | None:
    """The version that would serve after a restart."""
    record = site.state.active("default")
    return None if record is None else record.version


async def versions(site: Site, count: int = 20) -> set[str]:
    """Which versions answer now."""
    asked = [site.ask(n) for n in range(count)]
    for each in asked:
        await each.answer()
    return {each.version for each in asked}


# --- all …


async def test_new_weights_serve_on_every_worker_and_the_old_ones_are_forgotten():
    async with open_site() as site:
        workers = [await site.ready_worker() for _ in range(3)]
        assert await site.set_weights(b"2") == Rolled([(True, "")] * 3)
        assert await site.set_weights(b"3", NN2) == Rolled([(True, "")] * 3)
        assert await site.predict(1) == 3.0
        assert [worker.weights for worker in workers] == [{NN2: b"3"}] * 3
        assert (serves(site), durable(site)) == (NN2, NN2)
        for worker in workers:
            assert worker.asked(wire.Commit)[-1].version == NN2


async def test_the_same_weights_again_are_the_same_version():
    async with open_site() as site:
        worker = await site.ready_worker()
        await site.set_weights(b"2")
        assert (await site.set_weights(b"2")).ok
        assert (serves(site), worker.weights) == (NN, {NN: b"2"})
        assert worker.asked(wire.Drop) == []


async def test_other_weights_of_the_same_name_are_another_version():
    async with open_site() as site:
        worker = await site.ready_worker()
        await site.set_weights(b"2")
        await site.set_weights(b"3")
        version = f"{NN}.{hashlib.sha256(b'3').hexdigest()[:16]}"
        assert (serves(site), worker.weights) == (version, {version: b"3"})
        assert site.catalog.active().nn_id == NN
        await site.set_weights(b"2")  # and back
        assert (serves(site), worker.weights) == (NN, {NN: b"2"})


async def test_one_rollout_at_a_time_and_the_last_one_wins():
    async with open_site() as site:
        worker = await site.ready_worker(load_takes=1)
        rolled: list[Rolled] = []

        async def one(weights: bytes, nn_id: str) -> None:
            rolled.append(await site.set_weights(weights, nn_id))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(one, b"2", NN)
            await trio.sleep(0.1)
            nursery.start_soon(one, b"3", NN2)
        assert [each.ok for each in rolled] == [True, True]
        assert (serves(site), worker.weights) == (NN2, {NN2: b"3"})


# --- … or nothing


async def test_weights_that_one_worker_refuses_are_dropped_everywhere_and_the_old_ones_serve():
    async with open_site() as site:
        good, bad = await site.ready_worker(), await site.ready_worker(refuses={b"3"})
        await site.set_weights(b"2")
        rolled = await site.set_weights(b"3", NN2)
        assert not rolled.ok
        assert sorted(rolled.results) == [(False, TRACE), (True, "")]
        assert [worker.weights for worker in (good, bad)] == [{NN: b"2"}] * 2
        assert (serves(site), durable(site)) == (NN, NN)
        assert await versions(site) == {NN}
        assert all(NN2 not in [c.version for c in w.asked(wire.Commit)] for w in (good, bad))


async def test_refused_weights_do_not_keep_their_name():
    async with open_site() as site:
        await site.ready_worker()
        assert not (await site.set_weights(b"bad")).ok
        assert serves(site) is None
        assert site.state.versions("default") == []
        assert (await site.set_weights(b"2")).ok
        assert serves(site) == NN  # and not one with a digest behind it


async def test_refused_weights_that_served_before_stay_known():
    async with open_site() as site:
        worker = await site.ready_worker()
        await site.set_weights(b"2")
        await site.set_weights(b"3", NN2)
        worker.refuses.add(b"2")
        assert not (await site.set_weights(b"2")).ok
        assert [record.version for record in site.state.versions("default")] == [NN, NN2]
        assert await versions(site) == {NN2}


async def test_weights_that_serve_already_and_are_refused_now_serve_on():
    async with open_site() as site:
        first = await site.ready_worker()
        await site.set_weights(b"2")
        second = await site.ready_worker()
        second.refuses.add(b"2")
        assert not (await site.set_weights(b"2")).ok
        assert [worker.weights for worker in (first, second)] == [{NN: b"2"}] * 2
        assert await versions(site) == {NN}


async def test_a_worker_that_dies_while_it_loads_does_not_stop_the_rollout():
    async with open_site() as site:
        doomed, other = await site.ready_worker(load_takes=5), await site.ready_worker(load_takes=5)
        site.nursery.start_soon(site.set_weights, b"2")
        await trio.sleep(1)
        doomed.die()
        await site.until(lambda: serves(site) == NN)
        assert other.weights == {NN: b"2"}
        assert await site.predict(1) == 2.0


async def test_a_worker_that_is_there_and_does_not_answer_stops_it():
    async with open_site() as site:
        slow, other = await site.ready_worker(load_takes=1000), await site.ready_worker()
        rolled = await site.set_weights(b"2")
        assert sorted(rolled.results) == [(False, "the worker did not answer in time"), (True, "")]
        assert serves(site) is None
        assert other.weights == {}
        assert site.life(slow) is Life.READY


async def test_when_every_worker_dies_while_it_loads_the_weights_are_as_good_as_unchecked():
    async with open_site() as site:
        doomed = await site.ready_worker(load_takes=5)
        site.nursery.start_soon(site.set_weights, b"2")
        await trio.sleep(1)
        doomed.die()
        await site.until(lambda: serves(site) == NN)
        record = site.state.version("default", NN)
        assert record is not None
        assert not record.checked


# --- the state directory


async def test_weights_that_cannot_be_made_durable_do_not_serve_and_the_client_is_told(monkeypatch):
    async with open_site() as site:
        worker = await site.ready_worker()
        await site.set_weights(b"2")

        def full(*_: object) -> None:
            raise StateError("the disk is full")

        monkeypatch.setattr(site.state, "activate", full)
        with pytest.raises(StateError, match="the disk is full"):
            await site.set_weights(b"3", NN2)
        assert (serves(site), durable(site), worker.weights) == (NN, NN, {NN: b"2"})
        assert await versions(site) == {NN}
        monkeypatch.undo()
        assert (await site.set_weights(b"3", NN2)).ok


async def test_after_a_restart_the_same_weights_serve_and_nobody_uploads_anything(tmp_path):
    async with open_site(tmp_path) as site:
        await site.ready_worker()
        await site.set_weights(b"2")
        await site.set_weights(b"3", NN2)
    async with open_site(tmp_path) as site:
        assert serves(site) == NN2
        new = site.worker()
        old = site.worker(holds={NN2: b"3", NN: b"2"})
        assert await site.predict(1) == 3.0
        await site.ready(new, old)
        assert new.weights == old.weights == {NN2: b"3"}
        assert old.asked(wire.Load) == []


async def test_a_gateway_that_never_had_weights_has_none_after_a_restart(tmp_path):
    for _ in range(2):
        async with open_site(tmp_path) as site:
            await site.ready_worker()
            with pytest.raises(NoWeights, match="No weights loaded"):
                await site.predict(1)


# --- weights without a worker to check them


async def test_without_a_worker_weights_are_accepted_and_the_first_to_join_checks_them():
    async with open_site() as site:
        assert await site.set_weights(b"2") == Rolled([])
        assert serves(site) == NN
        assert not site.state.version("default", NN).checked
        await site.ready_worker()
        assert site.state.version("default", NN).checked
        assert await site.predict(1) == 2.0


async def test_unchecked_weights_that_do_not_load_give_way_to_those_before_them(caplog):
    async with open_site() as site:
        first = await site.ready_worker()
        await site.set_weights(b"2")
        first.die()
        await site.until_life(first, Life.GONE)
        assert await site.set_weights(b"bad", NN2) == Rolled([])
        assert serves(site) == NN2
        worker = await site.ready_worker()
        assert (serves(site), durable(site), worker.weights) == (NN, NN, {NN: b"2"})
        assert await site.predict(1) == 2.0
        assert "unchecked weights do not load: going back" in caplog.text


async def test_unchecked_weights_that_two_workers_meet_at_once_give_way_once():
    async with open_site() as site:
        first = await site.ready_worker()
        await site.set_weights(b"2")
        await site.set_weights(b"3", NN2)
        first.die()
        await site.until_life(first, Life.GONE)
        assert await site.set_weights(b"bad", "NN3") == Rolled([])
        await site.ready(*[site.worker(load_takes=1.0) for _ in range(3)])
        assert (serves(site), durable(site)) == (NN2, NN2)
        assert await site.predict(1) == 3.0


async def test_unchecked_weights_that_do_not_load_and_were_the_first_leave_none():
    async with open_site() as site:
        await site.set_weights(b"bad")
        await site.ready_worker()
        assert (serves(site), durable(site)) == (None, None)
        with pytest.raises(NoWeights):
            site.ask(1)
        assert (await site.set_weights(b"2", NN2)).ok


async def test_unchecked_weights_do_not_give_way_to_others_that_nobody_checked():
    async with open_site() as site:
        await site.set_weights(b"bad")
        await site.set_weights(b"bad too", NN2)
        await site.ready_worker()
        assert (serves(site), durable(site)) == (None, None)


async def test_unchecked_weights_that_give_way_keep_their_name_from_nobody():
    async with open_site() as site:
        await site.set_weights(b"bad")
        await site.ready_worker()
        assert (await site.set_weights(b"2")).ok
        assert await site.predict(1) == 2.0


async def test_checked_weights_that_one_worker_refuses_are_not_asked_of_it_and_it_serves_others():
    async with open_site() as site:
        good = await site.ready_worker()
        await site.set_weights(b"2")
        odd = await site.ready_worker(refuses={b"2"})
        assert await versions(site) == {NN}
        assert odd.batches == []
        assert site.life(good) is Life.READY
        await site.set_weights(b"3", NN2)  # which it takes
        assert odd.weights == {NN2: b"3"}


async def test_weights_are_checked_by_who_holds_them_already(tmp_path):
    async with open_site(tmp_path) as site:
        await site.set_weights(b"2")
        await site.ready_worker(holds={NN: b"2"})
        assert site.state.version("default", NN).checked


async def test_a_full_disk_keeps_no_worker_out(monkeypatch):
    async with open_site() as site:
        await site.set_weights(b"2")

        def full(*_: object) -> None:
            raise StateError("the disk is full")

        monkeypatch.setattr(site.state, "mark_checked", full)
        await site.ready_worker()
        assert await site.predict(1) == 2.0
        monkeypatch.undo()
        await site.ready_worker()
        assert site.state.version("default", NN).checked


# --- what requests see


async def test_requests_admitted_under_the_old_weights_are_answered_by_them():
    async with open_site() as site:
        worker = await site.ready_worker(slots=1)
        await site.set_weights(b"2")
        worker.hold()
        out = site.ask(1)
        await trio.testing.wait_all_tasks_blocked()
        waiting = site.ask(2)
        over = trio.Event()

        async def roll() -> None:
            await site.set_weights(b"3", NN2)
            over.set()

        site.nursery.start_soon(roll)
        await site.until(lambda: serves(site) == NN2)
        new = site.ask(2)
        await trio.sleep(5)
        assert not over.is_set()  # the old ones are not silent yet
        assert worker.weights == {NN: b"2", NN2: b"3"}
        worker.held.set()
        assert [await each.answer() for each in (out, waiting, new)] == [2.0, 4.0, 6.0]
        assert [each.version for each in (out, waiting, new)] == [NN, NN, NN2]
        await over.wait()
        assert worker.weights == {NN2: b"3"}


async def test_after_set_weights_returns_the_old_weights_never_answer_again():
    async with open_site() as site:
        workers = [await site.ready_worker(takes=0.02) for _ in range(3)]
        await site.set_weights(b"2")
        asked: list[tuple[float, Asked]] = []
        answered: list[tuple[float, Asked]] = []

        async def client(n: int) -> None:
            while True:
                each = site.ask(n)
                asked.append((trio.current_time(), each))
                await each.answer()
                answered.append((trio.current_time(), each))

        async with trio.open_nursery() as nursery:
            for n in range(20):
                nursery.start_soon(client, n)
            await trio.sleep(0.5)
            for n in range(5):
                await site.set_weights(b"%d" % (n + 3), NN2 if n % 2 == 0 else NN)
                rolled, version = trio.current_time(), serves(site)
                await trio.sleep(0.3)
                late = [each for when, each in answered if when > rolled]
                assert late
                assert {each.version for each in late} == {version}
                assert {each.replies[0] / (n + 3) for each in late} <= set(map(float, range(20)))
            nursery.cancel_scope.cancel()
        for _, each in asked:
            site.predictions.cancel(each.request)
        await trio.sleep(1)
        assert all(len(worker.weights) == 1 for worker in workers)


async def test_a_request_of_the_old_weights_whose_worker_dies_is_still_answered_by_them():
    async with open_site() as site:
        doomed = await site.ready_worker()
        await site.set_weights(b"2")
        doomed.hold()
        old = site.ask(1, seconds=60)
        await trio.testing.wait_all_tasks_blocked()
        site.nursery.start_soon(site.set_weights, b"3", NN2)
        await site.until(lambda: serves(site) == NN2)
        doomed.die()
        joined = await site.ready_worker()  # it is given what retires, too
        assert await old.answer() == 2.0
        assert (old.version, old.worker) == (NN, joined.name)
        await site.until(lambda: joined.weights == {NN2: b"3"})


async def test_an_old_request_that_never_ends_delays_the_answer_only_so_long():
    async with open_site() as site:
        worker = await site.ready_worker()
        await site.set_weights(b"2")
        worker.hold()
        old = site.ask(1, seconds=600)
        await trio.testing.wait_all_tasks_blocked()
        began = trio.current_time()
        await site.set_weights(b"3", NN2)
        assert trio.current_time() - began == pytest.approx(OLD_VERSION_GRACE, abs=1)
        assert worker.weights == {NN: b"2", NN2: b"3"}  # it is still needed
        worker.held.set()
        assert await old.answer() == 2.0
        await site.set_weights(b"4", "4" * 32)
        assert worker.weights == {"4" * 32: b"4"}


async def test_a_return_to_weights_that_still_retire_keeps_them():
    async with open_site() as site:
        worker = await site.ready_worker()
        await site.set_weights(b"2")
        worker.hold()
        old = site.ask(1, seconds=600)
        await trio.testing.wait_all_tasks_blocked()
        site.nursery.start_soon(site.set_weights, b"3", NN2)
        await site.until(lambda: serves(site) == NN2)
        site.nursery.start_soon(site.set_weights, b"2", NN)
        await site.until(lambda: serves(site) == NN)
        worker.held.set()
        assert await old.answer() == 2.0
        await site.until(lambda: worker.weights == {NN: b"2"})
        await trio.sleep(1)
        assert [drop.version for drop in worker.asked(wire.Drop)] == [NN2]
        assert await site.predict(5) == 10.0


# --- who joins meanwhile


async def test_a_worker_that_joins_during_a_rollout_holds_the_new_weights_before_it_serves():
    async with open_site() as site:
        await site.ready_worker(load_takes=3)
        site.nursery.start_soon(site.set_weights, b"2")
        await trio.sleep(1)
        late = site.worker()
        await trio.sleep(1)
        assert site.life(late) is Life.SYNCING  # one change at a time
        await site.ready(late)
        assert late.weights == {NN: b"2"}


async def test_a_rollout_waits_for_the_worker_that_is_just_being_synced():
    async with open_site() as site:
        await site.ready_worker()
        await site.set_weights(b"2")
        late = site.worker(load_takes=3)
        await site.until_life(late, Life.SYNCING)
        await trio.sleep(1)
        rolled = await site.set_weights(b"3", NN2)
        assert len(rolled.results) == 2
        assert late.weights == {NN2: b"3"}


async def test_workers_that_come_and_go_through_many_rollouts_never_answer_with_the_wrong_weights():
    async with open_site() as site:
        await site.ready_worker(takes=0.01)
        await site.set_weights(b"1")
        asked: list[Asked] = []

        async def clients() -> None:
            while True:
                asked.append(site.ask(1))
                await trio.sleep(0.003)

        async def comings_and_goings() -> None:
            while True:
                worker: FakeWorker = site.worker(takes=0.01)
                await trio.sleep(0.15)
                worker.die()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(clients)
            nursery.start_soon(comings_and_goings)
            for n in range(2, 12):
                assert (await site.set_weights(b"%d" % n, f"{n:032x}")).ok
                await trio.sleep(0.1)
            nursery.cancel_scope.cancel()
        for each in asked:
            answer = await each.answer()
            assert not isinstance(answer, PipelineError)
            assert answer == (1.0 if each.version == NN else float(int(each.version, 16)))
        assert len({each.version for each in asked}) == 11


async def test_a_fleet_that_cannot_be_told_serves_the_new_weights_all_the_same(monkeypatch, caplog):
    async with open_site() as site:
        worker = await site.ready_worker()
        await site.set_weights(b"2")
        tell = site.switching._fleet.surveys.ask

        async def failing(question, *how, **more):
            if isinstance(question, wire.Commit | wire.Drop):
                site.surveyor.broken = LinkError("no memory")
            try:
                return await tell(question, *how, **more)
            finally:
                site.surveyor.broken = None

        monkeypatch.setattr(site.fleet.surveys, "ask", failing)
        assert (await site.set_weights(b"3", NN2)).ok
        assert "the fleet could not be told" in caplog.text
        assert await site.predict(1) == 3.0
        assert worker.weights == {NN: b"2", NN2: b"3"}
        monkeypatch.undo()
        worker.break_link()  # whenever it comes back, it is put right
        await site.until(lambda: worker.weights == {NN2: b"3"})


async def test_what_is_served_is_what_serves_and_what_retires():
    async with open_site() as site:
        await site.ready_worker()
        await site.set_weights(b"2")
        assert site.switching.is_served(ModelKey("default", NN))
        assert not site.switching.is_served(ModelKey("default", NN2))
        assert not site.switching.is_served(ModelKey("another", NN))


async def test_a_worker_that_does_not_load_a_version_in_time_refuses_it_and_the_version_stays():
    async with open_site() as site:
        await site.set_weights(b"2")
        slow = await site.ready_worker(load_takes=1000)
        assert site.holders.refusals.of(ModelKey("default", NN)) == {slow.id: "it did not load it in time"}
        assert serves(site) == NN
