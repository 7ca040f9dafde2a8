"""Collaboration: the worker manager with a real fleet, a fake launcher and fake workers; virtual time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
import trio

from common import wire
from gateway.autoscaler.staffing import Counts
from gateway.autoscaler.workforce import CALL_TIME, Limits, Workforce
from gateway.fleet.roster import State as Life
from gateway.launchers.launcher import WorkerSpec
from gateway.observing.events import Lost
from tests.gateway.launchers.fake import FakeLauncher
from tests.gateway.site import NN, Site, open_site

pytestmark = pytest.mark.usefixtures("virtual_time")

SPEC = WorkerSpec(service="w")


class Employer:
    """A site with a worker manager at work."""

    def __init__(self, site: Site, launcher: FakeLauncher, workforce: Workforce) -> None:
        self.site, self.launcher, self.workforce = site, launcher, workforce
        self.told = site.events.subscribe(lambda: None)

    async def until_counts(self, *counts: int) -> None:
        """Until there are so many (wanted, ready, starting, draining, failing)."""
        await self.site.until(lambda: self.workforce.counts() == Counts(*counts))

    def news(self) -> list[dict[str, Any]]:
        """What was published about workers that were started, since the last time."""
        told = [each.data for each in self.told.take() if not isinstance(each, Lost)]
        ours = ("worker started", "worker ended", "crash loop", "workers wanted")
        return [data for data in told if data["what"] in ours]


@asynccontextmanager
async def employing(
    first: int = 0, *, limits: tuple[int, int] = (0, 8), worker: dict[str, Any] | None = None, **how: Any
) -> AsyncIterator[Employer]:
    """At the end everybody is told to go."""
    async with open_site() as site:
        launcher = FakeLauncher(site, **(worker or {}))
        workforce = Workforce(launcher, SPEC, site.fleet, Limits(*limits), first=first, **how)
        site.employ(workforce)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(workforce.run)
            yield Employer(site, launcher, workforce)
            launcher.refusal, launcher.hangs = "", False
            nursery.cancel_scope.cancel()
        if not how.get("leaves_workers"):
            assert launcher.launched == {}
            assert launcher.workers == {}
        for each in list(launcher.workers.values()):
            each.die()


async def test_it_starts_as_many_as_at_first_and_more_when_more_are_wanted():
    async with employing(2) as employer:
        await employer.until_counts(2, 2, 0, 0, 0)
        names = {worker.name for worker in employer.site.fleet.roster}
        assert names == {"w-0", "w-1"}
        asked = trio.current_time()
        employer.workforce.want(5, "requests wait")
        await employer.until_counts(5, 5, 0, 0, 0)
        assert trio.current_time() - asked < 0.1  # at once, not at the next tick
        assert [data["what"] for data in employer.news()] == [
            *["worker started"] * 2, "workers wanted", *["worker started"] * 3,
        ]  # fmt: skip
        assert employer.workforce.reason == "requests wait"


@pytest.mark.parametrize(("n", "target"), [(-1, 2), (0, 2), (1, 2), (3, 3), (99, 4)])
async def test_what_is_wanted_stays_within_its_limits(n, target):
    async with employing(limits=(2, 4)) as employer:
        employer.workforce.want(n, "because")
        assert employer.workforce.target == target
        employer.workforce.limit(0, 2, scale_to_zero=False)
        assert employer.workforce.target == min(max(n, 0), 2)


async def test_to_none_at_all_only_where_that_is_allowed():
    async with employing(2, limits=(2, 4), scale_to_zero=True) as employer:
        await employer.until_counts(2, 2, 0, 0, 0)
        employer.workforce.want(1, "few ask")
        assert employer.workforce.target == 2
        employer.workforce.want(0, "nobody asks")
        await employer.until_counts(0, 0, 0, 0, 0)
        assert employer.launcher.launched == {}


async def test_workers_that_are_too_many_finish_what_they_have_and_then_go():
    async with employing(3) as employer:
        site = employer.site
        await employer.until_counts(3, 3, 0, 0, 0)
        await site.set_weights(b"2")
        held = list(employer.launcher.workers.values())
        asked = []
        for worker in held:
            worker.hold()
        while not all(worker.in_hand for worker in held):
            asked.append(site.ask(len(asked)))
            await trio.testing.wait_all_tasks_blocked()
        employer.workforce.want(1, "fewer ask")
        await employer.until_counts(1, 1, 0, 2, 0)
        await trio.sleep(5)
        assert len(employer.launcher.workers) == 3  # they have something to do yet
        for worker in held:
            worker.held.set()
        assert [await each.answer() for each in asked] == [2.0 * n for n in range(len(asked))]
        assert not any(each.request.strikes for each in asked)
        await employer.until_counts(1, 1, 0, 0, 0)
        await site.until(lambda: len(employer.launcher.launched) == 1)


async def test_who_goes_is_who_remembers_least():
    async with employing(3) as employer:
        await employer.until_counts(3, 3, 0, 0, 0)
        sizes = {"w-0": 5, "w-1": 2, "w-2": 9}
        for name, size in sizes.items():
            employer.launcher.named(name).cached = size
        employer.workforce.want(1, "fewer ask")
        await employer.until_counts(1, 1, 0, 0, 0)
        assert [worker.name for worker in employer.site.fleet.roster] == ["w-2"]


async def test_a_worker_that_dies_is_replaced_in_its_place_and_people_are_told_how_it_ended():
    async with employing(2) as employer:
        await employer.until_counts(2, 2, 0, 0, 0)
        employer.news()
        await trio.sleep(20)
        first = employer.launcher.named("w-0")
        (id,) = (each for each in employer.launcher.workers if each.startswith("w-0."))
        died = trio.current_time()
        employer.launcher.end(id, "killed by SIGKILL")
        await employer.site.until(lambda: len(employer.launcher.started) == 3)
        await employer.until_counts(2, 2, 0, 0, 0)
        assert trio.current_time() - died < 1
        assert employer.launcher.named("w-0") is not first
        ended, started = employer.news()
        assert (ended["what"], ended["worker"], ended["how"]) == ("worker ended", "w-0", "killed by SIGKILL")
        assert (started["what"], started["worker"]) == ("worker started", "w-0")
        how = "w-0 ended: killed by SIGKILL; the next is tried in 0.1 s"
        assert employer.workforce.trouble == how
        await trio.sleep(11)
        assert employer.workforce.trouble == ""


async def test_a_crash_loop_is_tried_ever_more_slowly_and_told_of(caplog):
    async with employing(1) as employer:
        employer.launcher.crashes = "exit code 1"
        await trio.sleep(60)
        tries = [at for at, _ in employer.launcher.started]
        assert 9 <= len(tries) <= 13
        assert tries[-1] - tries[-2] >= 10
        loops = [data for data in employer.news() if data["what"] == "crash loop"]
        assert loops[-1]["because"] == "w-0 ended: exit code 1; the next is tried in 10 s"
        assert employer.workforce.counts() == Counts(1, 0, 0, 0, 1)
        assert employer.workforce.trouble == loops[-1]["because"]
        assert any("crash loop" in record.message for record in caplog.records)
        employer.launcher.crashes = ""
        await employer.until_counts(1, 1, 0, 0, 0)


async def test_it_survives_a_launcher_that_refuses_and_says_so(caplog):
    async with employing(1) as employer:
        await employer.until_counts(1, 1, 0, 0, 0)
        employer.launcher.refusal = "the cluster is away"
        employer.workforce.want(2, "more ask")
        await trio.sleep(30)
        said = [record.message for record in caplog.records if "launcher in trouble" in record.message]
        assert 1 <= len(said) <= 4  # not at every tick
        assert "the launcher cannot say who there is: the cluster is away" in said[0]
        employer.launcher.refusal = ""
        await employer.until_counts(2, 2, 0, 0, 0)


async def test_a_fault_in_a_launcher_is_not_the_end_of_the_gateway(monkeypatch, caplog):
    async with employing(1) as employer:
        await employer.until_counts(1, 1, 0, 0, 0)
        with monkeypatch.context() as patched:
            patched.setattr(employer.launcher, "alive", lambda: 1 / 0)
            await trio.sleep(1)
            assert "the launcher cannot say who there is: ZeroDivisionError" in caplog.text
        employer.workforce.want(2, "more ask")
        await employer.until_counts(2, 2, 0, 0, 0)


async def test_an_order_whose_answer_was_lost_is_not_given_twice():
    async with employing(0) as employer:
        employer.launcher.loses_answer = True
        employer.workforce.want(3, "many ask")
        await employer.until_counts(3, 3, 0, 0, 0)
        await trio.sleep(5)
        assert len(employer.launcher.started) == 3


async def test_a_launcher_that_does_not_answer_is_asked_again_after_a_time():
    async with employing(0) as employer:
        employer.launcher.hangs = True
        employer.workforce.want(1, "somebody asks")
        await trio.sleep(CALL_TIME / 2)
        employer.launcher.hangs = False
        began = trio.current_time()
        await employer.until_counts(1, 1, 0, 0, 0)
        assert trio.current_time() - began <= CALL_TIME


async def test_one_that_is_pending_counts_as_ordered_and_is_given_up_after_its_time():
    async with employing(1, start_time=20.0) as employer:
        employer.launcher.delay = 1000.0
        await employer.until_counts(1, 0, 1, 0, 0)
        await trio.sleep(1)
        [ordered] = employer.workforce.ordered()
        assert (ordered.name, ordered.state, ordered.why) == ("w-0", "pending", "it is being started")
        await trio.sleep(15)
        assert len(employer.launcher.started) == 1
        await trio.sleep(10)
        assert len(employer.launcher.started) == 2
        told = [data["how"] for data in employer.news() if data["what"] == "worker ended"]
        assert told == ["it was not started within 20 s: it is being started"]
        employer.launcher.delay = 0.0


async def test_one_that_fell_silent_is_replaced_and_is_told_to_leave_when_it_comes_back():
    async with employing(1, worker={"obeys": False}) as employer:
        await employer.until_counts(1, 1, 0, 0, 0)
        [(id, silent)] = employer.launcher.workers.items()
        del employer.launcher.workers[id]  # its engine does not reach it either, and believes it ends
        silent.stop()
        fell = trio.current_time()
        await employer.site.until(lambda: len(employer.launcher.started) == 2)
        assert 15 <= trio.current_time() - fell <= 22
        await employer.until_counts(1, 1, 0, 0, 0)
        silent.go_on()
        await employer.site.until(lambda: bool(silent.asked(wire.Drain)))
        assert employer.site.life(silent) is Life.GONE
        silent.die()


async def test_workers_of_the_gateway_before_are_found_and_as_many_stay():
    async with open_site() as site:
        launcher = FakeLauncher(site)
        await launcher.start(4, SPEC)
        workforce = Workforce(launcher, SPEC, site.fleet, Limits(1, 8), first=1, leaves_workers=True)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(workforce.run)
            await site.until(lambda: workforce.counts() == Counts(4, 4, 0, 0, 0))
            assert workforce.reason == "so many were there at the start"
            assert len(launcher.started) == 4
            nursery.cancel_scope.cancel()
        assert len(launcher.workers) == 4  # and they are left to the next
        for each in list(launcher.workers.values()):
            each.die()


async def test_at_the_end_who_does_not_go_is_not_waited_for_for_ever():
    async with open_site() as site:
        launcher = FakeLauncher(site)
        workforce = Workforce(launcher, SPEC, site.fleet, Limits(1, 1))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(workforce.run)
            await site.until(lambda: workforce.counts().ready == 1)
            launcher.hangs = True
            cancelled = trio.current_time()
            nursery.cancel_scope.cancel()
        assert trio.current_time() - cancelled <= 16
        for each in list(launcher.workers.values()):
            each.die()


class SlowToStop(FakeLauncher):
    """Its workers take a second to end, and then it knows of nobody."""

    async def stop(self, id: str, grace: float) -> None:
        self.site.nursery.start_soon(self._stop, id, grace)

    async def _stop(self, id: str, grace: float) -> None:
        await trio.sleep(1.0)
        await super().stop(id, grace)


async def test_at_the_end_who_takes_a_moment_is_waited_for_and_no_longer():
    async with open_site() as site:
        launcher = SlowToStop(site)
        workforce = Workforce(launcher, SPEC, site.fleet, Limits(2, 2))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(workforce.run)
            await site.until(lambda: workforce.counts().ready == 2)
            cancelled = trio.current_time()
            nursery.cancel_scope.cancel()
        assert 1 <= trio.current_time() - cancelled < 2
        assert (launcher.launched, launcher.workers) == ({}, {})


async def test_at_the_end_a_launcher_that_refuses_at_first_is_asked_again():
    async with open_site() as site:
        launcher = FakeLauncher(site)
        await launcher.start(1, SPEC)
        workforce = Workforce(launcher, SPEC, site.fleet, Limits(1, 1))
        async with trio.open_nursery() as nursery:
            launcher.refusal = "not yet"
            nursery.start_soon(workforce.run)
            await trio.sleep(1.0)
            site.nursery.start_soon(relent, launcher)
            nursery.cancel_scope.cancel()
        assert (launcher.launched, launcher.workers) == ({}, {})


async def relent(launcher: FakeLauncher) -> None:
    await trio.sleep(2.0)
    launcher.refusal = ""


async def test_cancelled_at_any_moment_it_leaves_nobody_behind():
    async with open_site() as site:
        for n in range(40):
            launcher = FakeLauncher(site)
            launcher.delay = 0.003
            workforce = Workforce(launcher, SPEC, site.fleet, Limits(2, 2))
            with trio.move_on_after(0.001 * n):
                await workforce.run()
            assert (launcher.launched, launcher.workers) == ({}, {})


async def test_workers_that_leave_in_good_order_are_replaced_at_once_and_have_not_failed():
    async with employing(1) as employer:
        for _ in range(5):
            await employer.until_counts(1, 1, 0, 0, 0)
            told = trio.current_time()
            employer.launcher.named("w-0").tell_to_leave()
            await employer.site.until(lambda: employer.workforce.counts().ready == 0)
            await employer.site.until(lambda: employer.workforce.counts().ready == 1)
            assert trio.current_time() - told < 1
        assert employer.workforce.trouble == ""
        assert {data["again_in"] for data in employer.news() if data["what"] == "worker ended"} == {None}


async def test_one_use_workers_leave_after_a_batch_and_others_take_their_place():
    async with employing(2, one_use=True) as employer:
        site, launcher = employer.site, employer.launcher
        await employer.until_counts(2, 2, 0, 0, 0)
        await site.set_weights(b"2", NN)
        for n in range(20):
            assert await site.predict(n) == 2.0 * n
            used = next(each for each in launcher.workers.values() if each.batches)
            used.tell_to_leave()
            await site.until(partial(lambda used: used not in launcher.workers.values(), used))
        await employer.until_counts(2, 2, 0, 0, 0)
        assert len(launcher.started) == 22
        assert employer.workforce.trouble == ""
