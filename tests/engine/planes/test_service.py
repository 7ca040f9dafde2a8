"""End to end, small: a worker's service in a thread, and the gateway's half of its links beside it."""

import hashlib
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import torch
import trio

from common import wire
from common.addresses import link_address, link_endpoint, parse_address, service_url
from common.link.gateway import Link, Surveyor, listen_link, open_surveyor
from engine.planes.identity import identify
from engine.planes.service import Addresses, WorkerService

CHUNK = 1000


@pytest.fixture
def addresses():
    # Not tmp_path: the path of a Unix socket has room for about a hundred bytes.
    folder = tempfile.mkdtemp(prefix="worker-")
    yield Addresses(f"ipc://{folder}/service", f"ipc://{folder}/worker")
    shutil.rmtree(folder)


class Gateway:
    """Asks one worker, and is told when it comes and goes."""

    def __init__(self, addresses: Addresses, surveyor: Surveyor) -> None:
        self._base = parse_address(addresses.worker)
        self._surveyor = surveyor
        self.worker = ""
        self.link: Link

    async def survey(self, question: wire.Message, *buffers: bytes) -> Any:
        answers: list[Any] = []

        def take(frame: Any) -> bool:
            answers.append(wire.decode(frame.view)[0])
            return True

        await self._surveyor.ask(wire.encode(question, buffers), 10.0, take)
        (answer,) = answers
        return answer

    async def open_link(self, nursery: trio.Nursery) -> None:
        self.worker = (await self.survey(wire.Hello("gateway"))).worker
        endpoint = link_endpoint(self._base, self.worker)
        linked = trio.Event()
        self.link = listen_link(str(link_address(self._base, endpoint)), linked.set, lambda: None)
        nursery.start_soon(self.link.watch)
        assert await self.survey(wire.LinkUp({self.worker: endpoint})) == wire.Done(self.worker)
        await linked.wait()

    async def ask(self, frame: bytes) -> tuple[Any, list[bytes]]:
        answer = await self.link.exchange(frame)
        message, buffers = wire.decode(answer.view)
        return message, [bytes(buffer) for buffer in buffers]


@asynccontextmanager
async def open_gateway(addresses: Addresses, came: trio.Event) -> AsyncIterator[Gateway]:
    url = service_url(parse_address(addresses.service))
    async with open_surveyor([url], came.set, lambda: None) as surveyor:
        await came.wait()
        gateway = Gateway(addresses, surveyor)
        async with trio.open_nursery() as nursery:
            await gateway.open_link(nursery)
            try:
                yield gateway
            finally:
                await gateway.link.aclose()


def new_service(addresses: Addresses, **how: Any) -> WorkerService:
    return WorkerService(identify("bob", 7), addresses, device=torch.device("cpu"), cache_size=100, **how)


@asynccontextmanager
async def running(service: WorkerService) -> AsyncIterator[trio.Event]:
    """The service, until the block ends; the event tells that it ended by itself."""
    ended = trio.Event()

    async def run() -> None:
        await trio.to_thread.run_sync(service.run)
        ended.set()

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            try:
                yield ended
            finally:
                service.stop()


async def test_a_worker_joins_loads_in_three_ways_predicts_drops_and_drains(
    addresses, adding, constant, batch, floats, loaded, tmp_path
) -> None:
    one, two = constant(1.0), constant(2.0)
    async with running(new_service(addresses)) as ended, open_gateway(addresses, trio.Event()) as gateway:
        me = [gateway.worker]
        answer = loaded(gateway.worker)

        assert await gateway.survey(wire.Load(me, adding.key, len(adding.data)), adding.data) == answer
        (tmp_path / "one").write_bytes(one.data)
        path = str(tmp_path / "one")
        assert await gateway.survey(wire.Load(me, one.key, len(one.data), path)) == answer
        for at in range(0, len(two.data), CHUNK):
            piece = two.data[at : at + CHUNK]
            stored = await gateway.ask(wire.encode(wire.Chunk(two.key.sha256, len(two.data), at), [piece]))
            assert stored == (wire.ChunkStored(two.key.sha256, at + len(piece)), [])
        assert await gateway.survey(wire.Load(me, two.key, len(two.data))) == answer

        for version, expected in (("adding", 1.0), ("always 1.0", 1.0), ("always 2.0", 2.0)):
            answer, buffers = await gateway.ask(batch(version, [0.3, 0.7]))
            assert isinstance(answer, wire.BatchAnswer)
            assert floats(buffers[0]) == pytest.approx([expected], abs=0.01)

        assert await gateway.survey(wire.Commit(me, "default", "adding")) == wire.Done(gateway.worker)
        assert await gateway.survey(wire.Drop(me, "default", "always 1.0")) == wire.Done(gateway.worker)
        assert (await gateway.ask(batch("always 1.0", [0, 0])))[0].code == "not_found"
        status = await gateway.survey(wire.Status())
        assert (status.requests, status.cache_misses) == (3, 3)
        hello = await gateway.survey(wire.Hello("gateway"))
        assert (hello.name, hello.scheme, hello.slots, hello.draining) == ("bob", "ipc", 2, False)
        assert hello.versions == [adding.key, two.key]

        assert await gateway.survey(wire.Drain(me)) == wire.Done(gateway.worker)
        while not (await gateway.survey(wire.Hello("gateway"))).draining:
            await trio.lowlevel.checkpoint()
        await ended.wait()


