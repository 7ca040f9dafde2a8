"""Collaboration: workers come, fall silent, come back and leave; real gateway, fake workers, virtual time."""

from __future__ import annotations

import pytest
import trio

from common import wire
from common.errors import LinkError
from common.link.fake import FakeLink, FakePeer
from gateway.bell import Bell
from gateway.fleet import fleet
from gateway.fleet.fleet import HEARTBEAT, HELLO_GAP, LINK_TIME, MAX_SLOTS, RETRY_MIN, SILENCE
from gateway.fleet.roster import State as Life
from tests.gateway.fakes import SERVICE, FakeWorker
from tests.gateway.site import NN, NN2, Site, open_site

pytestmark = pytest.mark.usefixtures("virtual_time")

NOTICED = SILENCE + 2 * HEARTBEAT  # when a silence is surely noticed


# --- coming


async def test_a_worker_that_comes_is_synced_and_ready_at_once():
    async with open_site() as site:
        await site.set_weights(b"2")
        came = trio.current_time()
        worker = await site.ready_worker()
        assert trio.current_time() - came < 0.1
        assert worker.weights == {NN: b"2"}
        assert await site.predict(1, 2) == 6.0


async def test_a_late_joiner_is_sent_nothing_before_it_holds_what_serves():
    async with open_site() as site:
        first = await site.ready_worker()
        await site.set_weights(b"2")
        late = site.worker(load_takes=3)
        await site.until_life(late, Life.SYNCING)
        for n in range(20):
            assert await site.predict(n) == 2 * n
        assert late.batches == []
        first.die()  # and not even when there is nobody else
        asked = site.ask(5)
        await site.until_life(late, Life.READY)
        assert await asked.answer() == 10.0
        assert asked.worker == late.name


async def test_a_worker_that_holds_what_serves_is_not_sent_it_again():
    async with open_site() as site:
        await site.set_weights(b"2")
        worker = await site.ready_worker(holds={NN: b"2"})
        assert worker.asked(wire.Load) == []
        assert await site.predict(1) == 2.0


async def test_versions_that_nobody_serves_are_taken_from_a_joining_worker():
    async with open_site() as site:
        await site.set_weights(b"2")
        worker = await site.ready_worker(holds={NN: b"other bytes", NN2: b"3"})
        assert worker.weights == {NN: b"2"}


async def test_a_worker_that_does_not_find_its_link_is_told_again_and_says_why_it_is_out():
    async with open_site() as site:
        worker = site.worker(finds_link=False)
        await trio.sleep(3 * LINK_TIME + 1)
        assert site.life(worker) is Life.JOINING
        assert site.trouble(worker) == f"it has not connected to its link, mem://link/{worker.id}"
        assert 3 <= len(worker.asked(wire.LinkUp)) <= 4
        worker.finds_link = True
        await site.ready(worker)
        assert site.trouble(worker) == ""


async def test_a_worker_without_a_link_is_in_trouble_and_tried_again(monkeypatch, caplog):
    async with open_site() as site:
        real = site.network.listen_link
        monkeypatch.setattr(site.network, "listen_link", lambda *_: 1 / 0)
        worker = site.worker()
        await trio.sleep(5)
        assert site.life(worker) is Life.JOINING
        assert site.trouble(worker) == "division by zero"
        assert len([r for r in caplog.records if "no link for a worker" in r.message]) == 1  # not ten times
        monkeypatch.setattr(site.network, "listen_link", real)
        await site.ready(worker)


@pytest.mark.parametrize(("says", "slots"), [(0, 1), (3, 3), (10_000, MAX_SLOTS)])
async def test_a_worker_has_as_many_batches_at_once_as_it_says_within_reason(says, slots):
    async with open_site() as site:
        worker = await site.ready_worker(slots=says)
        await site.set_weights(b"2")
        worker.hold()
        asked = []
        for n in range(slots + 5):
            asked.append(site.ask(n))
            await trio.testing.wait_all_tasks_blocked()
        assert worker.in_hand == slots
        worker.held.set()
        assert [await each.answer() for each in asked] == [2.0 * n for n in range(slots + 5)]
        assert worker.most_in_hand == slots


# --- the bell


