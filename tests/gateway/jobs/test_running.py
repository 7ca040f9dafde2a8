"""Collaboration: jobs through the real gateway over a network in memory."""

from __future__ import annotations

import pytest
import trio

from common.errors import Conflict, Draining, NotFound, QueueFull
from common.tensor import pack_vectors, vector_spec
from gateway.jobs.job import Job, State
from gateway.jobs.running import TOMBSTONE
from gateway.jobs.sources import pack_sent
from gateway.jobs.store import KeyReused
from tests.gateway.site import NN, NN2, Site, open_site

pytestmark = pytest.mark.usefixtures("virtual_time")


async def submit(site: Site, rows: int, *, job_id: str = "j1", key: str | None = None, **how) -> Job:
    """A job of rows 0, 1, 2, … for the active version."""
    version = site.catalog.active()
    width, packed = pack_vectors([[float(n)] for n in range(rows)])
    made = Job(
        id=job_id, model=version.key.model, version=version.key.version, nn_id=version.nn_id,
        shape="vectors", ttl=100.0, created=1.0, rows_total=rows, **how,
    )  # fmt: skip
    return await site.jobs.submit(made, key, pack_sent(vector_spec(width), (packed,), rows))


async def answers(site: Site, job_id: str = "j1") -> list[float]:
    """What each row of a job that is done was answered."""
    await site.jobs.wait(job_id, 1000)
    job = await site.jobs.get(job_id)
    assert job.state is State.DONE, job
    return [result[0][0] for result in site.going.answers(job)]


async def test_every_row_of_a_job_is_answered_once_and_in_order():
    async with open_site() as site:
        await site.set_weights(b"2")
        workers = [await site.ready_worker(takes=0.01) for _ in range(2)]
        await submit(site, 500)
        assert await answers(site) == [2.0 * n for n in range(500)]
        numbers = [n for worker in workers for _, batch in worker.batches for n in batch]
        assert sorted(numbers) == list(range(500))


async def until_running(site: Site, job_id: str = "j1") -> None:
    await site.until(lambda: (job := site.jobs.line.get(job_id)) is not None and job.rows_done > 0)


async def test_a_row_that_the_model_refuses_fails_its_job_and_no_other_row_is_to_blame():
    async with open_site() as site:
        worker = await site.ready_worker()
        worker.refused = 77.0
        await site.set_weights(b"2")
        await submit(site, 200)
        await site.jobs.wait("j1", 1000)
        job = await site.jobs.get("j1")
        assert (job.state, job.error) == (State.FAILED, "row 77: it failed")


async def test_a_job_waits_for_a_worker_and_survives_the_death_of_one():
    async with open_site() as site:
        await site.set_weights(b"2")
        await submit(site, 300)
        await trio.sleep(60)
        job = await site.jobs.get("j1")
        assert (job.state, job.rows_done) == (State.RUNNING, 0)
        first = await site.ready_worker(takes=0.1)
        await until_running(site)
        first.hold()
        await site.until(lambda: first.in_hand > 0)
        first.die()
        await site.ready_worker()
        assert await answers(site) == [2.0 * n for n in range(300)]


async def test_a_row_that_kills_workers_costs_two_of_them_and_its_job():
    async with open_site() as site:
        await site.set_weights(b"2")
        workers = [await site.ready_worker() for _ in range(3)]
        for worker in workers:
            worker.deadly = 5.0
        await submit(site, 10)
        await site.jobs.wait("j1", 1000)
        job = await site.jobs.get("j1")
        assert (job.state, job.error) == (
            State.FAILED,
            "row 0: the request was on 2 workers as they died",
        )


async def test_a_job_keeps_the_version_it_was_admitted_under_until_it_is_over():
    async with open_site() as site:
        worker = await site.ready_worker(takes=0.5)
        await site.set_weights(b"2")
        await submit(site, 500)
        await until_running(site)
        await site.set_weights(b"3", NN2)  # which waits for nobody but those who ask for predictions
        job = await site.jobs.get("j1")
        assert (job.state, site.catalog.active().key.version) == (State.RUNNING, NN2)
        assert set(worker.weights) == {NN, NN2}
        with pytest.raises(Conflict, match="is needed by a job: wait or cancel it first"):
            await site.rollouts.remove("default", NN)
        assert await answers(site) == [2.0 * n for n in range(500)]
        await site.until(lambda: set(worker.weights) == {NN2})
        assert site.switching.retiring == {}


async def test_after_a_restart_a_job_goes_on_under_a_version_that_serves_no_more(tmp_path):
    async with open_site(tmp_path) as site:
        await site.ready_worker(takes=0.5)
        await site.set_weights(b"2")
        await submit(site, 500)
        await until_running(site)
        await site.set_weights(b"3", NN2)
        before = (await site.jobs.get("j1")).rows_done
        site.drain()
    async with open_site(tmp_path) as site:
        job = await site.jobs.get("j1")
        assert before <= job.rows_done < 500
        worker = await site.ready_worker()
        assert await answers(site) == [2.0 * n for n in range(500)]
        assert sum(len(batch) for _, batch in worker.batches) == 500 - job.rows_done
        await site.until(lambda: set(worker.weights) == {NN2})


