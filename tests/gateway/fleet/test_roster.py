"""Pure: gateway/fleet/roster.py; the whole table of a worker's life, and who is in the fleet."""

import msgspec
import pytest

from common.errors import IllegalTransition
from common.wire import HelloAnswer, VersionKey
from gateway.fleet.roster import TRANSITIONS, Event, Roster, State, Worker

#                linked      synced      unlinked    silent      drain
LIVES = """
    joining      syncing     -           joining     gone        draining
    syncing      syncing     ready       suspect     gone        draining
    ready        ready       -           suspect     suspect     draining
    suspect      syncing     suspect     suspect     gone        gone
    draining     draining    draining    gone        gone        draining
    gone         -           -           -           -           -
"""
TABLE = [
    (State(row.split()[0]), event, after)
    for row in LIVES.strip().splitlines()
    for event, after in zip(Event, row.split()[1:], strict=True)
]


def hello(worker: str = "1", name: str = "bob", *versions: VersionKey) -> HelloAnswer:
    return HelloAnswer(worker, name, "host", 7, "ws", 2, "cpu", False, True, list(versions))


@pytest.mark.parametrize(("before", "event", "after"), TABLE)
def test_a_life_goes_as_the_table_says(before: State, event: Event, after: str) -> None:
    worker = Worker(hello(), 0.0)
    worker.state = before
    if after == "-":
        with pytest.raises(IllegalTransition) as caught:
            worker.happen(event)
        assert str(caught.value) == f"bob: nothing is {event.value} when {before.value}"
        assert worker.state is before
    else:
        assert worker.happen(event) is worker.state is State(after)


def test_the_table_has_every_state_and_every_event() -> None:
    assert len(TABLE) == len(State) * len(Event)
    assert set(TRANSITIONS) == set(State)


def test_nobody_becomes_ready_but_by_being_synced() -> None:
    ways = {
        (a, event) for a, events in TRANSITIONS.items() for event, b in events.items() if b is State.READY
    }
    assert ways == {(State.SYNCING, Event.SYNCED), (State.READY, Event.LINKED)}


def test_a_worker_that_drains_never_serves_again() -> None:
    assert set(TRANSITIONS[State.DRAINING].values()) == {State.DRAINING, State.GONE}


def test_silence_ends_every_life() -> None:
    for state in set(State) - {State.GONE}:
        worker = Worker(hello(), 0.0)
        worker.state = state
        for _ in range(2):
            if worker.state is not State.GONE:
                worker.happen(Event.SILENT)
        assert worker.state is State.GONE


def test_the_first_hello_makes_a_worker_that_joins() -> None:
    roster = Roster(silence=3.0)
    key = VersionKey("default", "1", "0" * 64)
    worker, is_new = roster.hear(hello("1", "bob", key), 5.0)
    assert is_new
    assert (worker.id, worker.name, worker.versions, worker.state) == ("1", "bob", [key], State.JOINING)
    assert (worker.heard, worker.status, worker.trouble) == (5.0, None, "")
    assert roster.get("1") is worker


def test_a_later_hello_tells_news_of_the_same_worker() -> None:
    roster = Roster(silence=3.0)
    worker, _ = roster.hear(hello(), 5.0)
    roster.happen(worker, Event.LINKED)
    news = msgspec.structs.replace(hello(), draining=True)
    assert roster.hear(news, 6.0) == (worker, False)
    assert (worker.hello, worker.heard, worker.state) == (news, 6.0, State.SYNCING)
    assert len(roster) == 1


def test_workers_of_one_name_are_told_apart_by_their_ids() -> None:
    roster = Roster(silence=3.0)
    one, _ = roster.hear(hello("1", "bob"), 0.0)
    two, is_new = roster.hear(hello("2", "bob"), 0.0)
    assert is_new
    assert list(roster) == [one, two]


def test_a_worker_that_is_gone_is_forgotten_and_comes_back_as_a_new_one() -> None:
    roster = Roster(silence=3.0)
    worker, _ = roster.hear(hello(), 0.0)
    assert roster.happen(worker, Event.SILENT) is State.GONE
    assert (roster.get("1"), len(roster), list(roster)) == (None, 0, [])
    again, is_new = roster.hear(hello(), 1.0)
    assert is_new
    assert (again is worker, again.state) == (False, State.JOINING)


def test_the_end_of_an_old_life_does_not_end_the_new_one() -> None:
    roster = Roster(silence=3.0)
    old, _ = roster.hear(hello(), 0.0)
    roster.happen(old, Event.SILENT)
    new, _ = roster.hear(hello(), 1.0)
    with pytest.raises(IllegalTransition):
        roster.happen(old, Event.SILENT)
    assert roster.get("1") is new


def test_silent_are_those_not_heard_for_longer_than_allowed() -> None:
    roster = Roster(silence=3.0)
    early, _ = roster.hear(hello("1"), 0.0)
    later, _ = roster.hear(hello("2"), 1.0)
    assert roster.silent(3.0) == []
    assert roster.silent(3.5) == [early]
    assert roster.silent(4.5) == [early, later]
    roster.hear(hello("1"), 4.5)
    assert roster.silent(4.5) == [later]


def test_workers_are_found_by_their_states() -> None:
    roster = Roster(silence=3.0)
    joins, _ = roster.hear(hello("1"), 0.0)
    syncs, _ = roster.hear(hello("2"), 0.0)
    roster.happen(syncs, Event.LINKED)
    assert roster.in_state(State.JOINING) == [joins]
    assert roster.in_state(State.SYNCING, State.JOINING) == [joins, syncs]
    assert roster.in_state(State.READY) == []


def test_workers_may_go_while_one_looks_at_them_all() -> None:
    roster = Roster(silence=3.0)
    for n in range(3):
        roster.hear(hello(str(n)), 0.0)
    for worker in roster:
        roster.happen(worker, Event.SILENT)
    assert len(roster) == 0
