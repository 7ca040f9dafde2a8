"""Contract: what the gateway's half of links and surveys promises, over memory and over each of NNG's
transports with the real worker's half at the other end.
"""

from __future__ import annotations

import pytest
import trio

from common.errors import LinkClosed, LinkError, WorkerLost
from common.link import nng
from tests.common.link.conftest import Heard


async def echo(frame: memoryview) -> bytes:
    return b"re: " + frame


class Holding:
    """Answers what begins with `slow` only after `release`; `taken` is everything it was sent."""

    def __init__(self, name: bytes = b"re") -> None:
        self.taken: list[bytes] = []
        self.came = Heard()
        self._name = name
        self._free = trio.Event()

    async def __call__(self, frame: memoryview) -> bytes:
        question = bytes(frame)
        self.taken.append(question)
        self.came()
        if question.startswith(b"slow"):
            await self._free.wait()
        return self._name + b": " + question

    def release(self) -> None:
        self._free.set()


class Connected:
    """What is asked on behalf of a test, in a task of its own: the answer, or the error it ended with."""

    def __init__(self, nursery: trio.Nursery, link) -> None:
        self._nursery = nursery
        self._link = link

    def ask(self, question: bytes) -> Outcome:
        outcome = Outcome()
        self._nursery.start_soon(self._exchange, question, outcome)
        return outcome

    async def _exchange(self, question: bytes, outcome: Outcome) -> None:
        try:
            with outcome.scope:
                outcome.got = bytes((await self._link.exchange(question)).view)
        except (LinkError, WorkerLost) as error:
            outcome.got = error
        outcome.over.set()


class Outcome:
    def __init__(self) -> None:
        self.got: bytes | Exception | None = None
        self.scope = trio.CancelScope()
        self.over = trio.Event()

    async def end(self) -> bytes | Exception | None:
        await self.over.wait()
        return self.got


def nobody() -> None:
    """For whoever wants no notice."""


async def exchange(link, question: bytes) -> bytes:
    return bytes((await link.exchange(question)).view)


# --- links


async def test_an_exchange_is_answered(open_transport):
    async with open_transport() as transport:
        url = transport.url()
        link = transport.listen_link(url, nobody, nobody)
        transport.answer_requests(url, echo)
        assert await exchange(link, b"one") == b"re: one"
        assert await exchange(link, b"") == b"re: "
        assert await exchange(link, bytes(1 << 20)) == b"re: " + bytes(1 << 20)
        await link.aclose()


async def test_an_exchange_waits_for_a_peer(open_transport):
    async with open_transport() as transport, trio.open_nursery() as nursery:
        url = transport.url()
        link = transport.listen_link(url, nobody, nobody)
        asked = Connected(nursery, link).ask(b"early")
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert not asked.over.is_set()
        transport.answer_requests(url, echo)
        assert await asked.end() == b"re: early"
        await link.aclose()


async def test_a_peer_that_dials_before_there_is_a_link_is_there_when_it_opens(open_transport):
    async with open_transport() as transport:
        url = transport.url()
        transport.answer_requests(url, echo)
        await trio.sleep(0.03)  # it has been refused at least once
        link = transport.listen_link(url, nobody, nobody)
        assert await exchange(link, b"late") == b"re: late"
        await link.aclose()


async def test_two_exchanges_at_once_each_get_their_own_answer(open_transport):
    async with open_transport() as transport, trio.open_nursery() as nursery:
        url, handler = transport.url(), Holding()
        link = transport.listen_link(url, nobody, nobody)
        transport.answer_requests(url, handler)
        asking = Connected(nursery, link)
        first = asking.ask(b"slow")
        await handler.came.until(1)
        assert await asking.ask(b"quick").end() == b"re: quick"
        assert not first.over.is_set()
        handler.release()
        assert await first.end() == b"re: slow"
        await link.aclose()


async def test_a_peer_that_goes_fails_what_it_was_asked_and_the_next_peer_serves(open_transport):
    async with open_transport() as transport, trio.open_nursery() as nursery:
        url, handler = transport.url(), Holding()
        link = transport.listen_link(url, nobody, nobody)
        peer = transport.answer_requests(url, handler)
        asking = Connected(nursery, link)
        lost = [asking.ask(b"slow 1"), asking.ask(b"slow 2")]
        await handler.came.until(2)
        await peer.go()
        assert [type(await each.end()) for each in lost] == [WorkerLost, WorkerLost]
        transport.answer_requests(url, echo)
        assert await exchange(link, b"again") == b"re: again"
        await link.aclose()


