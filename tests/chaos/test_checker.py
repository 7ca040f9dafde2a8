"""pure: the checker, on histories that are made up: a good one, and one for each thing that may be wrong."""

from __future__ import annotations

import math

import pytest

from tests.chaos.checker import cause, violations, was_active
from tests.chaos.history import Asked, Change, History, Job, Row, Trouble

ROW = (1.0, 2.0)


def expected(model: str, version: str, row: Row) -> float:
    return float(version) * row[0] + row[1]


def change(version: str, begun: float, ended: float, outcome: str = "done") -> Change:
    return Change("line", version, begun, ended, outcome)


def asked(version: str, sent: float, done: float, *, result: float | None = None) -> Asked:
    right = expected("line", version, ROW) if result is None else result
    return Asked("v1", "line", ROW, sent, done, "", version, right)


def failed(error: str, sent: float = 5.0, done: float = 6.0) -> Asked:
    return Asked("v1", "line", ROW, sent, done, error)


def a_job(**said: object) -> Job:
    job = Job("k", "line", [ROW, ROW], 1.0, acknowledged=2.0, id="j", state="done", version="1")
    job.results = [(1, 3.0), (2, 3.0)]
    for name, value in said.items():
        setattr(job, name, value)
    return job


def checked(**parts: list[object]) -> list[str]:
    changes = parts.pop("changes", [change("1", -2, -1)])
    return violations(History(changes=changes, **parts), expected)  # type: ignore[arg-type]


def test_a_history_in_which_all_is_well_has_no_violation():
    changes = [change("1", -2, -1), change("2", 4, 5), change("1", 8, 9)]
    good = [
        asked("1", 0, 1),
        asked("1", 4.5, 4.6),
        asked("2", 4.5, 4.6),
        asked("2", 6, 7),
        asked("1", 10, 11),
    ]
    assert checked(changes=changes, asked=good, jobs=[a_job()]) == []


def test_a_wrong_answer_is_one():
    (found,) = checked(asked=[asked("1", 1, 2, result=3.1)])
    assert found == "wrong, as 3.0 is right: v1 line (1.0, 2.0): 1 says 3.1, 1.000 to 2.000"


def test_an_answer_that_is_no_number_is_wrong():
    assert len(checked(asked=[asked("1", 1, 2, result=math.nan)])) == 1


def test_a_version_that_nobody_uploaded_cannot_answer():
    (found,) = checked(asked=[asked("7", 1, 2)])
    assert found.startswith("answered by a version that nobody uploaded")


@pytest.mark.parametrize(
    ("version", "sent", "done", "active"),
    [
        ("1", 0, 1, True),
        ("1", 3, 4.5, True),  # as the change was under way
        ("1", 4.9, 9, True),  # sent before the change was acknowledged
        ("1", 5.1, 9, False),  # and after
        ("2", 1, 3.9, False),  # before it began
        ("2", 1, 4.1, True),
        ("2", 6, 7, True),
        ("3", 6, 7, False),  # refused
    ],
)
def test_a_version_may_answer_from_when_its_change_began_until_the_next_was_acknowledged(
    version: str, sent: float, done: float, active: bool
):
    changes = [change("1", -2, -1), change("2", 4, 5), change("3", 5.5, 5.8, "refused")]
    assert was_active(version, sent, done, changes) is active
    troubles = [Trouble("kill worker", 1, 5.5, 6, 7)]
    found = checked(changes=changes, asked=[asked(version, sent, done)], troubles=troubles)
    assert [each.partition(":")[0] for each in found] == ["the version was not active at that time"] * (
        not active
    )


def test_a_change_whose_answer_was_lost_may_have_happened_or_not_until_another_is_known_to_have():
    changes = [change("1", -2, -1), change("2", 4, 6, "unknown"), change("3", 8, 9)]
    for version in ("1", "2"):
        assert was_active(version, 6.5, 7, changes)
        assert was_active(version, 7, 8.5, changes)
        assert not was_active(version, 9.1, 10, changes)


def test_a_version_that_is_made_active_again_may_answer_again():
    changes = [change("1", -2, -1), change("2", 4, 5), change("1", 8, 9)]
    assert not was_active("1", 6, 7, changes)
    assert was_active("1", 9.5, 10, changes)
    assert not was_active("2", 9.5, 10, changes)


