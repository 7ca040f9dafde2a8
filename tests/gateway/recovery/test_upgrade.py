"""Collaboration: state directories as the releases before schemas 6 and 7 left them: they wrote
state-5.tar.gz and state-6.tar.gz."""

from __future__ import annotations

import tarfile
from pathlib import Path

import msgspec
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

SCHEMAS = (5, 6)


@pytest.fixture(params=SCHEMAS)
def schema(request) -> int:
    return request.param


@pytest.fixture
def old(tmp_path: Path, schema: int) -> Path:
    with tarfile.open(Path(__file__).with_name(f"state-{schema}.tar.gz")) as archive:
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


def test_it_is_taken_over_with_all_it_holds(old: Path, schema: int):
    assert (check(old).schema, check(old).findings) == (schema, [])
    for _ in range(2):
        expect_all(old)
    assert (check(old).schema, check(old).findings) == (len(MIGRATIONS), [])


@pytest.mark.parametrize("schema", [6])
def test_jobs_of_before_have_no_owner_and_their_keys_are_known_still(old: Path):
    with open_state(old) as state:
        assert state.jobs.find_key("again", "d", "") == state.jobs.get("j2")
        assert state.jobs.find_key("again", "d", "somebody") is None
        assert [job.owner for job in state.jobs.page(state=None, limit=9, cursor=None).jobs] == ["", ""]
        assert state.jobs.page(state=None, limit=9, cursor=None, owner="somebody").jobs == []
        mine = msgspec.structs.replace(state.jobs.get("j2"), id="j3", owner="somebody")
        assert state.jobs.add(mine, "again", None) == (mine, True)
        assert state.jobs.page(state=None, limit=9, cursor=None, owner="somebody").jobs == [mine]


def test_a_copy_of_it_is_as_it_is_until_a_gateway_has_it(old: Path, schema: int):
    assert backup(old, old.with_name("copy")).findings == []
    assert (check(old.with_name("copy")).schema, check(old).schema) == (schema, schema)
    expect_all(old.with_name("copy"))


def test_it_is_repaired_without_the_release_that_wrote_it(old: Path, schema: int):
    [weights] = [path for path in old.glob("blobs/??/*") if path.read_bytes() == b"weights 1"]
    damage(weights)
    done = repair(old)
    assert (done.versions, done.jobs) == (1, 1 if schema == 5 else 2)
    assert done.lost[0] == "version 1 of m: its file does not have the sha256 that it is named for"
    with open_state(old) as state:
        assert state.active("m") == state.version("m", "2") is not None
        assert state.jobs.answers("j1", 0) == b"the answers"
