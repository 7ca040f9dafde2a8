"""end to end: two minutes of faults under a constant load, every kind of them once, and a checker that reads
every answer. `scripts/chaos` is ten minutes of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos import report, schedule
from tests.chaos.run import WORKERS, run
from tests.hosts.hosts import missing_for_hosts

SEED, RATE = 1, 60.0


@pytest.mark.apart
def test_whatever_fails_no_answer_is_wrong_and_no_request_is_lost_without_need(tmp_path: Path) -> None:
    if missing := missing_for_hosts():
        pytest.skip(missing)
    faults = schedule.make(SEED, schedule.SHORTEST, WORKERS)
    found = run(faults, schedule.SHORTEST, RATE, tmp_path, print)
    print(report.table(report.lines(found.history)))
    assert {trouble.kind for trouble in found.history.troubles} == set(schedule.KINDS)
    assert found.violations == []