@pytest.mark.parametrize(
    ("kind", "error", "is_allowed"),
    [
        ("kill gateway", "connection refused", True),
        ("kill gateway", "connection closed", True),
        ("kill gateway", "503: No live worker", True),
        ("kill gateway", "504: Deadline exceeded", False),
        ("kill gateway", "500: the server failed", False),
        ("cut gateway off", "DEADLINE_EXCEEDED", True),
        ("cut gateway off", "UNAVAILABLE", True),
        ("cut gateway off", "connection closed", False),
        ("kill worker", "503: No live worker", False),
        ("disk full", "503: no room", False),
    ],
)
def test_a_request_may_fail_only_as_the_fault_allows(kind: str, error: str, is_allowed: bool):
    troubles = [Trouble(kind, 0, 5.5, 7, 8)]
    assert (checked(asked=[failed(error)], troubles=troubles) == []) is is_allowed


@pytest.mark.parametrize(
    ("sent", "done", "is_allowed"), [(1, 2, False), (4, 5.6, True), (7.5, 9, True), (9, 10, False)]
)
def test_a_request_may_fail_only_when_the_fault_allows(sent: float, done: float, is_allowed: bool):
    troubles = [Trouble("kill gateway", 0, 5.5, 7, 8)]
    assert (checked(asked=[failed("connection reset", sent, done)], troubles=troubles) == []) is is_allowed


def test_a_change_may_be_refused_only_while_something_is_wrong():
    refused = [change("1", -2, -1), change("2", 5, 6, "refused")]
    assert len(checked(changes=refused)) == 1
    assert len(checked(changes=refused, troubles=[Trouble("clock jumps", 1, 5, 7, 7)])) == 1
    assert checked(changes=refused, troubles=[Trouble("kill worker", 1, 5, 7, 7)]) == []


def test_a_job_may_be_refused_only_while_something_is_wrong():
    refused = a_job(refused=[(5.0, "507 the disk is full")])
    assert len(checked(jobs=[refused])) == 1
    assert checked(jobs=[refused], troubles=[Trouble("disk full", 0, 4, 6, 6)]) == []


@pytest.mark.parametrize(
    ("said", "complaint"),
    [
        ({"state": "lost"}, "job k (j) was acknowledged and is lost"),
        ({"state": "failed"}, "job k (j) was acknowledged and is failed"),
        ({"results": [(1, 3.0)]}, "job k (j): row 2 was answered 0 times"),
        ({"results": [(1, 3.0), (2, 3.0), (2, 3.0)]}, "job k (j): row 2 was answered 2 times"),
        ({"results": [(1, 3.0), (2, 3.0), (3, 3.0)]}, "job k (j): row 3 was never asked"),
        ({"results": [(1, 3.0), (2, 4.0)]}, "job k (j): row 2 is wrong: 4.0"),
        ({"results": [(1, 3.0), (2, math.nan)]}, "job k (j): row 2 is wrong: nan"),
    ],
)
def test_a_job_that_was_acknowledged_is_done_with_each_row_once(said: dict[str, object], complaint: str):
    assert checked(jobs=[a_job(**said)]) == [complaint]


def test_a_job_is_answered_by_a_version_that_was_active_as_it_came():
    changes = [change("1", -2, -1), change("2", 4, 5)]
    late = a_job(submitted=6.0, acknowledged=7.0)
    assert checked(changes=changes, jobs=[late]) == [
        "job k (j) was answered by 1, which was not active when it was submitted"
    ]


def test_a_job_that_was_never_acknowledged_is_nobodys_loss():
    assert checked(jobs=[a_job(acknowledged=None, state="lost", results=[])]) == []


def test_a_job_that_nobody_knows_and_a_process_that_nobody_killed_are_told():
    assert checked(strays=["j2"], deaths=["host1-2, exit code -6"]) == [
        "job j2 is there, and nobody was told of it",
        "ended by itself: host1-2, exit code -6",
    ]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ("connection refused", "connection"),
        ("broken pipe", "connection"),
        ("the WebSocket was refused: HTTP/1.1 503 Service Unavailable", "connection"),
        ("503: busy", "unavailable"),
        ("no_worker: …", "unavailable"),
        ("deadline_exceeded", "late"),
        ("timeout", "late"),
        ("refused: a stack trace", "other"),
        ("500: poisoned", "other"),
    ],
)
def test_errors_of_all_doors_are_a_few_kinds(error: str, kind: str):
    assert cause(error) == kind