async def test_a_worker_waits_for_a_gateway_that_comes_late_and_for_the_next_one(
    addresses, adding, batch, floats
) -> None:
    async with running(new_service(addresses)):
        for _ in range(2):
            async with open_gateway(addresses, trio.Event()) as gateway:
                hello = await gateway.survey(wire.Hello("gateway"))
                if not hello.versions:
                    load = wire.Load([gateway.worker], adding.key, len(adding.data))
                    await gateway.survey(load, adding.data)
                _, buffers = await gateway.ask(batch("adding", [0.3, 0.7]))
                assert floats(buffers[0]) == pytest.approx([1.0], abs=0.01)


async def test_frames_nobody_understands_on_either_socket_leave_the_worker_serving(
    addresses, adding, batch
) -> None:
    async with running(new_service(addresses)), open_gateway(addresses, trio.Event()) as gateway:
        for frame in (b"", b"\0" * 100, b"\1\0\xff\xff\xff\xff\xff\xff", hashlib.sha512().digest()):
            assert (await gateway.ask(frame))[0].code == "wire"
            await gateway._surveyor.ask(frame, 0.001, lambda _: True)
        await gateway.survey(wire.Load([gateway.worker], adding.key, len(adding.data)), adding.data)
        assert isinstance((await gateway.ask(batch("adding", [0.3, 0.7])))[0], wire.BatchAnswer)


async def test_a_worker_without_a_gateway_stops_when_told_even_before_it_runs(addresses) -> None:
    service = new_service(addresses)
    service.stop()
    service.stop()
    async with running(service) as ended:
        await ended.wait()


async def test_a_worker_stays_as_long_as_a_gateway_says_hello_and_leaves_some_time_after(addresses) -> None:
    service = new_service(addresses, gateway_timeout=1.0)
    async with running(service) as ended, open_gateway(addresses, trio.Event()) as gateway:
        until = trio.current_time() + 1.5
        while trio.current_time() < until:
            assert (await gateway.survey(wire.Hello("gateway"))).incarnation == 7
            await trio.sleep(0.02)
        assert not ended.is_set()
        await ended.wait()  # though it is connected all the time


async def test_a_spot_worker_answers_one_batch_and_leaves(addresses, adding, batch, floats) -> None:
    service = new_service(addresses, spot=True)
    async with running(service) as ended, open_gateway(addresses, trio.Event()) as gateway:
        assert (await gateway.survey(wire.Hello("gateway"))).slots == 1
        await gateway.survey(wire.Load([gateway.worker], adding.key, len(adding.data)), adding.data)
        _, buffers = await gateway.ask(batch("adding", [0.3, 0.7]))
        assert floats(buffers[0]) == pytest.approx([1.0], abs=0.01)
        while not (await gateway.survey(wire.Hello("gateway"))).draining:
            await trio.lowlevel.checkpoint()
        await ended.wait()


async def test_a_link_offered_after_the_end_is_not_opened(addresses) -> None:
    service = new_service(addresses)
    service.stop()
    await trio.to_thread.run_sync(service.run)
    service._open_link("/link/" + "0" * 32)
    assert service._link is None


async def test_a_worker_that_hears_nothing_dials_anew(addresses, monkeypatch):
    monkeypatch.setattr("engine.planes.contact.TICK", 0.01)
    came, left = trio.open_memory_channel[None](100)
    url = service_url(parse_address(addresses.service))
    async with (
        open_surveyor([url], lambda: came.send_nowait(None), lambda: None),
        running(new_service(addresses)),
    ):
        for _ in range(3):
            await left.receive()