async def test_what_a_peer_has_not_taken_when_it_goes_fails_and_never_goes_to_the_next(open_transport):
    async with open_transport() as transport, trio.open_nursery() as nursery:
        url, second = transport.url(), Holding()
        link = transport.listen_link(url, nobody, nobody)
        peer = transport.answer_requests(url, Holding())
        asking = Connected(nursery, link)
        lost = [asking.ask(b"slow" + bytes(1 << 20)) for _ in range(40)]
        await trio.testing.wait_all_tasks_blocked(0.1)
        await peer.go()
        assert {type(await each.end()) for each in lost} == {WorkerLost}
        transport.answer_requests(url, second)
        assert await exchange(link, b"now") == b"re: now"
        assert second.taken == [b"now"]
        await link.aclose()


async def test_closing_a_link_ends_what_waits_on_it_and_what_comes_later(open_transport):
    async with open_transport() as transport, trio.open_nursery() as nursery:
        url, handler = transport.url(), Holding()
        link = transport.listen_link(url, nobody, nobody)
        transport.answer_requests(url, handler)
        out = Connected(nursery, link).ask(b"slow")
        await handler.came.until(1)
        lonely = transport.listen_link(transport.url(), nobody, nobody)
        unsent = Connected(nursery, lonely).ask(b"to nobody")
        await trio.testing.wait_all_tasks_blocked()
        await link.aclose()
        await lonely.aclose()
        assert type(await out.end()) is LinkClosed
        assert type(await unsent.end()) is LinkClosed
        with pytest.raises(LinkClosed):
            await link.exchange(b"too late")
        await link.aclose()  # closed twice is closed


async def test_a_kicked_peer_loses_what_it_has_and_dials_again(open_transport):
    async with open_transport() as transport, trio.open_nursery() as nursery:
        url, handler = transport.url(), Holding()
        joined, left = Heard(), Heard()
        link = transport.listen_link(url, joined, left)
        transport.answer_requests(url, handler)
        asked = Connected(nursery, link).ask(b"slow")
        await handler.came.until(1)
        link.kick()
        assert type(await asked.end()) is WorkerLost
        await left.until(1)
        await joined.until(2)
        handler.release()
        assert await exchange(link, b"again") == b"re: again"
        await link.aclose()


async def test_kicking_nobody_does_nothing(open_transport):
    async with open_transport() as transport:
        link = transport.listen_link(transport.url(), nobody, nobody)
        link.kick()
        await link.aclose()


async def test_a_link_says_when_its_peer_comes_and_goes(open_transport):
    async with open_transport() as transport:
        url, joined, left = transport.url(), Heard(), Heard()
        link = transport.listen_link(url, joined, left)
        for times in (1, 2):
            peer = transport.answer_requests(url, echo)
            await joined.until(times)
            assert left.times == times - 1
            await peer.go()
            await left.until(times)
        await link.aclose()


async def test_a_second_peer_is_turned_away_until_the_first_has_gone(open_transport):
    async with open_transport() as transport:
        url, joined, left = transport.url(), Heard(), Heard()
        link = transport.listen_link(url, joined, left)
        first, second = Holding(b"first"), Holding(b"second")
        peer = transport.answer_requests(url, first)
        await joined.until(1)
        other = transport.answer_requests(url, second)
        for n in range(20):
            assert await exchange(link, b"%d" % n) == b"first: %d" % n
            await trio.sleep(0.01)  # the second one dials all the while
        assert second.taken == []
        assert (joined.times, left.times) == (1, 0)  # who was never let in cannot leave
        await peer.go()
        while joined.times < 2:
            with trio.move_on_after(2):
                await joined.until(2)
                break
            # As a worker does that hears nothing: over TLS NNG 1.11 may not tell it that it was turned away.
            other.hang_up()
        assert await exchange(link, b"now") == b"second: now"
        await link.aclose()


