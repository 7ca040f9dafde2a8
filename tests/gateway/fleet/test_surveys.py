"""Collaboration: a typed question to a fleet on a network in memory, in virtual time."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from common import wire
from common.errors import LinkError
from common.link.fake import FakeNetwork, FakePeer, FakeSurveyor
from gateway.fleet.surveys import Surveys
from tests.gateway.fakes import SERVICE

pytestmark = pytest.mark.usefixtures("virtual_time")

QUESTION = wire.Drop([], "default", "1")


class Fleet:
    """Peers that say what they are told to, after a while."""

    def __init__(self, network: FakeNetwork, nursery: trio.Nursery, surveyor: FakeSurveyor) -> None:
        self.surveyor = surveyor
        self.surveys = Surveys(surveyor)
        self.nursery = nursery
        self.heard: list[object] = []
        self._network = network

    async def peer(self, *says: wire.Message | bytes, after: float = 0.0) -> None:
        """One more peer, connected; its n-th answer is `says[n]`, the last one again and again."""
        answers = [each if isinstance(each, bytes) else wire.encode(each) for each in says]

        async def handle(question: memoryview) -> bytes:
            self.heard.append(wire.decode(question)[0])
            await trio.sleep(after)
            return answers.pop(0) if len(answers) > 1 else answers[0]

        self.nursery.start_soon(FakePeer(self._network, SERVICE, handle).run)
        await trio.testing.wait_all_tasks_blocked()

    async def ask(self, *expected: str, seconds: float = 10.0, **how) -> tuple[set[str], float]:
        """Who answered, and how long it took."""
        began = trio.current_time()
        answers = await self.surveys.ask(QUESTION, wire.Done, seconds, expected=lambda: set(expected), **how)
        assert all(answer == wire.Done(worker) for worker, answer in answers.items())
        return set(answers), trio.current_time() - began


@asynccontextmanager
async def open_fleet() -> AsyncIterator[Fleet]:
    network = FakeNetwork()
    opening = network.open_surveyor([SERVICE], lambda: None, lambda: None)
    async with opening as surveyor, trio.open_nursery() as nursery:
        yield Fleet(network, nursery, surveyor)
        nursery.cancel_scope.cancel()


async def test_a_survey_ends_with_the_last_answer_that_is_expected():
    async with open_fleet() as fleet:
        await fleet.peer(wire.Done("a"), after=1)
        await fleet.peer(wire.Done("b"), after=2)
        await fleet.peer(wire.Done("c"), after=5)
        assert await fleet.ask("a", "b") == ({"a", "b"}, 2.0)
        assert fleet.heard == [QUESTION] * 3


async def test_its_time_is_for_those_that_never_answer():
    async with open_fleet() as fleet:
        await fleet.peer(wire.Done("a"), after=1)
        await fleet.peer(wire.Done("b"), after=11)
        assert await fleet.ask("a", "b") == ({"a"}, 10.0)


async def test_who_is_not_expected_may_answer_too():
    async with open_fleet() as fleet:
        await fleet.peer(wire.Done("stranger"))
        await fleet.peer(wire.Done("a"), after=1)
        assert await fleet.ask("a") == ({"a", "stranger"}, 1.0)


async def test_a_survey_of_nobody_takes_no_time():
    async with open_fleet() as fleet:
        assert await fleet.ask() == (set(), 0.0)


async def test_a_survey_ends_when_the_worker_it_waits_for_leaves():
    async with open_fleet() as fleet:
        await fleet.peer(wire.Done("a"), after=1)
        expected = {"a", "b"}

        async def b_leaves() -> None:
            await trio.sleep(3)
            expected.remove("b")
            fleet.surveys.membership_changed()

        fleet.nursery.start_soon(b_leaves)
        asked = 0

        def still_expected() -> set[str]:
            nonlocal asked
            asked += 1
            return expected

        answers = await fleet.surveys.ask(QUESTION, wire.Done, 10.0, expected=still_expected)
        assert (set(answers), trio.current_time()) == ({"a"}, 3.0)
        before = asked
        fleet.surveys.membership_changed()  # nobody waits any more
        assert asked == before


async def test_answers_that_are_none_are_counted_and_cost_nobody_else_anything(caplog):
    async with open_fleet() as fleet:
        await fleet.peer(b"\xff" * 300)
        await fleet.peer(wire.ChunkStored("sha", 1))  # a frame, and not an answer to this question
        await fleet.peer(wire.Done("a"), after=1)
        with caplog.at_level(logging.WARNING):
            assert await fleet.ask("a") == ({"a"}, 1.0)
            assert await fleet.ask("a") == ({"a"}, 1.0)
        assert fleet.surveys.bad_frames == 4
        assert len(caplog.records) == 1  # one line in ten seconds says it


async def test_a_worker_counts_once_whatever_it_says_more():
    async with open_fleet() as fleet:
        said: list[wire.LoadAnswer] = []
        await fleet.peer(wire.encode(wire.LoadAnswer("a", True)))
        await fleet.peer(wire.encode(wire.LoadAnswer("a", False, "another one that calls itself a")), after=1)
        await fleet.peer(wire.encode(wire.LoadAnswer("b", True)), after=2)
        answers = await fleet.surveys.ask(
            QUESTION, wire.LoadAnswer, 10.0, expected=lambda: {"a", "b"}, on_answer=said.append
        )
        assert said == list(answers.values()) == [wire.LoadAnswer("a", True), wire.LoadAnswer("b", True)]


async def test_buffers_ride_along():
    async with open_fleet() as fleet:
        rode: list[bytes] = []

        async def handle(question: memoryview) -> bytes:
            rode.extend(bytes(buffer) for buffer in wire.decode(question)[1])
            return wire.encode(wire.Done("a"))

        fleet.nursery.start_soon(FakePeer(fleet._network, SERVICE, handle).run)
        await trio.testing.wait_all_tasks_blocked()
        await fleet.ask("a", buffers=[b"weights"])
        assert rode == [b"weights"]


async def test_a_question_that_cannot_be_sent_is_the_askers_to_know():
    async with open_fleet() as fleet:
        fleet.surveyor.broken = LinkError("the survey cannot be sent")
        with pytest.raises(LinkError, match="cannot be sent"):
            await fleet.ask("a")
        fleet.surveyor.broken = None
        await fleet.peer(wire.Done("a"))
        assert await fleet.ask("a") == ({"a"}, 0.0)


async def test_surveys_at_once_each_end_with_their_own_answers():
    async with open_fleet() as fleet:
        await fleet.peer(wire.Done("a"), after=1)
        ended: dict[str, float] = {}

        async def one(worker: str, seconds: float) -> None:
            _, ended[worker] = await fleet.ask(worker, seconds=seconds)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(one, "a", 10.0)
            nursery.start_soon(one, "nobody", 3.0)
        assert ended == {"a": 1.0, "nobody": 3.0}
