"""One chaos run: a load, people who change things, and faults at their times; what all of it came to."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from tests.chaos.answers import NETWORK, of_linear
from tests.chaos.checker import violations
from tests.chaos.history import History, Row, Trouble
from tests.chaos.operations import Lost, Operations, Paces
from tests.chaos.schedule import Fault
from tests.chaos.site import WHERE, Site, open_site
from tests.chaos.traffic import traffic
from tests.e2e.weights import expected as of_network

WORKERS = 3
LOOK = 0.1  # seconds between two looks at the fleet


class Outcome(NamedTuple):
    """What happened, and what of it should not have."""

    history: History
    violations: list[str]


def expected(model: str, version: str, row: Row) -> float:
    """What a version of a model makes of a row."""
    return of_network(version, *row) if model == NETWORK else of_linear(version, row)


def run(
    faults: Sequence[Fault], seconds: float, rate: float, folder: Path, say: Callable[[str], None]
) -> Outcome:
    """Let it all happen, and check it."""
    history = History()
    with open_site(folder, WORKERS) as site:
        start = time.monotonic()

        def clock() -> float:
            return time.monotonic() - start

        operations = Operations(site, history, clock, Paces())
        with operations.going_on():
            start = time.monotonic()  # the first versions are there: the load begins
            _rewind(history)
            watch = Watch(site, clock)
            load = traffic(site.hosts[0], WHERE, rate, seconds, clock, history.asked.append)
            with watch.looking(), load:
                troubles = _disturb(site, faults, clock, say)
                _sleep_until(seconds, clock)
        site.gateway.wait_status(site.is_whole, "every worker serves at the end")
        operations.collect()
        site.revive()
        history.deaths += site.deaths
        history.troubles += [_ended(fault, begun, healed, watch) for fault, begun, healed in troubles]
        found = [*violations(history, expected), *(f"a traceback of {each}" for each in site.tracebacks())]
    return Outcome(history, found)


def _rewind(history: History) -> None:
    """What was before the start was at no time that matters: before everything."""
    history.changes[:] = [change._replace(begun=-2.0, ended=-1.0) for change in history.changes]


Done = tuple[Fault, float, float]


def _disturb(
    site: Site, faults: Sequence[Fault], clock: Callable[[], float], say: Callable[[str], None]
) -> list[Done]:
    """Begin and heal every fault at its time; when it really was."""
    order = itertools.count()
    agenda: list[tuple[float, int, Callable[[], None]]] = []
    done: list[Done] = []

    def begin(fault: Fault) -> None:
        begun = clock()
        heal = site.inflict(fault)
        say(f"{begun:7.2f} s  {fault.kind}, host{fault.target}")
        heapq.heappush(agenda, (begun + fault.lasts, next(order), lambda: end(fault, begun, heal)))

    def end(fault: Fault, begun: float, heal: Callable[[], None]) -> None:
        heal()
        done.append((fault, begun, clock()))

    for fault in faults:
        heapq.heappush(agenda, (fault.at, next(order), lambda fault=fault: begin(fault)))  # type: ignore[misc]
    while agenda:
        at, _, action = heapq.heappop(agenda)
        _sleep_until(at, clock)
        action()
    return done


class Watch:
    """Looks at the fleet again and again; when it was seen to be whole."""

    def __init__(self, site: Site, clock: Callable[[], float]) -> None:
        self._site = site
        self._clock = clock
        self._looks: list[tuple[float, bool]] = []
        self._over = threading.Event()

    @contextmanager
    def looking(self) -> Iterator[None]:
        """While the block runs."""
        thread = threading.Thread(target=self._look, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()

    def first_whole(self, since: float) -> float:
        """The first look after a moment at which all workers served; the last of all, if there is none."""
        return next((at for at, is_whole in self._looks if is_whole and at >= since), self._looks[-1][0])

    def _look(self) -> None:
        while not self._over.wait(LOOK):
            is_whole = False
            with suppress(*Lost):
                is_whole = self._site.is_whole(self._site.gateway.status())
            self._looks.append((self._clock(), is_whole))


def _ended(fault: Fault, begun: float, healed: float, watch: Watch) -> Trouble:
    return Trouble(fault.kind, fault.target, begun, healed, watch.first_whole(healed))


def _sleep_until(moment: float, clock: Callable[[], float]) -> None:
    time.sleep(max(0.0, moment - clock()))
