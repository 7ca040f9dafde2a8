"""Pure: of several workers with one name the newest counts."""

from __future__ import annotations

from gateway.fleet.incarnations import Incarnations


def test_the_newest_incarnation_counts_and_none_before_it():
    known = Incarnations()
    assert known.hear("bob", 5)
    assert known.hear("bob", 5)  # at the next heartbeat, too
    assert known.hear("bob", 7)
    assert not known.hear("bob", 5)
    assert not known.counts("bob", 6)
    assert known.counts("bob", 8)


def test_names_do_not_know_of_each_other():
    known = Incarnations()
    known.hear("bob", 7)
    assert known.hear("alice", 1)


def test_workers_that_somebody_started_by_hand_always_count():
    known = Incarnations()
    known.hear("bob", 7)
    assert known.hear("bob", 0)
    assert known.counts("bob", 7)


def test_a_retired_one_counts_no_more_and_its_successor_does():
    known = Incarnations()
    known.hear("bob", 5)
    known.retire("bob", 5)
    assert not known.hear("bob", 5)
    known.retire("bob", 3)  # which was over anyway
    assert not known.counts("bob", 5)
    assert known.hear("bob", 6)


def test_one_that_was_never_heard_can_be_retired():
    known = Incarnations()
    known.retire("bob", 5)
    assert not known.hear("bob", 5)
