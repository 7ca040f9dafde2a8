"""Collaboration: a state directory as the release before schema 6 left it: it wrote state-5.tar.gz."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from common.models import ModelSettings
from gateway.jobs.job import State as JobState
from gateway.recovery.backup import backup
from gateway.recovery.check import check
from gateway.recovery.repair import repair
from gateway.recovery.weights import check_weights
from gateway.state.database import MIGRATIONS
from gateway.state.state import open_state
from tests.gateway.recovery.folders import damage

FILE = Path(__file__).with_name("state-5.tar.gz")


@pytest.fixture
def old(tmp_path: Path) -> Path:
    with tarfile.open(FILE) as archive:
        archive.extractall(tmp_path / "old", filter="data")
    return tmp_path / "old"


def expect_all(directory: Path) -> None:
    with open_state(directory) as state:
        check_weights(state, directory)
        one, two = state.versions("m")
        assert (one.version, two.version, one.settings) == ("1", "2", ModelSettings(max_batch=7))
        assert (state.active("m"), state.previous("m"), state.all_serving()) == (two, one, [one])
        assert state.blobs.read(two.sha256) == b"weights 2"
        assert state.experiments().keys() == {"trial"}
        job = state.jobs.get("j1")
        assert (job.state, job.chunks, state.jobs.rows("j1")) == (JobState.DONE, 1, b"the rows")
        assert state.jobs.answers("j1", 0) == b"the answers"
        state.kept.put("new in schema 6", b"there")


def test_it_is_taken_over_with_all_it_holds(old: Path):
    assert (check(old).schema, check(old).findings) == (5, [])
    for _ in range(2):
        expect_all(old)
    assert (check(old).schema, check(old).findings) == (len(MIGRATIONS), [])


def test_a_copy_of_it_is_as_it_is_until_a_gateway_has_it(old: Path):
    assert backup(old, old.with_name("copy")).findings == []
    assert (check(old.with_name("copy")).schema, check(old).schema) == (5, 5)
    expect_all(old.with_name("copy"))


def test_it_is_repaired_without_the_release_that_wrote_it(old: Path):
    [weights] = [path for path in old.glob("blobs/??/*") if path.read_bytes() == b"weights 1"]
    damage(weights)
    done = repair(old)
    assert (done.versions, done.jobs) == (1, 1)
    assert done.lost[0] == "version 1 of m: its file does not have the sha256 that it is named for"
    with open_state(old) as state:
        assert state.active("m") == state.version("m", "2") is not None
        assert state.jobs.answers("j1", 0) == b"the answers"