async def test_a_ring_while_nobody_listens_is_kept_for_the_next_who_does():
    bell = Bell()
    bell.ring()
    bell.ring()
    with trio.fail_after(1):
        await bell.wait()
    with trio.move_on_after(1) as scope:
        await bell.wait()  # two rings were one
    assert scope.cancelled_caught
    bell.ring()
    with trio.CancelScope() as scope:
        scope.cancel()
        await bell.wait()
    with trio.fail_after(1):
        await bell.wait()  # who was cancelled took nothing


async def test_many_rings_in_one_instant_are_one_hello():
    async with open_site() as site:
        worker = await site.ready_worker()
        await trio.sleep(HEARTBEAT / 2)
        before = len(worker.asked(wire.Hello))
        for _ in range(1000):
            site.came.ring()
        await trio.sleep(HELLO_GAP / 2)
        assert len(worker.asked(wire.Hello)) == before + 1


async def test_a_stranger_that_comes_and_goes_all_the_time_does_not_flood_the_fleet():
    async def deaf(question: memoryview) -> None:
        return None

    async with open_site() as site:
        worker = await site.ready_worker()
        before = len(worker.asked(wire.Hello))
        for _ in range(1000):  # a thousand connections a second
            stranger = FakePeer(site.network, SERVICE, deaf)
            site.nursery.start_soon(stranger.run)
            await trio.sleep(0.001)
            stranger.close()
        assert len(worker.asked(wire.Hello)) - before <= 1 / HELLO_GAP + 2
        assert site.life(worker) is Life.READY


async def test_a_ring_is_heard_even_if_nobody_listens_just_then():
    async with open_site() as site:
        old = await site.ready_worker()
        for n in range(50):  # in every phase of the heartbeat
            await trio.sleep(0.0137)
            came = trio.current_time()
            worker = await site.ready_worker()
            assert trio.current_time() - came < 2 * HELLO_GAP, n
            worker.die()
        assert site.life(old) is Life.READY


# --- silence


async def test_a_silent_worker_is_suspect_then_gone_and_its_requests_go_elsewhere():
    async with open_site() as site:
        silent = await site.ready_worker()
        await site.set_weights(b"2")
        silent.stop()
        asked = site.ask(1, 2)
        other = await site.ready_worker()
        stopped = trio.current_time()
        await site.until_life(silent, Life.SUSPECT)
        assert SILENCE - HEARTBEAT <= trio.current_time() - stopped <= NOTICED
        assert await asked.answer() == 6.0
        assert asked.worker == other.name
        assert asked.request.strikes == 1
        await site.until_life(silent, Life.GONE)
        assert trio.current_time() - stopped <= 2 * NOTICED
        assert site.fleet.ids() == {other.id}
        assert site.fleet.link(silent.id) is None


async def test_a_worker_that_is_a_second_away_is_not_silent():
    async with open_site() as site:
        far = await site.ready_worker()
        await site.set_weights(b"2")
        far.away = 1.0
        for _ in range(5):
            await trio.sleep(1)
            assert site.life(far) is Life.READY
        assert await site.predict(1, 2) == 6.0


async def test_a_worker_with_much_in_its_hands_may_be_silent_for_longer(monkeypatch):
    monkeypatch.setattr(fleet, "PACE", 2)  # of the eight bytes of a row
    async with open_site() as site:
        worker = await site.ready_worker()
        await site.set_weights(b"2")
        worker.hold()
        asked = site.ask(1, 2)
        await trio.sleep(2 * HEARTBEAT)
        worker.stop()
        await trio.sleep(SILENCE + 3)
        assert site.life(worker) is Life.READY
        worker.go_on()
        worker.held.set()
        assert await asked.answer() == 6.0
        await trio.sleep(2 * HEARTBEAT)
        assert (site.life(worker), asked.request.strikes) == (Life.READY, 0)
        worker.hold()
        asked = site.ask(1, 2)
        await trio.sleep(2 * HEARTBEAT)
        worker.stop()
        await trio.sleep(NOTICED + 4)
        assert site.life(worker) is not Life.READY
        other = await site.ready_worker()
        assert (await asked.answer(), asked.worker) == (6.0, other.name)


async def test_a_worker_that_goes_on_before_it_is_gone_serves_again():
    async with open_site() as site:
        worker = await site.ready_worker()
        await site.set_weights(b"2")
        worker.stop()
        await site.until_life(worker, Life.SUSPECT)
        asked = site.ask(1)
        worker.go_on()
        assert await asked.answer() == 2.0
        assert site.life(worker) is Life.READY


