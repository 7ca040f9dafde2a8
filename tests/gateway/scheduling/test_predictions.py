"""Collaboration: what every door does with a prediction: admit, count, cancel; in virtual time."""

from __future__ import annotations

import pytest
import trio

from common.errors import Draining, NoWeights, QueueFull, TooLarge
from common.tensor import pack_vectors, vector_spec
from tests.gateway.site import NN, NN2, Site, open_site

pytestmark = pytest.mark.usefixtures("virtual_time")


def start(site: Site, rows: int, **how) -> list:
    """Ask for so many rows; what is answered."""
    got: list = []
    buffer = pack_vectors([[float(n)] for n in range(rows)])[1]
    site.predictions.start(
        site.catalog.active(), vector_spec(1), (buffer,), rows, None, got.append, door="test", **how
    )
    return got


async def test_before_there_are_weights_nothing_is_admitted():
    async with open_site() as site:
        await site.ready_worker()
        with pytest.raises(NoWeights, match="No weights loaded"):
            site.ask(1)
        assert site.predictions.in_progress == 0


async def test_more_rows_than_a_request_may_have_are_refused():
    async with open_site() as site:
        await site.ready_worker()
        await site.set_weights(b"2")
        with pytest.raises(TooLarge, match="1001 rows in one request: at most 1000 are allowed"):
            start(site, 1001)
        got = start(site, 1000)
        await site.until(lambda: bool(got))
        assert got[0].buffers[0].cast("f").tolist() == [2.0 * n for n in range(1000)]


async def test_a_gateway_that_shuts_down_takes_nothing_new_and_answers_what_it_has():
    async with open_site() as site:
        worker = await site.ready_worker()
        await site.set_weights(b"2")
        worker.hold()
        asked = site.ask(1)
        site.predictions.draining = True
        with pytest.raises(Draining, match="Server is shutting down"):
            site.ask(2)
        worker.held.set()
        assert await asked.answer() == 2.0


async def test_a_request_keeps_the_version_that_served_when_it_came():
    async with open_site() as site:
        await site.set_weights(b"2")
        asked = site.ask(1)
        site.nursery.start_soon(site.set_weights, b"3", NN2)
        await site.until(lambda: site.catalog.active().key.version == NN2)
        await site.ready_worker()
        assert await asked.answer() == 2.0
        assert asked.version == NN


@pytest.mark.parametrize(("asked_for", "waits"), [(None, 3.0), (1.0, 1.0), (20.0, 5.0)])
async def test_a_deadline_is_the_requests_own_or_the_servers(asked_for, waits):
    async with open_site(timeout=3.0) as site:
        await site.set_weights(b"2")
        await site.predict(1, seconds=asked_for)
        assert trio.current_time() == pytest.approx(waits, abs=0.05)  # 5 s at most without any worker


async def test_what_is_waiting_in_progress_and_in_flight_is_counted():
    async with open_site(queue_max=5) as site:
        worker = await site.ready_worker(slots=1)
        await site.set_weights(b"2")
        predictions = site.predictions
        assert (predictions.waiting, predictions.queue_max, predictions.peak_waiting) == (0, 5, 0)
        worker.hold()
        asked = [site.ask(0)]
        await trio.testing.wait_all_tasks_blocked()
        asked += [site.ask(n) for n in range(1, 6)]
        with pytest.raises(QueueFull):
            site.ask(6)
        assert (predictions.waiting, predictions.in_progress, predictions.peak_waiting) == (5, 6, 5)
        assert predictions.in_flight(worker.id) == 1
        assert predictions.in_flight("nobody") == 0
        worker.held.set()
        for each in asked:
            await each.answer()
        assert (predictions.waiting, predictions.in_progress, predictions.peak_waiting) == (0, 0, 5)


async def test_the_time_that_requests_take_is_measured_from_admission_to_reply():
    async with open_site() as site:
        await site.ready_worker(takes=2, slots=1)
        await site.set_weights(b"2")
        first = site.ask(1)
        await trio.testing.wait_all_tasks_blocked()
        await site.ask(2).answer()
        await first.answer()
        assert site.predictions.handling.count == 2
        assert site.predictions.handling.mean == pytest.approx((2 + 4) / 2)


async def test_an_error_is_a_reply_and_a_cancelled_request_is_none():
    async with open_site() as site:
        await site.set_weights(b"2")
        late, gone = site.ask(1, seconds=1), site.ask(2)
        site.predictions.cancel(gone.request)
        site.predictions.cancel(gone.request)  # gone twice is gone
        await late.answer()
        assert site.predictions.handling.count == 1
        assert gone.replies == []
        site.predictions.cancel(late.request)  # and too late is nothing
        assert site.predictions.in_progress == 0
