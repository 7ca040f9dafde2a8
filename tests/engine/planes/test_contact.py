"""Collaboration: a worker that hears nothing of its gateway; real threads, short ticks."""

from __future__ import annotations

import itertools
from queue import SimpleQueue

import pytest

from engine.planes import contact
from engine.planes.contact import LONG, kept_contact


@pytest.fixture(autouse=True)
def short_ticks(monkeypatch) -> None:
    monkeypatch.setattr(contact, "TICK", 0.001)


def test_silence_is_told_again_and_again_and_when_it_is_long() -> None:
    told: SimpleQueue[bool] = SimpleQueue()
    with kept_contact(lambda: 7, lambda: None, told.put):
        said = [told.get(timeout=10) for _ in range(LONG + 2)]
    assert said == [False] * (LONG - 1) + [True] * 3


def test_after_its_patience_it_gives_up_once(monkeypatch) -> None:
    gave_up: SimpleQueue[float] = SimpleQueue()
    with kept_contact(lambda: 7, lambda: None, lambda is_long: None, gave_up.put, patience=0.02):
        seconds = gave_up.get(timeout=10)
    assert seconds == pytest.approx(0.02)
    assert gave_up.empty()


def test_a_gateway_that_says_hello_is_left_alone() -> None:
    counter = itertools.count()
    heard: SimpleQueue[int] = SimpleQueue()

    def hellos() -> int:
        heard.put(0)
        return next(counter)

    told: list[bool] = []
    with kept_contact(hellos, lambda: None, told.append):
        for _ in range(100):
            heard.get(timeout=10)
    assert told == []


def test_who_is_heard_again_has_been_silent_for_as_long_as_anybody() -> None:
    """Two silences with a hello between them are not a long one."""
    told: SimpleQueue[bool] = SimpleQueue()
    count = itertools.count()
    changes = {6 * LONG - 2: 1, 6 * LONG - 1: 1}  # just before it would be long

    def hellos() -> int:
        return sum(changes.get(i, 0) for i in range(next(count)))

    with kept_contact(hellos, lambda: None, told.put):
        said = [told.get(timeout=10) for _ in range(2 * LONG - 2)]
    assert said == [False] * (2 * LONG - 2)


def test_a_worker_that_is_without_a_gateway_for_long_enough_gives_up_once(monkeypatch) -> None:
    monkeypatch.setattr("engine.planes.contact.TICK", 0.01)
    gave_up: SimpleQueue[float] = SimpleQueue()
    with kept_contact(lambda: 7, lambda: None, lambda is_long: None, gave_up.put, 0.04):
        assert gave_up.get(timeout=20) == pytest.approx(0.04)
    assert gave_up.empty()


def test_a_connection_that_was_made_this_moment_is_not_silent_yet() -> None:
    made = (connection for _ in range(1000) for connection in [object()] * 3)  # another one each third tick
    heard: SimpleQueue[int] = SimpleQueue()

    def connection() -> object:
        heard.put(0)
        return next(made)

    told: list[bool] = []
    with kept_contact(lambda: 7, connection, told.append):
        for _ in range(100):
            heard.get(timeout=10)
    assert told == []
