"""Collaboration: the autoscaler of a gateway on a network in memory, with a worker manager made for it;
virtual time."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from common.errors import InvalidRequest, NoWorker
from gateway.autoscaler.autoscaler import Autoscaler
from gateway.autoscaler.policy import Parameters
from gateway.autoscaler.scaling import Scaling
from tests.gateway.autoscaler.staff import Staff
from tests.gateway.site import NN, Asked, Site, open_site

pytestmark = pytest.mark.usefixtures("virtual_time")

QUICK = Parameters(stable_window=4.0, scale_down_delay=2.0, zero_grace=5.0)
HOLDS = 50  # rows a second, of a worker that takes one row and 20 ms


class Scaled:
    """A gateway whose autoscaler is at work."""

    def __init__(self, site: Site, staff: Staff) -> None:
        self.site, self.staff = site, staff
        self.asked: list[Asked] = []

    @property
    def autoscaler(self) -> Autoscaler:
        assert self.site.autoscaler is not None
        return self.site.autoscaler

    @property
    def ready(self) -> int:
        return self.staff.counts().ready

    async def ask(self, rate: float, seconds: float) -> None:
        """So many requests a second for so long, evenly, and wait for no answers."""
        for _ in range(round(rate * seconds)):
            self.asked.append(self.site.ask(float(len(self.asked)), seconds=30))
            await trio.sleep(1 / rate)

    async def answered(self) -> None:
        """Every request was answered, and none with an error."""
        for n, asked in enumerate(self.asked):
            assert await asked.answer() == 2.0 * n


@asynccontextmanager
async def open_scaled(
    directory: Path | None = None, *, first: int = 1, start: float = 0.15, **how: Any
) -> AsyncIterator[Scaled]:
    """Workers take one row at a time, and 20 ms for it."""
    async with open_site(directory) as site:
        site.scheduler.default = site.scheduler.default._replace(max_batch=1)
        staff = Staff(site, first=first, start=start, takes=0.02, slots=1)
        site.scale(staff, Scaling(**({"max_workers": 16, "policy": QUICK} | how)))
        assert site.autoscaler is not None
        await site.autoscaler.restore()
        site.nursery.start_soon(staff.run)
        await site.set_weights(b"2", NN)
        site.nursery.start_soon(site.autoscaler.run)
        yield Scaled(site, staff)


async def test_a_step_to_eight_times_what_a_worker_holds_has_enough_within_two_seconds_and_loses_nothing():
    async with open_scaled() as scaled:
        await scaled.ask(0.7 * HOLDS, 10)
        assert scaled.ready == 1
        await scaled.ask(8 * HOLDS, 2)
        assert scaled.ready >= 8
        await scaled.ask(8 * HOLDS, 8)
        await scaled.answered()
        await trio.sleep(20)
        assert scaled.ready == 1


async def test_what_waits_goes_to_those_who_come():
    async with open_scaled(start=1.0) as scaled:
        await scaled.ask(8 * HOLDS, 4)
        began = trio.current_time()
        await scaled.answered()
        assert trio.current_time() - began < 2


async def test_the_fleet_goes_to_zero_and_the_first_request_waits_for_the_worker():
    async with open_scaled(min_workers=0) as scaled:
        await scaled.ask(20, 1)
        await trio.sleep(15)
        assert (scaled.ready, scaled.staff.target) == (0, 0)
        began = trio.current_time()
        scaled.asked.append(scaled.site.ask(float(len(scaled.asked))))
        await scaled.answered()
        assert trio.current_time() - began < 0.5
        assert scaled.staff.wanted[-1][0] == began  # at once, not at the next look
        assert scaled.staff.target == 1


async def test_a_worker_that_takes_long_to_start_is_waited_for_until_the_deadline():
    async with open_scaled(first=0, start=20.0, min_workers=0) as scaled:
        scaled.asked.append(scaled.site.ask(0.0, seconds=30))
        await scaled.answered()
        assert trio.current_time() >= 20


async def test_while_none_can_be_started_requests_are_told_so():
    async with open_scaled(first=0, min_workers=0) as scaled:
        scaled.staff.fails = True
        began = trio.current_time()
        assert isinstance(await scaled.site.ask(1.0, seconds=30).answer(), NoWorker)
        assert 5 <= trio.current_time() - began < 6
        scaled.staff.fails = False
        assert await scaled.site.predict(1.0) == 2.0


async def test_decisions_are_kept_with_their_reasons_and_told_once():
    async with open_scaled() as scaled:
        told = scaled.site.events.subscribe(lambda: None)
        await scaled.ask(4 * HOLDS, 5)
        await scaled.answered()
        await trio.sleep(20)
        events = list(scaled.autoscaler.events)
        assert [each.number for each in events] == list(range(1, len(events) + 1))
        assert max(each.decision.n for each in events) >= 6
        assert {"cool-down", "bounds"} <= {each.decision.rule for each in events}
        seen = [each.data for each in told.take() if each.topic == "autoscaler"]
        assert [(each["n"], each["rule"], each["reason"]) for each in seen][-1] == events[-1].decision
        changes = list(itertools.pairwise(events))
        assert all(before.decision[:2] != after.decision[:2] for before, after in changes)
        assert scaled.staff.wanted[-1][1:] == (1, "bounds: min_workers is more than is needed")


async def test_paused_it_decides_and_does_nothing():
    async with open_scaled(paused=True) as scaled:
        await scaled.ask(2 * HOLDS, 3)
        assert scaled.ready == 1
        assert scaled.autoscaler.last is not None
        assert scaled.autoscaler.last.decision.n >= 3
        await scaled.autoscaler.change({"paused": False})
        await scaled.ask(2 * HOLDS, 1)
        assert scaled.ready >= 3
        await scaled.answered()


async def test_a_job_has_a_worker_though_nobody_asks():
    async with open_scaled(first=0, min_workers=0) as scaled:
        scaled.autoscaler._is_needed = lambda: True
        await trio.sleep(1)
        assert scaled.ready == 1
        await trio.sleep(30)
        assert scaled.ready == 1


async def test_changes_are_there_after_a_restart_and_null_is_as_it_was_started(tmp_path):
    async with open_scaled(tmp_path) as scaled:
        await scaled.autoscaler.change({"max_workers": 4, "policy": {"look_ahead": 0.0, "catch_up": 1.0}})
        await scaled.autoscaler.change({"policy": {"catch_up": None}})
        assert scaled.staff.limits == (1, 4, False)
    async with open_scaled(tmp_path, max_workers=8) as scaled:
        await trio.sleep(1)
        assert scaled.autoscaler.scaling == Scaling(
            min_workers=1, max_workers=4, policy=Parameters(
                stable_window=4.0, scale_down_delay=2.0, zero_grace=5.0, look_ahead=0.0
            )
        )  # fmt: skip
        await scaled.autoscaler.change({"max_workers": None, "policy": None})
        assert scaled.autoscaler.scaling == Scaling(max_workers=8, policy=QUICK)


async def test_what_was_changed_and_no_longer_makes_sense_is_left_out(tmp_path):
    async with open_scaled(tmp_path) as scaled:
        await scaled.autoscaler.change({"max_workers": 12})
    async with open_scaled(tmp_path, max_workers=8) as scaled:
        await trio.sleep(1)
        assert scaled.autoscaler.scaling.max_workers == 8


@pytest.mark.parametrize(
    ("patch", "problem"),
    [
        ({"workers": 3}, "there is no workers (allowed are min_workers, max_workers, "),
        ({"policy": {"window": 3}}, "there is no policy.window (allowed are target_concurrency, "),
        ({"policy": {"look_ahead": -1}}, "request body has a wrong shape: Expected `float` >= 0.0"),
        ({"policy": 3}, "request body has a wrong shape: Expected `object`, got `int` - at `$.policy`"),
        ({"min_workers": 5, "max_workers": 4}, "min_workers cannot be more than max_workers: 5 and 4"),
        ({"max_workers": 17}, "max_workers can be 16 at most, as the gateway was started, not 17"),
        ({"max_workers": 0}, "request body has a wrong shape: Expected `int` >= 1 - at `$.max_workers`"),
        ({"paused": "yes"}, "request body has a wrong shape: Expected `bool`, got `str` - at `$.paused`"),
    ],
)  # fmt: skip
async def test_what_makes_no_sense_changes_nothing(patch, problem):
    async with open_scaled() as scaled:
        with pytest.raises(InvalidRequest) as refused:
            await scaled.autoscaler.change(patch)
        assert str(refused.value).startswith(problem)
        assert scaled.autoscaler.scaling == Scaling(max_workers=16, policy=QUICK)