async def test_a_worker_that_goes_on_after_it_was_gone_joins_anew():
    async with open_site() as site:
        worker = await site.ready_worker()
        await site.set_weights(b"2")
        worker.stop()
        await site.until_life(worker, Life.GONE)
        await site.set_weights(b"3", NN2)
        worker.go_on()
        await site.ready(worker)
        assert worker.weights == {NN2: b"3"}
        assert await site.predict(1) == 3.0


async def test_a_stuck_worker_whose_network_threads_dial_again_is_not_taken_back():
    async with open_site() as site:
        worker = await site.ready_worker()
        await site.set_weights(b"2")
        await trio.sleep(2 * HEARTBEAT)  # it has said that it holds them: nothing else would keep it out
        worker.stop(dials=True)
        await site.until(lambda: site.life(worker) is not Life.READY)
        lives: list[Life] = []

        def is_gone() -> bool:
            lives.append(site.life(worker))
            return lives[-1] is Life.GONE

        await site.until(is_gone)
        assert set(lives) == {Life.SUSPECT, Life.SYNCING, Life.GONE}  # its link was up, and it said nothing
        worker.go_on()
        await site.ready(worker)


async def test_a_gateway_that_did_not_run_for_a_while_declares_nobody_silent(caplog):
    async with open_site() as site:
        workers = [await site.ready_worker() for _ in range(3)]
        for _ in range(5):
            trio.lowlevel.current_clock().jump(60)  # as if its machine had slept
            await trio.sleep(HEARTBEAT)
        assert [site.life(worker) for worker in workers] == [Life.READY] * 3
        assert "silent" not in caplog.text


async def test_surveys_that_fail_are_asked_again():
    async with open_site() as site:
        worker = await site.ready_worker()
        site.surveyor.broken = LinkError("no memory")
        await trio.sleep(SILENCE / 2)
        site.surveyor.broken = None
        await trio.sleep(NOTICED)
        assert site.life(worker) is Life.READY


# --- death and broken links


async def test_a_worker_that_dies_is_missed_at_once():
    async with open_site() as site:
        doomed, other = await site.ready_worker(), await site.ready_worker()
        await site.set_weights(b"2")
        doomed.hold()
        other.hold()
        asked = [site.ask(n) for n in range(10)]
        await trio.testing.wait_all_tasks_blocked()
        assert doomed.in_hand
        died = trio.current_time()
        doomed.die()
        other.held.set()
        assert [await each.answer() for each in asked] == [2.0 * n for n in range(10)]
        assert trio.current_time() - died < 0.1
        assert {each.worker for each in asked} == {other.name}


async def test_a_broken_link_is_dialled_again_and_the_worker_serves_on():
    async with open_site() as site:
        worker = await site.ready_worker()
        await site.set_weights(b"2")
        await trio.sleep(60)
        worker.break_link()
        await trio.testing.wait_all_tasks_blocked()
        assert site.life(worker) is Life.SUSPECT
        broke = trio.current_time()
        assert await site.predict(1) == 2.0
        assert trio.current_time() - broke < 0.1
        assert len(worker.asked(wire.Load)) == 1  # it still holds what it held


async def test_a_link_that_is_thought_to_be_down_and_is_not_is_found_out():
    async with open_site() as site:
        worker = await site.ready_worker()
        await site.set_weights(b"2")
        site.network.listening[f"mem://link/{worker.id}"]._left()  # it was told after the news of the next
        assert site.life(worker) is Life.SUSPECT
        told = trio.current_time()
        await site.ready(worker)
        assert trio.current_time() - told <= LINK_TIME + 2 * HEARTBEAT
        assert await site.predict(1) == 2.0


async def test_a_worker_that_is_lost_whenever_it_is_ready_is_taken_back_ever_more_slowly():
    async with open_site() as site:
        worker = await site.ready_worker()
        await site.set_weights(b"2")
        worker.said = [b"nonsense"] * 100
        begun = trio.current_time()
        while trio.current_time() < begun + 60:
            await site.predict(1, seconds=60)
        assert 5 <= 100 - len(worker.said) <= 12  # not ten times a second
        assert site.fleet.bad_frames == 100 - len(worker.said)
        worker.said.clear()
        await site.ready(worker)
        await trio.sleep(60)
        worker.break_link()  # it has been steady since
        await site.until_life(worker, Life.SUSPECT)
        broke = trio.current_time()
        await site.ready(worker)
        assert trio.current_time() - broke < RETRY_MIN


