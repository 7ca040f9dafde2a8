"""Collaboration: requests on their way to workers and back; real gateway, fake workers, virtual time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from common import wire
from common.errors import DeadlineExceeded, NoWorker, Overloaded, PipelineError, Poisoned, QueueFull
from common.tensor import TensorSpec
from gateway.fleet.roster import State as Life
from gateway.metrics.recorder import RETIRED
from gateway.scheduling.deadlines import TICK
from gateway.scheduling.dispatch import OVERDUE
from tests.gateway.fakes import FakeWorker
from tests.gateway.site import NN, NN2, WORKER_WAIT, Asked, Site, open_site

pytestmark = pytest.mark.usefixtures("virtual_time")

DEADLY = 13.0
ONE_ROW = wire.PartAnswer((TensorSpec("result", "FP32", (1,)),), [], b"\0")


@asynccontextmanager
async def open_serving(
    count: int = 1, *, directory: Path | None = None, queue_max: int = 1000, **how: Any
) -> AsyncIterator[tuple[Site, list[FakeWorker]]]:
    """A site whose workers answer twice the sum of a row."""
    async with open_site(directory, queue_max=queue_max) as site:
        workers = [await site.ready_worker(**how) for _ in range(count)]
        await site.set_weights(b"2")
        yield site, workers


async def flown(site: Site, *numbers: float, **how: Any) -> list[Asked]:
    """Requests that are at their workers now, one batch after the other."""
    asked = []
    for number in numbers:
        asked.append(site.ask(number, **how))
        await trio.testing.wait_all_tasks_blocked()
    return asked


async def answers(asked: list[Asked]) -> list[float | PipelineError]:
    return [await each.answer() for each in asked]


# --- batches


async def test_what_waits_while_a_worker_is_busy_travels_together():
    async with open_serving(slots=1) as (site, [worker]):
        worker.hold()
        asked = await flown(site, 1)
        asked += [site.ask(n) for n in (2, 3, 4)]
        worker.held.set()
        assert await answers(asked) == [2.0, 4.0, 6.0, 8.0]
        assert [numbers for _, numbers in worker.batches] == [[1.0], [2.0, 3.0, 4.0]]


async def test_a_batch_has_at_most_so_many_rows():
    async with open_serving(slots=1) as (site, [worker]):
        worker.hold()
        asked = await flown(site, 0)
        asked += [site.ask(n) for n in range(150)]
        worker.held.set()
        await answers(asked)
        assert [len(numbers) for _, numbers in worker.batches] == [1, 64, 64, 22]


async def test_more_than_fits_into_a_batch_fills_the_other_slots_at_once():
    async with open_serving(slots=3) as (site, [worker]):
        worker.hold()
        asked = [site.ask(n) for n in range(150)]
        await trio.testing.wait_all_tasks_blocked()
        assert [len(numbers) for _, numbers in worker.batches] == [64, 64, 22]
        assert worker.in_hand == 3
        worker.held.set()
        assert await answers(asked) == [2.0 * n for n in range(150)]


async def test_rows_of_different_width_travel_in_one_batch_and_come_back_to_whom_they_belong():
    async with open_serving(slots=1) as (site, [worker]):
        worker.hold()
        first = await flown(site, 0)
        asked = [site.ask(1), site.ask(1, 2), site.ask(3), site.ask(1, 2, 3), site.ask(4, 5)]
        worker.held.set()
        assert await answers(asked) == [2.0, 6.0, 6.0, 12.0, 18.0]
        assert len(worker.batches) == 2
        await answers(first)


async def test_a_row_that_is_known_does_not_wait_for_those_that_are_computed():
    async with open_serving(slots=1) as (site, [worker]):
        worker.remembers = {3.0}
        worker.hold()
        asked = await flown(site, 1)
        site.scheduler.lookups.note(asked[0].request.key, 1.0, 1, 1)
        asked += [site.ask(n) for n in (2, 3, 4)]
        assert await asked[2].answer() == 6.0
        assert worker.in_hand == 1
        assert worker.lookups == [[2.0, 3.0, 4.0]]
        worker.held.set()
        assert await answers([asked[0], asked[1], asked[3]]) == [2.0, 4.0, 8.0]
        assert [numbers for _, numbers in worker.batches] == [[1.0], [2.0, 4.0]]


async def test_every_worker_is_used():
    async with open_serving(4, takes=0.01) as (site, workers):
        asked = [site.ask(n) for n in range(400)]
        assert await answers(asked) == [2.0 * n for n in range(400)]
        assert all(worker.batches for worker in workers)
        assert all(worker.most_in_hand <= 2 for worker in workers)


async def test_equal_rows_go_to_the_same_worker_as_long_as_it_is_not_too_busy():
    async with open_serving(4) as (site, _):
        for n in range(20):
            asked = [site.ask(n) for _ in range(3)]
            await answers(asked)
            assert len({each.worker for each in asked}) == 1


async def test_an_answer_says_who_gave_it_and_where_its_time_went():
    async with open_serving(takes=0.5, slots=1) as (site, [worker]):
        got = []
        await flown(site, 0)
        site.ask(1).request.reply = got.append
        await site.until(lambda: bool(got))
        [answer] = got
        assert (answer.by.worker, answer.by.version, answer.hit) == (worker.name, NN, False)
        assert (answer.by.batch, answer.by.infer) == (0.001, 0.002)  # as the worker says, …
        assert answer.by.link == pytest.approx(0.5 - 0.003)  # … and what is left of the time it was out
        assert answer.queue == pytest.approx(0.5)


# --- full, late, gone


async def test_who_comes_to_a_full_queue_is_told_so_at_once():
    async with open_serving(queue_max=3, slots=1) as (site, [worker]):
        worker.hold()
        asked = await flown(site, 0)
        asked += [site.ask(n) for n in (1, 2, 3)]
        with pytest.raises(QueueFull, match="Server is busy"):
            site.ask(4)
        worker.held.set()
        assert await answers(asked) == [0.0, 2.0, 4.0, 6.0]
        assert await site.predict(4) == 8.0


async def test_a_request_that_is_late_in_the_queue_is_never_run():
    async with open_serving(slots=1) as (site, [worker]):
        worker.hold()
        asked = await flown(site, 1, seconds=60)
        late = site.ask(2, seconds=0.5)
        began = trio.current_time()
        error = await late.answer()
        assert isinstance(error, DeadlineExceeded)
        assert str(error) == "Deadline exceeded"
        assert 0.5 <= trio.current_time() - began <= 0.5 + 5 * TICK
        worker.held.set()
        assert await answers(asked) == [2.0]
        await trio.sleep(1)
        assert [numbers for _, numbers in worker.batches] == [[1.0]]


async def test_a_request_that_is_late_at_its_worker_is_answered_and_its_batch_goes_on():
    async with open_serving(slots=1) as (site, [worker]):
        worker.hold()
        first = await flown(site, 0)
        patient, hasty = site.ask(1, seconds=60), site.ask(2, seconds=1)
        worker.held.set()
        worker.takes = 3
        await answers(first)
        assert isinstance(await hasty.answer(), DeadlineExceeded)
        assert await patient.answer() == 2.0
        assert worker.batches[-1] == (NN, [1.0, 2.0])
        assert site.life(worker) is Life.READY


async def test_a_client_that_goes_takes_its_waiting_request_with_it():
    async with open_serving(slots=1) as (site, [worker]):
        worker.hold()
        asked = await flown(site, 1)
        gone = site.ask(2)
        site.predictions.cancel(gone.request)
        worker.held.set()
        await answers(asked)
        await trio.sleep(1)
        assert gone.replies == []
        assert [numbers for _, numbers in worker.batches] == [[1.0]]


async def test_a_client_that_goes_while_its_request_is_out_is_not_answered_and_its_neighbours_are():
    async with open_serving(slots=1, takes=1) as (site, [worker]):
        first = await flown(site, 0)
        asked = [site.ask(n) for n in (1, 2, 3)]
        assert await answers(first) == [0.0]
        await trio.sleep(0.5)
        assert worker.batches[-1] == (NN, [1.0, 2.0, 3.0])  # it is out
        site.predictions.cancel(asked[1].request)
        await trio.sleep(1)
        assert [each.replies for each in asked] == [[2.0], [], [6.0]]


async def test_hundreds_of_clients_that_go_at_any_time_leave_nothing_behind():
    async with open_serving(3, takes=0.003) as (site, workers):
        asked = []
        for n in range(600):
            asked.append(site.ask(n))
            if n % 2:
                await trio.sleep(0.0005 * (n % 5))
            if n % 3 == 0:
                site.predictions.cancel(asked[n - n % 7].request)
            if n == 300:
                workers[0].die()
        await trio.sleep(5)
        for n, each in enumerate(asked):
            assert each.replies in ([], [2.0 * n])
        site.assert_empty()


# --- no worker


async def test_without_any_worker_a_request_waits_a_while_for_one():
    async with open_serving() as (site, [worker]):
        worker.die()
        await site.until_life(worker, Life.SUSPECT)
        asked = site.ask(1)
        await trio.sleep(WORKER_WAIT - 1)
        await site.ready_worker()
        assert await asked.answer() == 2.0


async def test_without_any_worker_a_request_is_refused_after_a_while_or_at_its_deadline():
    async with open_serving() as (site, [worker]):
        worker.die()
        await trio.sleep(30)
        for seconds, waits in ((60, WORKER_WAIT), (1, 1)):
            began = trio.current_time()
            error = await site.predict(1, seconds=seconds)
            assert type(error) is NoWorker
            assert str(error) == "No live worker"
            assert waits <= trio.current_time() - began <= waits + 5 * TICK


# --- death


async def test_a_request_that_kills_two_workers_is_poisoned_and_its_neighbours_are_answered():
    async with open_serving(3, slots=1) as (site, workers):
        for worker in workers:
            worker.deadly = DEADLY
            worker.hold()
        asked = [site.ask(n) for n in range(30)]
        await trio.testing.wait_all_tasks_blocked()
        for worker in workers:
            worker.held.set()
        got = await answers(asked)
        poison = got.pop(int(DEADLY))
        assert isinstance(poison, Poisoned)
        assert str(poison) == "the request was on 2 workers as they died"
        assert got == [2.0 * n for n in range(30) if n != DEADLY]
        await site.until(lambda: len(site.fleet.ids()) == 1)  # the third never saw it
        [left] = [worker for worker in workers if worker.id in site.fleet.ids()]
        assert all(DEADLY not in numbers for _, numbers in left.batches)


async def test_what_has_seen_a_worker_die_travels_alone():
    async with open_serving(slots=1) as (site, [doomed]):
        doomed.hold()
        first = await flown(site, 0)
        doomed.deadly = DEADLY
        asked = [site.ask(n) for n in (1, DEADLY, 3)]
        doomed.held.set()
        await site.until_life(doomed, Life.SUSPECT)
        other = site.worker(takes=1)
        assert doomed.batches[-1] == (NN, [1.0, DEADLY, 3.0])
        assert await answers([*first, *asked]) == [0.0, 2.0, 2 * DEADLY, 6.0]
        assert [numbers for _, numbers in other.batches] == [[1.0], [DEADLY], [3.0]]
        assert other.most_in_hand == 1


async def test_innocents_survive_two_guilty_requests():
    async with open_serving(5, slots=2) as (site, workers):
        for worker in workers:
            worker.deadly = DEADLY
        asked = [site.ask(n) for n in range(20)] + [site.ask(DEADLY)]
        got = await answers(asked)
        assert [type(each) for each in got if not isinstance(each, float)] == [Poisoned, Poisoned]
        assert [each for each in got if isinstance(each, float)] == [
            2.0 * n for n in range(20) if n != DEADLY
        ]
        assert len(site.fleet.ids(Life.READY)) >= 1  # each died twice at most, and once together perhaps


# --- what workers say


async def test_what_a_leaving_worker_gives_back_is_taken_by_another_at_once():
    async with open_serving(2) as (site, [leaving, other]):
        leaving.refuses_batches = True
        began = trio.current_time()
        for n in range(20):  # one of them is the leaving one's, and the other worker has nothing to do then
            assert await site.predict(n) == 2.0 * n
        assert trio.current_time() - began < 0.1
        assert site.life(leaving) is Life.DRAINING
        assert sum(len(numbers) for _, numbers in other.batches) == 20


async def test_a_worker_that_is_leaving_gives_its_batch_back_unharmed():
    async with open_serving() as (site, [leaving]):
        leaving.refuses_batches = True
        asked = site.ask(1)
        await site.until_life(leaving, Life.DRAINING)
        await site.ready_worker()
        assert await asked.answer() == 2.0
        assert asked.request.strikes == 0


async def test_a_worker_that_lost_its_version_is_synced_before_it_serves_again():
    async with open_serving() as (site, [worker]):
        worker.weights.clear()
        asked = site.ask(1)
        assert await asked.answer() == 2.0
        assert asked.request.strikes == 0
        assert worker.weights == {NN: b"2"}


async def test_a_request_for_a_version_that_nobody_serves_any_more_is_turned_away(monkeypatch):
    async with open_serving() as (site, [worker]):
        worker.weights.clear()
        monkeypatch.setattr(site.dispatcher, "is_served", lambda key: False)
        error = await site.predict(1)
        assert type(error) is Overloaded
        assert str(error) == f"version {NN} no longer serves"
        assert site.life(worker) is Life.READY


async def test_a_worker_that_refuses_a_batch_for_its_own_reasons_is_quoted():
    async with open_serving() as (site, [worker]):
        worker.said = [wire.Refused("internal", "out of memory")]
        error = await site.predict(1)
        assert type(error) is PipelineError
        assert str(error) == "the worker refused the batch: out of memory"
        assert await site.predict(1) == 2.0


async def test_what_a_worker_without_memory_was_asked_goes_to_another():
    async with open_serving() as (site, [starved]):
        starved.said = [wire.Refused("worker_lost", "the worker is out of memory")]
        starved.hold()
        asked = await flown(site, 1)
        other = await site.ready_worker()
        starved.held.set()
        assert await answers(asked) == [2.0]
        assert (asked[0].worker, asked[0].request.strikes) == (other.name, 1)
        await site.ready(starved)


@pytest.mark.parametrize(
    "nonsense",
    [
        b"nonsense",
        wire.Done("who"),
        wire.encode(wire.BatchAnswer(0, 0.0, 0.0, [ONE_ROW]), [bytes(4)]),  # of another batch
    ],
    ids=["bytes", "another message", "another batch"],
)
async def test_nonsense_from_a_worker_is_counted_and_its_requests_go_elsewhere(nonsense):
    async with open_serving() as (site, [odd]):
        odd.said = [nonsense]
        odd.hold()
        asked = await flown(site, 1)
        other = await site.ready_worker()
        odd.held.set()
        assert await answers(asked) == [2.0]
        assert (asked[0].worker, asked[0].request.strikes) == (other.name, 1)
        assert site.dispatcher.bad_frames == site.fleet.bad_frames == 1
        await site.ready(odd)  # it is given another chance


async def test_a_worker_that_never_answers_a_batch_is_dropped_when_the_batch_is_overdue():
    async with open_serving() as (site, [stuck]):
        stuck.hold()
        asked = await flown(site, 1, seconds=2)
        assert isinstance(await asked[0].answer(), DeadlineExceeded)
        late = trio.current_time()
        assert site.life(stuck) is Life.READY  # its heartbeats are fine
        await site.until(lambda: site.life(stuck) is not Life.READY)
        assert trio.current_time() - late == pytest.approx(OVERDUE, abs=0.1)
        stuck.held.set()
        await site.ready(stuck)
        assert await site.predict(1) == 2.0


# --- answers


async def test_a_reply_that_fails_is_that_clients_trouble_alone(caplog):
    async with open_serving(slots=1) as (site, [worker]):
        worker.hold()
        first = await flown(site, 0)
        asked = [site.ask(n) for n in (1, 2, 3)]
        said = []

        def failing(answer) -> None:
            said.append(answer)
            if len(said) == 1:
                raise ZeroDivisionError("a bug in a door")

        asked[1].request.reply = failing
        worker.held.set()
        assert await answers([first[0], asked[0], asked[2]]) == [0.0, 2.0, 6.0]
        assert type(said[1]) is PipelineError
        assert str(said[1]) == "The server failed on this request."
        assert "an answer could not be given" in caplog.text
        assert await site.predict(5) == 10.0


async def test_requests_of_two_versions_at_once_are_each_answered_by_their_own():
    async with open_serving(slots=1) as (site, [worker]):
        worker.hold()
        old = await flown(site, 1, 2)
        site.nursery.start_soon(site.set_weights, b"3", NN2)
        await site.until(lambda: site.catalog.active().nn_id == NN2)
        new = [site.ask(1), site.ask(2)]
        worker.held.set()
        assert await answers(old) == [2.0, 4.0]
        assert await answers(new) == [3.0, 6.0]
        assert {each.version for each in old} == {NN}
        assert {each.version for each in new} == {NN2}


# --- figures


async def test_figures_of_versions_that_went_long_ago_are_not_kept_apart():
    async with open_site() as site:
        worker = await site.ready_worker()
        for n in range(RETIRED + 4):
            await site.set_weights(b"2", f"{n:032x}")
            assert await site.ask(1).answer() == 2.0
        await site.until(lambda: len(worker.weights) == 1)
        kept = {key for key in site.recorder.work if key.version}
        assert len(kept) == RETIRED + 1
        assert site.statistics.versions() == kept
        assert site.recorder.codes() == {"ok": RETIRED + 4}
