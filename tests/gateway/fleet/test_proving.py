"""collaboration: surveys and links of a gateway with a token, over a network in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import trio

from common import wire
from common.errors import NotSent, Unproven, WorkerLost
from common.link.fake import FakeLink, FakeNetwork, FakePeer
from common.proving import WorkerProver, fleet_key
from gateway.bell import Bell
from gateway.fleet.proving import LINK_TIME, PATIENCE, Proving
from gateway.fleet.surveys import Surveys

SERVICE, LINK = "ipc:///service", "ipc:///link"
TOKEN = "correct horse battery staple"
WORKER = "w" * 32
ME = wire.HelloAnswer(WORKER, "bob", "host", 1, "ipc", 2, "cpu", False, False, [])

Handle = Callable[[memoryview], "bytes | None"]


class Fleet:
    """A gateway's contact to its workers, and what comes to them."""

    def __init__(self, network: FakeNetwork, nursery: trio.Nursery, proving: Proving) -> None:
        self.network, self.nursery, self.proving = network, nursery, proving
        self.surveys = Surveys(proving)
        self.heard: list[str] = []

    def connect(self, url: str, handle: Handle) -> FakePeer:
        async def answer(frame: memoryview) -> bytes | None:
            return handle(frame)

        peer = FakePeer(self.network, url, answer)
        self.nursery.start_soon(peer.run)
        return peer

    async def hello(self) -> dict[str, wire.HelloAnswer]:
        return await self.surveys.ask(
            wire.Hello("g"), wire.HelloAnswer, 0.2, expected=lambda: {"everybody there is"}
        )

    async def meet(self, prover: WorkerProver) -> None:
        def worker(frame: memoryview) -> bytes | None:
            return prover.answer_survey(frame, lambda _: wire.encode(ME))

        self.connect(SERVICE, worker)
        await trio.testing.wait_all_tasks_blocked()
        assert await self.hello() == {}
        assert await self.hello() == {WORKER: ME}


@asynccontextmanager
async def open_fleet() -> AsyncIterator[Fleet]:
    network, came = FakeNetwork(), Bell()

    def open_link(
        hello: wire.HelloAnswer, joined: Callable[[], None], left: Callable[[], None]
    ) -> tuple[FakeLink, str]:
        return network.listen_link(LINK, joined, left), LINK

    async with (
        network.open_surveyor([SERVICE], came.ring, came.ring) as surveyor,
        trio.open_nursery() as nursery,
    ):
        proving = Proving(TOKEN, surveyor, open_link, [SERVICE], came)
        async with proving.run():
            yield Fleet(network, nursery, proving)
        nursery.cancel_scope.cancel()


def new_prover(token: str = TOKEN) -> WorkerProver:
    return WorkerProver(fleet_key(token), WORKER, SERVICE)


def echo(frame: memoryview) -> bytes:
    return b"echo " + bytes(frame)


async def test_a_worker_with_the_token_is_heard_in_the_second_survey(autojump_clock):
    async with open_fleet() as fleet:
        await fleet.meet(new_prover())
        assert fleet.proving.strangers == 0


async def test_who_answers_without_the_token_is_counted_and_hung_up_on_at_once(autojump_clock):
    async with open_fleet() as fleet:
        stranger = fleet.connect(SERVICE, lambda frame: wire.encode(ME))
        await trio.testing.wait_all_tasks_blocked()
        first = stranger.pipe
        assert await fleet.hello() == {}
        assert fleet.proving.strangers == 1
        assert stranger.pipe != first  # it dialled again
        assert fleet.surveys.bad_frames == 0


async def test_who_says_nothing_is_hung_up_on_after_a_while(autojump_clock):
    async with open_fleet() as fleet:
        await fleet.meet(new_prover())
        stranger = fleet.connect(SERVICE, lambda frame: None)
        await trio.testing.wait_all_tasks_blocked()
        first = stranger.pipe
        assert await fleet.hello() == {WORKER: ME}
        await trio.sleep(PATIENCE + 0.1)
        assert (fleet.proving.strangers, stranger.pipe) == (0, first)
        assert await fleet.hello() == {WORKER: ME}
        assert fleet.proving.strangers == 1
        assert stranger.pipe != first


async def test_a_link_carries_nothing_before_its_worker_has_proved_itself(autojump_clock):
    async with open_fleet() as fleet:
        prover = new_prover()
        await fleet.meet(prover)
        link, url = fleet.proving.open_link(
            ME, lambda: fleet.heard.append("joined"), lambda: fleet.heard.append("left")
        )
        with pytest.raises(NotSent):
            await link.exchange(b"rows")
        seen: list[bytes] = []

        def stranger(frame: memoryview) -> None:
            seen.append(bytes(frame))

        thief = fleet.connect(url, stranger)
        await trio.sleep(LINK_TIME - 0.1)
        with pytest.raises(NotSent):
            await link.exchange(b"rows")
        await trio.sleep(0.2)
        assert (fleet.heard, fleet.proving.strangers) == ([], 1)
        assert not any(b"rows" in frame for frame in seen)
        thief.close()

        worker = fleet.connect(url, lambda frame: prover.answer_request(frame, echo))
        await trio.sleep(1)
        assert fleet.heard == ["joined"]
        assert bytes((await link.exchange(b"rows")).view) == b"echo rows"
        worker.hang_up()
        await trio.testing.wait_all_tasks_blocked()
        assert fleet.heard == ["joined", "left"]
        await link.aclose()


async def test_what_waits_for_an_answer_fails_when_the_connection_ends(autojump_clock):
    async with open_fleet() as fleet:
        prover = new_prover()
        await fleet.meet(prover)
        joined = trio.Event()
        link, url = fleet.proving.open_link(ME, joined.set, lambda: None)
        deaf = False

        def handle(frame: memoryview) -> bytes | None:
            return None if deaf else prover.answer_request(frame, echo)

        worker = fleet.connect(url, handle)
        await joined.wait()
        deaf = True
        async with trio.open_nursery() as nursery:

            async def ask() -> None:
                with pytest.raises(WorkerLost):
                    await link.exchange(b"rows")

            nursery.start_soon(ask)
            await trio.testing.wait_all_tasks_blocked()
            worker.close()
        await link.aclose()


async def test_an_answer_that_another_has_given_is_not_taken(autojump_clock):
    async with open_fleet() as fleet:
        prover = new_prover()
        await fleet.meet(prover)
        joined = trio.Event()
        link, url = fleet.proving.open_link(ME, joined.set, lambda: None)
        recorded: list[bytes] = []

        def handle(frame: memoryview) -> bytes | None:
            answer = prover.answer_request(frame, echo)
            assert answer is not None
            recorded.append(answer)
            return recorded[0]

        fleet.connect(url, handle)
        await joined.wait()
        with pytest.raises(Unproven, match="not sealed by its worker"):
            await link.exchange(b"rows")
        await link.aclose()
