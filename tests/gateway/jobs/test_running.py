"""Collaboration: jobs through the real gateway over a network in memory."""

from __future__ import annotations

import pytest

from common.tensor import pack_vectors, vector_spec
from gateway.jobs.job import Job, State
from gateway.jobs.sources import pack_sent
from tests.gateway.site import Site, open_site

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
