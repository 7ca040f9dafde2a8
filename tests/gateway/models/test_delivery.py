"""Collaboration: weights on their way to workers; real gateway, fake workers, virtual time."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio

from common import wire
from gateway.fleet.roster import State as Life
from gateway.models import delivery
from gateway.models.catalog import Version
from gateway.models.delivery import LOAD_TIME, Delivery
from gateway.scheduling.requests import ModelKey
from tests.gateway.fakes import FakeWorker
from tests.gateway.site import NN, Site, open_site

pytestmark = pytest.mark.usefixtures("virtual_time")

CHUNK = 100


@pytest.fixture(autouse=True)
def small_sizes(monkeypatch):
    """What are MiB outside are bytes here."""
    monkeypatch.setattr(delivery, "INLINE_MAX", 50)
    monkeypatch.setattr(delivery, "CHUNK_MIN", CHUNK)
    monkeypatch.setattr(delivery, "CHUNK_MAX", CHUNK)


def weights(size: int) -> bytes:
    return b"2 " + b"." * (size - 2)


class Reads:
    """Every read of a blob."""

    def __init__(self, site: Site, monkeypatch) -> None:
        self.sizes: list[int] = []
        read = site.state.blobs.read

        def counting(sha256: str, **how: int) -> bytes:
            data = read(sha256, **how)
            self.sizes.append(len(data))
            return data

        monkeypatch.setattr(site.state.blobs, "read", counting)


async def load(site: Site, data: bytes, *workers: FakeWorker) -> dict[str, wire.LoadAnswer | None]:
    """What each worker answered, by its name."""
    blob = site.blob(data)
    active = Version(ModelKey("default", NN), NN, blob.sha256, blob.size)
    answers = await Delivery(site.fleet, site.state.blobs).load(active, {w.id for w in workers})
    names = {worker.id: worker.name for worker in workers}
    return {names[worker]: answer for worker, answer in answers.items()}


def ok(*workers: FakeWorker) -> dict[str, wire.LoadAnswer]:
    return {worker.name: wire.LoadAnswer(worker.id, True) for worker in workers}


async def test_small_weights_ride_in_the_survey():
    async with open_site() as site:
        workers = [await site.ready_worker() for _ in range(3)]
        assert await load(site, weights(50), *workers) == ok(*workers)
        assert [worker.weights for worker in workers] == [{NN: weights(50)}] * 3
        assert [worker.chunks for worker in workers] == [[]] * 3


async def test_workers_on_this_machine_are_told_the_file(monkeypatch):
    async with open_site() as site:
        reads = Reads(site, monkeypatch)
        worker = await site.ready_worker(scheme="ipc")
        assert await load(site, weights(1000), worker) == ok(worker)
        assert worker.weights == {NN: weights(1000)}
        assert (worker.chunks, reads.sizes) == ([], [])


async def test_large_weights_go_in_chunks_over_each_workers_own_link():
    async with open_site() as site:
        workers = [await site.ready_worker() for _ in range(2)]
        assert await load(site, weights(250), *workers) == ok(*workers)
        assert [worker.weights for worker in workers] == [{NN: weights(250)}] * 2
        assert [worker.chunks for worker in workers] == [[100, 100, 50]] * 2
        [survey] = workers[0].asked(wire.Load)
        assert survey == wire.Load(
            sorted(worker.id for worker in workers),
            wire.VersionKey("default", NN, site.blob(weights(250)).sha256),
            250,
        )


@pytest.mark.parametrize("size", [51, 99, 100, 101, 200])
async def test_weights_of_any_size_arrive_whole(size):
    async with open_site() as site:
        worker = await site.ready_worker()
        assert await load(site, weights(size), worker) == ok(worker)
        assert worker.weights == {NN: weights(size)}
        assert sum(worker.chunks) == size


async def test_near_and_far_workers_get_large_weights_each_in_their_way():
    async with open_site() as site:
        near, far = await site.ready_worker(scheme="ipc"), await site.ready_worker()
        assert await load(site, weights(250), near, far) == ok(near, far)
        assert (len(near.chunks), len(far.chunks)) == (0, 3)


async def test_a_chunk_is_read_once_however_many_workers_it_goes_to(monkeypatch):
    async with open_site() as site:
        reads = Reads(site, monkeypatch)
        workers = [await site.ready_worker() for _ in range(10)]
        assert await load(site, weights(1050), *workers) == ok(*workers)
        assert reads.sizes == [100] * 10 + [50]


@pytest.mark.parametrize(
    ("took", "sizes"),
    [(0.0, [100, 100, 200, 400, 400, 300]), (0.2, [100] * 15), (1.0, [100] * 15)],
    ids=["at once", "neither", "slowly"],
)
async def test_chunks_grow_where_they_pass_quickly(took, sizes, monkeypatch):
    monkeypatch.setattr(delivery, "CHUNK_MAX", 400)
    async with open_site() as site:
        worker = await site.ready_worker()
        hold_up(site, worker, lambda: took)
        assert await load(site, weights(1500), worker) == ok(worker)
        assert worker.chunks == sizes
        assert worker.weights == {NN: weights(1500)}


async def test_chunks_shrink_where_the_line_gets_slow(monkeypatch):
    monkeypatch.setattr(delivery, "CHUNK_MAX", 400)
    async with open_site() as site:
        worker = await site.ready_worker()
        hold_up(site, worker, lambda: 1.0 if sum(worker.chunks) >= 800 else 0.0)
        assert await load(site, weights(2000), worker) == ok(worker)
        assert worker.chunks == [100, 100, 200, 400, 400, 200, *[100] * 6]


def hold_up(site: Site, worker: FakeWorker, seconds: Callable[[], float]) -> None:
    """Have each frame to a worker take so long."""
    send = site.fleet.link(worker.id).exchange

    async def slow(frame: bytes):
        await trio.sleep(seconds())
        return await send(frame)

    site.fleet.link(worker.id).exchange = slow


async def test_a_worker_that_has_a_part_already_is_sent_the_rest():
    async with open_site() as site:
        worker = await site.ready_worker()
        digest = site.blob(weights(450)).sha256
        worker.said = [wire.ChunkStored(digest, 200)]  # the first chunk's answer: there was more
        worker._chunks[digest] = weights(450)[:200]
        assert await load(site, weights(450), worker) == ok(worker)
        assert worker.chunks == [100, 100, 100, 50]


async def test_nobody_to_load_is_no_work():
    async with open_site() as site:
        assert await load(site, weights(1000)) == {}


# --- what goes wrong


async def test_weights_that_do_not_load_come_back_with_the_reason():
    async with open_site() as site:
        good, bad = await site.ready_worker(), await site.ready_worker(refuses={weights(250), weights(20)})
        for size in (20, 250):
            answers = await load(site, weights(size), good, bad)
            assert answers == ok(good) | {
                bad.name: wire.LoadAnswer(bad.id, False, "Traceback\nLoadError: it does not fit")
            }


@pytest.mark.parametrize(
    ("said", "trace"),
    [
        (wire.Refused("internal", "the disk is full"), "the weights could not be sent: the disk is full"),
        (
            wire.ChunkStored("", 0),
            "the weights could not be sent: a chunk at 0 was answered ChunkStored(sha256='', stored=0)",
        ),
        (
            wire.Done("who"),
            "the weights could not be sent: a chunk at 0 was answered Done(worker='who')",
        ),
    ],
)
async def test_a_worker_that_does_not_take_a_chunk_fails_and_the_others_load(said, trace, caplog):
    async with open_site() as site:
        odd, other = await site.ready_worker(), await site.ready_worker()
        odd.said = [said]
        answers = await load(site, weights(250), odd, other)
        assert answers == ok(other) | {odd.name: wire.LoadAnswer(odd.id, False, trace)}
        assert [load.workers for load in other.asked(wire.Load)] == [[other.id]]
        assert f"weights could not be sent worker={odd.id}" in caplog.text


async def test_a_worker_that_dies_while_it_is_sent_weights_is_out():
    async with open_site() as site:
        doomed, other = await site.ready_worker(), await site.ready_worker()
        send = site.fleet.link(doomed.id).exchange

        async def die() -> None:
            doomed.die()

        async def dying(frame: bytes):
            if len(doomed.chunks) == 2:
                site.nursery.start_soon(die)  # with the third one in its hands
            return await send(frame)

        site.fleet.link(doomed.id).exchange = dying
        began = trio.current_time()
        assert await load(site, weights(1000), doomed, other) == ok(other)
        assert trio.current_time() - began < 1


async def test_a_worker_whose_link_breaks_while_it_is_sent_weights_is_out_even_if_it_is_back_at_once():
    async with open_site() as site:
        unlucky, other = await site.ready_worker(), await site.ready_worker()
        await site.until(lambda: trio.current_time() > 1)
        hold = trio.Event()
        send, send_other = site.fleet.link(unlucky.id).exchange, site.fleet.link(other.id).exchange

        async def break_off() -> None:
            unlucky.break_link()

        async def breaking(frame: bytes):
            if len(unlucky.chunks) == 2:
                site.nursery.start_soon(break_off)
            return await send(frame)

        async def slow(frame: bytes):
            await hold.wait()
            return await send_other(frame)

        site.fleet.link(unlucky.id).exchange = breaking
        site.fleet.link(other.id).exchange = slow
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_free_when_back, site, unlucky, hold)
            assert await load(site, weights(1000), unlucky, other) == ok(other)


async def _free_when_back(site: Site, worker: FakeWorker, hold: trio.Event) -> None:
    await site.until_life(worker, Life.SUSPECT)
    await site.until_life(worker, Life.READY)
    hold.set()


async def test_a_worker_that_dies_while_it_loads_is_out_at_once():
    async with open_site() as site:
        doomed, other = await site.ready_worker(load_takes=10), await site.ready_worker()
        began = trio.current_time()

        async def die() -> None:
            await trio.sleep(3)
            doomed.die()

        site.nursery.start_soon(die)
        assert await load(site, weights(20), doomed, other) == ok(other)
        assert trio.current_time() - began == pytest.approx(3, abs=0.1)


async def test_a_worker_that_left_and_came_back_meanwhile_is_not_waited_for():
    async with open_site() as site:
        worker = await site.ready_worker(load_takes=10)
        began = trio.current_time()

        async def leave_and_come_back() -> None:
            await trio.sleep(3)
            worker.break_link()

        site.nursery.start_soon(leave_and_come_back)
        assert await load(site, weights(20), worker) == {}
        assert trio.current_time() - began == pytest.approx(3, abs=0.1)
        await site.ready(worker)


async def test_a_worker_that_falls_silent_while_it_is_sent_weights_is_out():
    async with open_site() as site:
        silent, other = await site.ready_worker(), await site.ready_worker()
        silent.stop()
        assert await load(site, weights(1000), silent, other) == ok(other)
        assert site.life(silent) is not Life.READY


async def test_a_worker_that_never_says_that_it_has_loaded_is_waited_for_only_so_long():
    async with open_site() as site:
        slow, other = await site.ready_worker(load_takes=1000), await site.ready_worker()
        began = trio.current_time()
        assert await load(site, weights(20), slow, other) == ok(other) | {slow.name: None}
        assert trio.current_time() - began == pytest.approx(LOAD_TIME, abs=0.1)
        assert site.life(slow) is Life.READY  # it is slow, and not gone
