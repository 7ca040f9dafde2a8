"""Collaboration: what a repair saves of real state directories, and that it takes nothing away."""

from __future__ import annotations

import hashlib
import random
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import StateError, StateInUse
from gateway.recovery.check import check
from gateway.recovery.repair import Repaired, repair
from gateway.state.database import MIGRATIONS
from gateway.state.state import open_state
from gateway.state.state_folder import DATABASE
from tests.gateway.recovery.folders import add, damage, everything, experiment, fill

NOW = 1_700_000_000.0
STAMP = "damaged-20231114-221320"
NOTHING = hashlib.sha256().hexdigest()


def test_a_state_that_is_whole_is_left_as_it_is(tmp_path: Path):
    fill(tmp_path)
    before = everything(tmp_path)
    assert repair(tmp_path) == Repaired(str(tmp_path), False, 3, 1, [], [])
    assert everything(tmp_path) == before


def test_versions_without_their_weights_are_dropped_and_said_and_all_else_is_there(tmp_path: Path):
    files = fill(tmp_path)
    damage(files["3"])
    before = (tmp_path / DATABASE).read_bytes()
    done = repair(tmp_path, NOW)
    assert done == Repaired(
        str(tmp_path), True, 2, 1,
        ["version 3 of m: its file does not have the sha256 that it is named for",
         "version 3 of m was active: none is until one is activated"],
        [f"{tmp_path}/blobs.{STAMP}/{files['3'].name}", f"{tmp_path}/{DATABASE}.{STAMP}"],
    )  # fmt: skip
    assert (tmp_path / f"{DATABASE}.{STAMP}").read_bytes() == before
    assert check(tmp_path).findings == []
    with open_state(tmp_path) as state:
        assert ([each.version for each in state.versions("m")], state.active("m")) == (["1", "2"], None)
        assert state.previous("m") == state.version("m", "2")
        assert state.experiments() == {"trial": experiment()}
        assert state.kept.get("autoscaler") == b"{}"
        assert (state.jobs.get("j1").chunks, state.jobs.answers("j1", 0)) == (1, b"the answers")
        state.activate("m", "2")


def test_what_refers_to_a_lost_version_goes_with_it(tmp_path: Path):
    files = fill(tmp_path)
    files["1"].unlink()
    files["answers"].unlink()
    done = repair(tmp_path)
    assert done.lost == [
        "version 1 of m: its file is missing",
        "arm 1 of experiment trial: it does not fit what else could be read",
        "arm 2 of experiment trial: it does not fit what else could be read",
        "rows 0 of job j1: its file is missing",
        "job j1: 0 of 1 parts of its answers are there",
    ]
    with open_state(tmp_path) as state:
        assert (state.experiments(), state.jobs.unfinished()) == ({}, [])
        assert state.active("m") == state.version("m", "3")
    assert check(tmp_path).damage == []


def test_of_a_database_with_a_hole_every_row_is_saved_that_is_outside_of_it(tmp_path: Path):
    with open_state(tmp_path) as state:
        for number in range(400):
            add(state, str(number), size=1)
        state.activate("m", "399")
    path = tmp_path / DATABASE
    content = bytearray(path.read_bytes())
    row = content.index(b"m200200")  # model, version and nn_id
    page = row - row % 4096
    content[page : page + 4096] = random.Random(5).randbytes(4096)
    path.write_bytes(content)
    with pytest.raises(StateError, match="is damaged"):
        open_state(tmp_path).__enter__()
    done = repair(tmp_path, NOW)
    assert 350 < done.versions < 400
    assert done.lost[0] == "not all of the table versions could be read"
    kept = list((tmp_path / f"blobs.{STAMP}").iterdir())
    assert len(kept) == 400 - done.versions  # their weights are there for whoever wants to upload them again
    assert path.with_name(f"{DATABASE}.{STAMP}").read_bytes() == content
    with open_state(tmp_path) as state:
        assert len(state.versions("m")) == done.versions
        assert state.active("m") == state.version("m", "399") is not None
    assert check(tmp_path).findings == []