# --- leaving


async def test_a_leaving_worker_answers_what_it_has_and_is_sent_nothing_more():
    async with open_site() as site:
        leaving = await site.ready_worker()
        await site.set_weights(b"2")
        leaving.hold()
        held = [site.ask(1), site.ask(2)]
        await trio.testing.wait_all_tasks_blocked()
        stay = await site.ready_worker()
        leaving.says_draining = True
        await site.until_life(leaving, Life.DRAINING)
        assert [await site.predict(n) for n in range(10)] == [2.0 * n for n in range(10)]
        leaving.held.set()
        assert [await each.answer() for each in held] == [2.0, 4.0]
        assert {each.worker for each in held} == {leaving.name}
        assert sum(len(numbers) for _, numbers in stay.batches) == 10
        leaving.die()
        await site.until_life(leaving, Life.GONE)


async def test_what_waits_for_a_leaving_worker_moves_on():
    async with open_site() as site:
        leaving = await site.ready_worker(slots=1)
        await site.set_weights(b"2")
        leaving.hold()
        asked = [site.ask(n) for n in range(5)]
        await trio.testing.wait_all_tasks_blocked()
        leaving.says_draining = True
        await site.until_life(leaving, Life.DRAINING)
        await site.ready_worker()
        leaving.held.set()
        assert [await each.answer() for each in asked] == [2.0 * n for n in range(5)]
        assert [each.request.strikes for each in asked] == [0] * 5


async def test_a_leaving_worker_that_goes_with_a_batch_in_hand_is_no_strike():
    async with open_site() as site:
        leaving = await site.ready_worker()
        await site.set_weights(b"2")
        leaving.hold()
        asked = site.ask(1)
        await trio.testing.wait_all_tasks_blocked()
        leaving.says_draining = True
        await site.until_life(leaving, Life.DRAINING)
        leaving.die()
        await site.ready_worker()
        assert await asked.answer() == 2.0
        assert asked.request.strikes == 0


async def test_a_stranger_that_says_it_leaves_was_never_there():
    async with open_site() as site:
        worker = site.worker()
        worker.says_draining = True
        await trio.sleep(3)
        assert site.fleet.ids() == set()


# --- one worker's trouble is that worker's alone


async def _sync_that_fails_for(site: Site, unlucky: str, monkeypatch) -> None:
    sync = site.fleet.sync

    async def failing(worker, link) -> None:
        if worker.name == unlucky:
            raise ZeroDivisionError("a bug")
        await sync(worker, link)

    monkeypatch.setattr(site.fleet, "sync", failing)


async def test_a_bug_met_while_one_worker_is_synced_costs_that_worker_alone(monkeypatch, caplog):
    async with open_site() as site:
        await site.set_weights(b"2")
        await _sync_that_fails_for(site, "unlucky", monkeypatch)
        unlucky = site.worker("unlucky")
        await site.ready_worker()
        await trio.sleep(20)
        assert site.life(unlucky) is Life.SYNCING
        assert site.trouble(unlucky) == "a bug"
        assert await site.predict(1) == 2.0
        assert 4 <= caplog.text.count("worker cannot be synced worker=unlucky error=a bug") <= 8
        monkeypatch.undo()


async def test_a_bug_met_in_one_workers_batch_costs_that_link_alone(monkeypatch, caplog):
    async with open_site() as site:
        await site.set_weights(b"2")
        unlucky, other = await site.ready_worker(), await site.ready_worker()
        link = site.fleet.link(unlucky.id)

        async def failing(frame: bytes) -> None:
            raise ZeroDivisionError("a bug")

        monkeypatch.setattr(link, "exchange", failing)
        asked = [site.ask(n) for n in range(10)]
        assert [await each.answer() for each in asked] == [2.0 * n for n in range(10)]
        assert {each.worker for each in asked} == {other.name}
        assert "a batch failed" in caplog.text
        monkeypatch.undo()
        await site.ready(unlucky)


