"""Pure: what requests failed of, kind by kind."""

from __future__ import annotations

from common.errors import DeadlineExceeded, PipelineError, QueueFull
from gateway.observing.failures import LONGEST, Failure, Failures
from gateway.scheduling.requests import ModelKey

ONE, TWO = ModelKey("m", "1"), ModelKey("m", "2")


def test_failures_of_one_kind_are_counted_and_the_last_one_is_told():
    failures = Failures()
    failures.note(ONE, QueueFull("Server is busy"), 1.0)
    failures.note(ONE, DeadlineExceeded("Deadline exceeded"), 2.0)
    failures.note(TWO, QueueFull("Server is busy"), 3.0)
    failures.note(ONE, QueueFull("busy again"), 4.0)
    assert failures.latest() == [
        Failure(ONE, "queue_full", "busy again", 2, 1.0, 4.0),
        Failure(TWO, "queue_full", "Server is busy", 1, 3.0, 3.0),
        Failure(ONE, "deadline", "Deadline exceeded", 1, 2.0, 2.0),
    ]
    assert failures.count == 4


def test_the_kind_that_happened_longest_ago_makes_room():
    failures = Failures(room=2)
    for version in "1213":
        failures.note(ModelKey("m", version), QueueFull("busy"), 0.0)
    assert [each.key.version for each in failures.latest()] == ["3", "1"]
    assert failures.count == 4


def test_a_message_is_cut():
    failures = Failures()
    failures.note(ONE, PipelineError("x" * 10_000), 0.0)
    assert failures.latest()[0].message == "x" * LONGEST