@pytest.mark.parametrize("content", [None, b"", b"This is my shopping list. " * 100])
def test_of_what_is_no_database_the_weights_are_kept_and_a_new_state_begins(tmp_path: Path, content):
    files = fill(tmp_path)
    path = tmp_path / DATABASE
    path.unlink() if content is None else path.write_bytes(content)
    done = repair(tmp_path, NOW)
    assert (done.versions, done.jobs) == (0, 0)
    assert done.lost[0] == "not all of the table versions could be read"
    assert {each.name for each in (tmp_path / f"blobs.{STAMP}").iterdir()} == {files[n].name for n in "123"}
    if content is not None:
        assert path.with_name(f"{DATABASE}.{STAMP}").read_bytes() == content
    with open_state(tmp_path) as state:
        assert state.all_versions() == []


def test_what_is_only_in_the_log_of_a_killed_gateway_is_saved_too(tmp_path: Path):
    files = fill(tmp_path / "live")
    with open_state(tmp_path / "live") as state:  # a copy while it is open is what a kill leaves
        add(state, "4")
        state.activate("m", "4")
        copied = everything(tmp_path / "live")
        log = (tmp_path / "live" / f"{DATABASE}-wal").read_bytes()
    killed = tmp_path / "killed"
    for name, content in copied.items():
        (killed / name).parent.mkdir(parents=True, exist_ok=True)
        (killed / name).write_bytes(content)
    (killed / f"{DATABASE}-wal").write_bytes(log)
    (killed / files["1"].relative_to(tmp_path / "live")).unlink()
    done = repair(killed, NOW)
    assert done.versions == 3
    assert (killed / f"{DATABASE}.{STAMP}-wal").read_bytes() == log
    with open_state(killed) as state:
        assert state.active("m") == state.version("m", "4") is not None


@pytest.mark.parametrize("schema", range(1, len(MIGRATIONS)))
def test_a_damaged_state_of_an_older_schema_is_repaired_and_brought_up_to_date(tmp_path: Path, schema: int):
    with closing(sqlite3.connect(tmp_path / DATABASE)) as connection:
        for script in MIGRATIONS[:schema]:
            connection.executescript(script)
        connection.execute(
            "INSERT INTO versions (model, version, nn_id, sha256, size, created, checked)"
            " VALUES ('m', '1', 'n', ?, 0, 1.5, 1)",
            (NOTHING,),
        )
        connection.execute("INSERT INTO activations VALUES ('m', '1', '2')")
        connection.execute(f"PRAGMA user_version = {schema}")
        connection.commit()
    (tmp_path / "blobs" / NOTHING[:2]).mkdir(parents=True)
    (tmp_path / "blobs" / NOTHING[:2] / NOTHING).write_bytes(b"")
    assert [each.what for each in check(tmp_path).damage] == ["reference"]
    assert repair(tmp_path).lost == []
    with open_state(tmp_path) as state:
        assert state.active("m") == state.version("m", "1") is not None
        assert state.previous("m") is None


def test_a_state_that_a_gateway_has_and_one_of_a_newer_release_are_left_alone(tmp_path: Path):
    files = fill(tmp_path)
    files["1"].unlink()
    with open_state(tmp_path), pytest.raises(StateInUse, match="is in use by another gateway"):
        repair(tmp_path)
    with closing(sqlite3.connect(tmp_path / DATABASE)) as connection:
        connection.execute("PRAGMA user_version = 77")
    with pytest.raises(StateError, match=r"is of a newer release \(schema 77\): repair it by that one"):
        repair(tmp_path)


@settings(deadline=None, max_examples=15)
@given(place=st.floats(0, 1), junk=st.binary(min_size=1, max_size=3000), keep=st.floats(0.2, 1))
def test_whatever_is_wrong_with_the_database_it_can_be_used_afterwards(tmp_path_factory, place, junk, keep):
    directory = tmp_path_factory.mktemp("state")
    files = fill(directory)
    path = directory / DATABASE
    content = bytearray(path.read_bytes())
    at = int(place * (len(content) - len(junk)))
    content[at : at + len(junk)] = junk
    path.write_bytes(content[: max(1, int(keep * len(content)))])
    before = everything(directory)
    was = check(directory).damage
    if any(each.what == "schema" for each in was):
        return
    assert repair(directory).was_damaged == bool(was)
    assert set(before.values()) <= set(everything(directory).values())
    assert check(directory).damage == []
    with open_state(directory) as state:
        assert {each.version for each in state.versions("m")} <= files.keys()
        add(state, "new")