async def test_a_bug_met_as_a_workers_link_comes_up_costs_that_worker_alone(monkeypatch, caplog):
    async with open_site() as site:
        happen = site.fleet.roster.happen

        def failing(worker, event):
            if worker.name == "unlucky":
                raise ZeroDivisionError("a bug")
            return happen(worker, event)

        monkeypatch.setattr(site.fleet.roster, "happen", failing)
        unlucky = site.worker("unlucky")
        other = await site.ready_worker()
        await trio.sleep(20)
        assert site.life(other) is Life.READY
        assert site.life(unlucky) is Life.JOINING
        assert "could not be dealt with: worker unlucky" in caplog.text


async def test_at_the_end_every_link_is_closed_even_if_one_of_them_will_not(monkeypatch, caplog):
    async with open_site() as site:
        stubborn, other = await site.ready_worker(), await site.ready_worker()
        link = site.fleet.link(stubborn.id)
        close = FakeLink.aclose

        async def failing(self: FakeLink) -> None:
            await close(self)
            if self is link:
                raise LinkError("it will not")

        monkeypatch.setattr(FakeLink, "aclose", failing)
        links = [site.fleet.link(worker.id) for worker in (stubborn, other)]
    assert all(link.peers == [] for link in links)
    assert f"the link of worker {stubborn.name} could not be closed" in caplog.text


async def test_workers_that_come_and_die_all_the_time_leave_nothing_behind():
    async with open_site() as site:
        await site.set_weights(b"2")
        steady = await site.ready_worker()
        asked = []
        for n in range(100):
            worker: FakeWorker = site.worker(takes=0.01)
            await trio.sleep(0.001 * (n % 40))
            asked.append(site.ask(n))
            await trio.sleep(0.001 * (n % 7))
            worker.die()
        assert [await each.answer() for each in asked] == [2.0 * n for n in range(100)]
        await site.until(lambda: site.fleet.ids() == {steady.id})
        assert set(site.network.listening) == {SERVICE, f"mem://link/{steady.id}"}


# --- incarnations


async def test_of_two_workers_with_one_name_the_newer_serves_and_the_older_is_told_to_leave():
    async with open_site() as site:
        older = await site.ready_worker("bob", incarnation=5)
        await site.set_weights(b"2")
        newer = await site.ready_worker("bob", incarnation=6)
        await site.until_life(older, Life.GONE)
        assert [message.workers for message in older.asked(wire.Drain)] == [[older.id]]
        assert newer.asked(wire.Drain) == []
        asked = site.ask(1)
        assert await asked.answer() == 2.0
        assert [name for name, _ in older.batches] == []


async def test_an_older_worker_that_comes_back_is_never_taken_in():
    async with open_site() as site:
        await site.set_weights(b"2")
        newer = await site.ready_worker("bob", incarnation=6)
        older = site.worker("bob", incarnation=5, obeys=False)
        await site.until(lambda: len(older.asked(wire.Drain)) > 1)  # again, as long as it is there
        assert site.life(older) is Life.GONE
        assert older.asked(wire.LinkUp) == [] or all(
            older.id not in message.endpoints for message in older.asked(wire.LinkUp)
        )
        assert site.fleet.ids() == {newer.id}


async def test_workers_with_one_name_that_were_started_by_hand_all_serve():
    async with open_site() as site:
        workers = [await site.ready_worker("bob") for _ in range(3)]
        assert site.fleet.ids(Life.READY) == {each.id for each in workers}


async def test_a_retired_worker_answers_what_it_has_and_takes_nothing_new():
    async with open_site() as site:
        retired = await site.ready_worker("bob", incarnation=5)
        await site.set_weights(b"2")
        retired.hold()
        asked = site.ask(1)
        await trio.testing.wait_all_tasks_blocked()
        site.fleet.retire("bob", 5)
        assert site.life(retired) is Life.DRAINING
        later = site.ask(3)
        other = await site.ready_worker("bob", incarnation=6)
        assert (await later.answer(), later.worker) == (6.0, other.name)
        retired.held.set()
        assert await asked.answer() == 2.0
        assert (asked.request.strikes, len(retired.batches)) == (0, 1)
        await site.until_life(retired, Life.GONE)


async def test_a_retired_worker_that_was_silent_is_told_to_leave_when_it_comes_back():
    async with open_site() as site:
        lost = await site.ready_worker("bob", incarnation=5)
        lost.stop()
        await site.until_life(lost, Life.GONE)
        site.fleet.retire("bob", 5)
        lost.go_on()
        await site.until(lambda: bool(lost.asked(wire.Drain)))
        assert site.life(lost) is Life.GONE