async def test_a_cancelled_exchange_is_over_and_its_late_answer_is_never_taken_for_another(open_transport):
    async with open_transport() as transport, trio.open_nursery() as nursery:
        url, handler = transport.url(), Holding()
        link = transport.listen_link(url, nobody, nobody)
        transport.answer_requests(url, handler)
        cut = Connected(nursery, link).ask(b"slow")
        await handler.came.until(1)
        cut.scope.cancel()
        assert await cut.end() is None
        asking = [Connected(nursery, link).ask(b"%d" % n) for n in range(10)]
        handler.release()  # the late answer comes among the others
        assert [await each.end() for each in asking] == [b"re: %d" % n for n in range(10)]
        assert await exchange(link, b"after") == b"re: after"
        await link.aclose()


async def test_hundreds_of_cancelled_exchanges_leave_the_link_as_it_was(open_transport):
    async with open_transport() as transport:
        url = transport.url()
        link = transport.listen_link(url, nobody, nobody)
        transport.answer_requests(url, echo)
        got = 0
        for n in range(300):
            with trio.move_on_after(n % 7 * 0.0002):
                assert await exchange(link, b"%d" % n) == b"re: %d" % n
                got += 1
        assert await exchange(link, b"after") == b"re: after"
        assert got < 300  # some were cut short
        await link.aclose()


async def test_an_exchange_cancelled_before_there_is_a_peer_is_never_delivered(open_transport):
    async with open_transport() as transport:
        url, handler = transport.url(), Holding()
        link = transport.listen_link(url, nobody, nobody)
        for n in range(3):
            with trio.move_on_after(0.01) as scope:
                await link.exchange(b"cut %d" % n)
            assert scope.cancelled_caught
        transport.answer_requests(url, handler)
        assert await exchange(link, b"whole") == b"re: whole"
        assert handler.taken == [b"whole"]
        await link.aclose()


@pytest.mark.parametrize("size", [1000, 2000])
async def test_a_frame_over_the_limit_costs_the_connection_and_not_the_link(
    open_transport, monkeypatch, size
):
    async def shout(frame: memoryview) -> bytes:
        return b"!" * 2000 if frame == b"shout" else b"re: " + frame

    monkeypatch.setattr(nng, "MAX_FRAME", 1500)
    async with open_transport() as transport:
        url, joined = transport.url(), Heard()
        link = transport.listen_link(url, joined, nobody)
        transport.answer_requests(url, shout)
        assert len(await exchange(link, bytes(1400))) == 1404
        with pytest.raises(WorkerLost):  # first one that the peer refuses, then one that we do
            await link.exchange(bytes(2000) if size == 2000 else b"shout")
        await joined.until(2)
        assert await exchange(link, b"again") == b"re: again"
        await link.aclose()


async def test_an_address_in_use_is_named(open_transport):
    async with open_transport() as transport:
        url = transport.url()
        link = transport.listen_link(url, nobody, nobody)
        with pytest.raises(LinkError) as refusal:
            transport.listen_link(url, nobody, nobody)
        assert str(refusal.value) == (
            f"cannot listen on {url}: the address is in use: is another gateway running?"
        )
        await link.aclose()
        link = transport.listen_link(url, nobody, nobody)  # it is free again
        transport.answer_requests(url, echo)
        assert await exchange(link, b"there?") == b"re: there?"
        await link.aclose()


# --- surveys


async def survey(surveyor, question: bytes, *, answers: int, seconds: float = 10.0) -> set[bytes]:
    """Answers to a question, over once there are so many."""
    got: set[bytes] = set()

    def take(frame) -> bool:
        got.add(bytes(frame.view))
        return len(got) == answers

    await surveyor.ask(question, seconds, take)
    return got


async def test_a_survey_reaches_every_peer_on_every_address(open_transport):
    async with open_transport() as transport:
        urls, joined, left = [transport.url(), transport.url()], Heard(), Heard()
        async with transport.open_surveyor(urls, joined, left) as surveyor:
            for url, name in [(urls[0], b"a"), (urls[0], b"b"), (urls[1], b"c")]:
                transport.answer_surveys(url, Holding(name))
            await joined.until(3)
            assert await survey(surveyor, b"who?", answers=3) == {b"a: who?", b"b: who?", b"c: who?"}
            assert left.times == 0


