"""pure: the table of a chaos run, of a history that is made up."""

from __future__ import annotations

import json

from tests.chaos.history import Asked, Change, History, Job, Trouble
from tests.chaos.report import as_json, lines, summary, table

ROW = (1.0, 2.0)
HISTORY = History(
    asked=[
        Asked("v1", "", ROW, 0.0, 0.5, "", "1", 3.0),
        Asked("v1", "", ROW, 2.5, 4.5, "", "1", 3.0),
        Asked("ws", "", ROW, 3.0, 3.1, "connection refused"),
        Asked("ws", "", ROW, 12.0, 12.25, "503: busy"),
    ],
    changes=[Change("", "1", -2, -1, "done"), Change("", "2", 2, 3, "unknown")],
    jobs=[Job("a", "line", [ROW], 1.0, results=[(1, 3.0)])],
    troubles=[
        Trouble("kill worker", 1, 2.0, 3.0, 4.0),
        Trouble("kill gateway", 0, 10.0, 11.0, 14.0),
        Trouble("kill worker", 2, 20.0, 21.0, 21.5),
    ],
)


def test_each_kind_of_fault_has_its_requests_its_failures_and_how_long_it_took_to_be_whole_again():
    assert table(lines(HISTORY)) == (
        "| fault | times | requests | slowest answer | failed | whole again, p50 | max |\n"
        "|---|---|---|---|---|---|---|\n"
        "| kill gateway | 1 | 1 | 0.00 s | 1 unavailable | 3.00 s | 3.00 s |\n"
        "| kill worker | 2 | 2 | 2.00 s | 1 connection | 0.75 s | 1.00 s |\n"
        "| no fault |  | 1 | 0.50 s | 0 |  |  |\n"
    )


def test_what_was_asked_and_changed_is_counted():
    assert summary(HISTORY, ["something"]) == (
        "4 requests (2 v1, 2 ws); 1 done, 1 unknown changes of weights and versions; 1 jobs with 1 rows."
        " Violations: 1.\n"
    )


def test_everything_is_json_numbers_that_are_none_too():
    said = json.loads(json.dumps(as_json(HISTORY, [], {"seed": 7}), allow_nan=False))
    assert said["seed"] == 7
    assert [each["result"] for each in said["requests"]] == [3.0, 3.0, None, None]
    assert said["troubles"][0]["kind"] == "kill worker"
