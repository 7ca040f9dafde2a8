"""Pure: the memory of what happened, and what subscribers are told."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.observing.events import Event, Events, Lost, Subscriber


def numbers(taken: list[Event | Lost]) -> list[int | Lost]:
    """The numbers of events, and what was lost."""
    return [each if isinstance(each, Lost) else int(each.id.rpartition("-")[2]) for each in taken]


def publish(events: Events, count: int) -> None:
    for n in range(count):
        events.publish("fleet", "worker ready", n=n)


def test_a_subscriber_is_told_of_what_happens_from_then_on_in_order():
    events, rung = Events("run"), []
    publish(events, 2)
    subscriber = events.subscribe(lambda: rung.append(1))
    assert subscriber.take() == []
    events.publish("rollout", "version serves", model="m", active=True)
    data = {"topic": "rollout", "what": "version serves", "model": "m", "active": True}
    assert subscriber.take() == [Event("run-3", "rollout", data)]
    assert subscriber.take() == []
    assert rung == [1]
    events.unsubscribe(subscriber)
    publish(events, 1)
    assert subscriber.take() == []
    assert events.subscribers == 0


@pytest.mark.parametrize(
    ("after", "told"),
    [
        ("run-10", []),
        ("run-8", [9, 10]),
        ("run-5", [6, 7, 8, 9, 10]),
        ("run-3", [Lost(2), 6, 7, 8, 9, 10]),
        ("run-0", [Lost(5), 6, 7, 8, 9, 10]),
        ("run-99", []),
        ("old-9", [Lost(None), 6, 7, 8, 9, 10]),
        ("run-", [Lost(None), 6, 7, 8, 9, 10]),
        ("run--1", [Lost(None), 6, 7, 8, 9, 10]),
        ("run-٣", [Lost(None), 6, 7, 8, 9, 10]),
        ("run-" + "9" * 5000, [Lost(None), 6, 7, 8, 9, 10]),
        ("", [Lost(None), 6, 7, 8, 9, 10]),
    ],
)
def test_who_comes_back_is_told_what_it_missed_or_how_much_of_it_is_forgotten(after, told):
    events = Events("run", memory=5)
    publish(events, 10)
    assert numbers(events.subscribe(lambda: None, after).take()) == told


def test_who_missed_more_than_there_is_room_for_is_told_of_the_last():
    events = Events("run", memory=100, room=4)
    publish(events, 10)
    subscriber = events.subscribe(lambda: None, "run-1")
    assert numbers(subscriber.take()) == [Lost(6), 8, 9, 10]


@given(st.lists(st.booleans(), max_size=200), st.integers(1, 5))
def test_whatever_the_pace_everything_is_told_or_counted_in_its_place(steps, room):
    events = Events("run", room=room)
    subscriber = events.subscribe(lambda: None)
    happened, told = 0, 0
    for is_event in [*steps, False]:
        if is_event:
            publish(events, 1)
            happened += 1
            continue
        taken = numbers(subscriber.take())
        assert len(taken) <= room + 1
        for each in taken:
            told += each.events or 0 if isinstance(each, Lost) else 1
            assert isinstance(each, Lost) or each == told
        assert told == happened


def test_a_subscriber_that_is_full_wakes_nobody():
    rung: list[int] = []
    subscriber = Subscriber(1, lambda: rung.append(1))
    for n in range(5):
        subscriber.offer(Event(f"run-{n}", "fleet", {}))
    assert rung == [1]
    assert numbers(subscriber.take()) == [0, Lost(4)]