async def test_a_survey_is_over_as_soon_as_enough_was_taken(open_transport):
    async with open_transport() as transport:
        url, joined = transport.url(), Heard()
        async with transport.open_surveyor([url], joined, nobody) as surveyor:
            transport.answer_surveys(url, echo)
            transport.answer_surveys(url, Holding())
            await joined.until(2)
            with trio.fail_after(5):
                assert len(await survey(surveyor, b"slow?", answers=1, seconds=1000)) == 1


async def test_a_survey_that_nobody_answers_ends_quietly_when_its_time_is_over(open_transport):
    async def silent(frame: memoryview) -> None:
        return None

    async with open_transport() as transport:
        url, joined = transport.url(), Heard()
        async with transport.open_surveyor([url], joined, nobody) as surveyor:
            assert await survey(surveyor, b"anybody?", answers=1, seconds=0.05) == set()
            transport.answer_surveys(url, silent)
            await joined.until(1)
            began = trio.current_time()
            assert await survey(surveyor, b"anybody?", answers=1, seconds=0.1) == set()
            assert 0.09 <= trio.current_time() - began < 2


async def test_late_answers_never_show_up_in_a_later_survey(open_transport):
    async with open_transport() as transport:
        url, joined, handler = transport.url(), Heard(), Holding()
        async with transport.open_surveyor([url], joined, nobody) as surveyor:
            transport.answer_surveys(url, handler)
            await joined.until(1)
            assert await survey(surveyor, b"slow", answers=1, seconds=0.05) == set()
            handler.release()
            for n in range(20):
                assert await survey(surveyor, b"%d" % n, answers=1) == {b"re: %d" % n}
            assert await survey(surveyor, b"last", answers=2, seconds=1.0) == {b"re: last"}


async def test_several_surveys_at_once_do_not_mix(open_transport):
    async with open_transport() as transport:
        url, joined = transport.url(), Heard()
        got: dict[int, set[bytes]] = {}

        async with transport.open_surveyor([url], joined, nobody) as surveyor:

            async def one(n: int) -> None:
                got[n] = await survey(surveyor, b"%d" % n, answers=2)

            for name in (b"a", b"b"):
                transport.answer_surveys(url, Holding(name))
            await joined.until(2)
            async with trio.open_nursery() as nursery:
                for n in range(8):
                    nursery.start_soon(one, n)
        assert got == {n: {b"a: %d" % n, b"b: %d" % n} for n in range(8)}


async def test_a_cancelled_survey_leaves_the_next_one_alone(open_transport):
    async with open_transport() as transport:
        url, joined, handler = transport.url(), Heard(), Holding()
        async with transport.open_surveyor([url], joined, nobody) as surveyor:
            transport.answer_surveys(url, handler)
            await joined.until(1)
            with trio.move_on_after(0.05):
                await survey(surveyor, b"slow", answers=1)
            handler.release()
            assert await survey(surveyor, b"next", answers=1) == {b"re: next"}


async def test_the_survey_socket_says_who_comes_and_goes(open_transport):
    async with open_transport() as transport:
        url, joined, left = transport.url(), Heard(), Heard()
        async with transport.open_surveyor([url], joined, left) as surveyor:
            peer = transport.answer_surveys(url, echo)
            transport.answer_surveys(url, Holding())
            await joined.until(2)
            await peer.go()
            await left.until(1)
            assert await survey(surveyor, b"who?", answers=1) == {b"re: who?"}


async def test_a_survey_over_the_limit_is_answered_by_nobody_and_peers_come_back(open_transport, monkeypatch):
    monkeypatch.setattr(nng, "MAX_FRAME", 1500)
    async with open_transport() as transport:
        url, joined = transport.url(), Heard()
        async with transport.open_surveyor([url], joined, nobody) as surveyor:
            transport.answer_surveys(url, echo)
            await joined.until(1)
            assert await survey(surveyor, bytes(2000), answers=1, seconds=0.1) == set()
            await joined.until(2)
            assert await survey(surveyor, b"small", answers=1) == {b"re: small"}


async def test_a_surveyor_gives_its_addresses_back(open_transport):
    async with open_transport() as transport:
        url = transport.url()
        for _ in range(2):
            async with transport.open_surveyor([url], nobody, nobody):
                with pytest.raises(LinkError, match="cannot listen on"):
                    async with transport.open_surveyor([url], nobody, nobody):
                        raise AssertionError("it was in use")