async def test_a_version_that_made_room_for_others_is_loaded_again_for_its_job():
    async with open_site() as site:
        await site.ready_worker(room=2)
        await site.set_weights(b"2")
        for model in ("a", "b"):
            assert (await site.add(model, "1", b"3")).ok
        assert site.holders.of(site.catalog.active().key) == set()
        await submit(site, 100)
        assert await answers(site) == [2.0 * n for n in range(100)]


async def test_a_version_that_turns_out_not_to_load_fails_its_jobs():
    async with open_site() as site:
        await site.set_weights(b"bad")  # nobody is there to try it
        await submit(site, 1)
        await site.ready_worker()
        await site.jobs.wait("j1", 1000)
        job = await site.jobs.get("j1")
        assert job.state is State.FAILED
        assert job.error == f"version {NN} can no longer be had: workers refused to load it"


async def test_a_job_that_is_cancelled_sends_nothing_more():
    async with open_site() as site:
        worker = await site.ready_worker(takes=0.5)
        await site.set_weights(b"2")
        await submit(site, 500)
        await until_running(site)
        job = await site.jobs.cancel("j1")
        assert job is not None
        assert job.state is State.CANCELLED
        sent = len(worker.batches)
        await trio.sleep(10)
        assert len(worker.batches) == sent
        assert await site.jobs.cancel("j1") is None
        with pytest.raises(NotFound):
            await site.jobs.get("j1")


async def test_a_job_that_waits_is_cancelled_at_once_and_the_next_one_starts():
    async with open_site() as site:
        await site.set_weights(b"2")
        for n in range(6):
            await submit(site, 1, job_id=f"j{n}")
        await site.until(lambda: site.jobs.line.position("j5") == 1)
        await site.jobs.cancel("j4")
        assert site.jobs.line.position("j5") == 0
        await site.jobs.cancel("j0")
        await site.until(lambda: site.jobs.line.position("j5") is None)
        await site.ready_worker()
        assert await answers(site, "j5") == [0.0]


async def test_hundreds_of_jobs_cancelled_at_once_leave_nothing():
    async with open_site() as site:
        await site.ready_worker(takes=0.01)
        await site.set_weights(b"2")
        for n in range(200):
            await submit(site, 50, job_id=f"j{n}")
        await trio.sleep(0.02)
        async with trio.open_nursery() as nursery:
            for n in range(200):
                nursery.start_soon(site.jobs.cancel, f"j{n}")
        assert len(site.jobs.line) == 0
        await submit(site, 3, job_id="last")
        assert await answers(site, "last") == [0.0, 2.0, 4.0]


async def test_the_same_key_is_the_same_job_and_another_body_is_refused():
    async with open_site() as site:
        await site.set_weights(b"2")
        first = await submit(site, 1, key="k", digest="a")
        again = await submit(site, 1, key="k", digest="a", job_id="j2")
        assert (again.id, len(site.jobs.line)) == (first.id, 1)
        with pytest.raises(KeyReused, match="this Idempotency-Key came with another body before, for job j1"):
            await submit(site, 1, key="k", digest="b", job_id="j3")
        await site.jobs.cancel("j1")


async def test_more_jobs_than_may_be_unfinished_are_refused():
    async with open_site(jobs_max=2) as site:
        await site.set_weights(b"2")
        for n in range(2):
            await submit(site, 1, job_id=f"j{n}")
        with pytest.raises(QueueFull, match="2 jobs are not over yet"):
            await submit(site, 1, job_id="j3")
        site.drain()
        with pytest.raises(Draining):
            await submit(site, 1, job_id="j4")


async def test_those_who_wait_are_let_go_when_the_gateway_drains():
    async with open_site() as site:
        await site.set_weights(b"2")
        await submit(site, 1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(site.jobs.wait, "j1", 1000)
            await trio.sleep(1)
            site.drain()
        assert trio.current_time() < 2


async def test_what_expires_leaves_no_blob():
    async with open_site() as site:
        await site.ready_worker()
        await site.set_weights(b"2")
        await submit(site, 3)
        await submit(site, 3, job_id="j2")  # the same rows and answers
        assert await answers(site) == await answers(site, "j2")
        one, other = await site.jobs.get("j1"), await site.jobs.get("j2")
        await site.jobs.cancel("j1")
        assert await answers(site, "j2") == [0.0, 2.0, 4.0]
        await site.jobs.expire(max(one.expires, other.expires))
        assert (await site.jobs.get("j2")).state is State.EXPIRED
        assert list(site.job_blobs.glob("??/*")) == []
        await site.jobs.expire(other.expires + TOMBSTONE + 1)
        with pytest.raises(NotFound):
            await site.jobs.get("j2")


async def test_predictions_are_answered_between_the_slices_of_a_job():
    async with open_site() as site:
        worker = await site.ready_worker(takes=0.01)
        await site.set_weights(b"2")
        await submit(site, 900)
        await until_running(site)
        for n in range(20):
            began = trio.current_time()
            assert await site.predict(n) == 2.0 * n
            assert trio.current_time() - began < 0.025
        assert worker.most_in_hand <= 2
        assert await answers(site) == [2.0 * n for n in range(900)]
