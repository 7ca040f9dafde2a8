"""Collaboration: copies of a state that is being written to."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from common.errors import NotFound, StateError
from gateway.recovery.backup import backup
from gateway.recovery.check import check
from gateway.state.state import open_state
from tests.gateway.recovery.folders import add, damage, everything, fill


def test_a_copy_is_a_state_of_its_own_with_all_that_was_there(tmp_path: Path):
    live, copy = tmp_path / "live", tmp_path / "backups" / "monday"
    fill(live)
    done = backup(live, copy)
    assert (done.versions, done.jobs, done.blobs, done.findings) == (3, 1, 5, [])
    assert done.size == sum(map(len, everything(copy).values()))
    with open_state(live) as state, open_state(copy) as copied:
        assert copied.all_versions() == state.all_versions()
        assert copied.all_active() == state.all_active()
        assert copied.jobs.answers("j1", 0) == b"the answers"
        copied.forget_experiment("trial")
        copied.forget_version("m", "1")
        copied.blobs.sweep(copied.referenced())
    assert check(live).findings == []  # what becomes of the copy is nothing to the original
    assert os.stat(copy).st_mode & 0o777 == 0o700


def test_copies_of_a_state_that_changes_all_the_time_are_each_of_one_moment(tmp_path: Path):
    live = tmp_path / "live"
    fill(live)
    over = threading.Event()

    def change() -> None:
        number = 3
        with open_state(live) as state:
            while not over.is_set():
                number += 1
                add(state, str(number))
                state.activate("m", str(number))
                job = state.jobs.page(state=None, limit=1, cursor=None)
                assert job.jobs
                state.jobs.rows("j1")

    thread = threading.Thread(target=change)
    thread.start()
    try:
        for number in range(10):
            done = backup(live, tmp_path / str(number))
            assert done.findings == []
            with open_state(tmp_path / str(number)) as copied:
                active = copied.active("m")
                assert active is not None
                newest = copied.versions("m")[-1]
                assert int(newest.version) - int(active.version) in (0, 1)
    finally:
        over.set()
        thread.join()


def test_a_copy_has_the_faults_of_the_original_and_says_so(tmp_path: Path):
    live = tmp_path / "live"
    files = fill(live)
    damage(files["1"])
    files["2"].unlink()
    done = backup(live, tmp_path / "copy")
    assert {each.what for each in done.findings} == {"blob_sha256", "blob_missing"}
    with open_state(tmp_path / "copy") as copied, pytest.raises(NotFound):
        copied.blobs.read(files["2"].name)


def test_a_copy_goes_nowhere_where_something_is_and_leaves_nothing_half_made(tmp_path: Path):
    live = tmp_path / "live"
    fill(live)
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "mine").write_text("mine")
    with pytest.raises(StateError, match="is there already: name a new folder"):
        backup(live, tmp_path / "there")
    with pytest.raises(StateError, match="holds no state: say which folder does by --state"):
        backup(tmp_path / "nothing", tmp_path / "copy")
    (live / "pipeline.sqlite").write_bytes(b"no database")
    with pytest.raises(StateError, match="is damaged"):
        backup(live, tmp_path / "copy")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["live", "there"]
