"""Collaboration: gateway/jobs/storage.py with real files. S3 is in tests/e2e/test_jobs.py."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import pytest

from common.errors import InvalidRequest
from gateway.jobs.storage import Storage, StorageError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


def test_a_file_takes_its_name_when_it_is_whole(root):
    out = root / "out.csv"
    out.write_text("old")
    with Storage(root).replacing(out.as_uri(), "job1") as file:
        file.write(b"new")
        file.flush()
        assert out.read_text() == "old"
    assert out.read_text() == "new"
    assert os.listdir(root) == ["out.csv"]


def test_a_file_that_fails_leaves_nothing_and_the_old_one_stays(root):
    out = root / "out.csv"
    out.write_text("old")
    with suppress(RuntimeError), Storage(root).replacing(out.as_uri(), "job1") as file:
        file.write(b"new")
        raise RuntimeError
    assert (os.listdir(root), out.read_text()) == (["out.csv"], "old")


def test_what_a_crash_left_is_written_over(root):
    (root / ".out.csv.job1.part").write_bytes(b"half of it, and longer than")
    with Storage(root).replacing((root / "out.csv").as_uri(), "job1") as file:
        file.write(b"all")
    assert (os.listdir(root), (root / "out.csv").read_bytes()) == (["out.csv"], b"all")


def test_a_path_is_judged_by_where_its_links_lead(root, tmp_path):
    (tmp_path / "secret.csv").write_text("1")
    (root / "inside").symlink_to(root)
    (root / "outside").symlink_to(tmp_path)
    (root / "in.csv").write_text("12")
    storage = Storage(root)
    assert storage.facts(f"{root.as_uri()}/inside/in.csv").size == 2
    for path in ("outside/secret.csv", "../secret.csv", "%2e%2e/secret.csv", "inside/../../secret.csv"):
        with pytest.raises(InvalidRequest, match="is not below the folder that --batch_root names"):
            storage.facts(f"{root.as_uri()}/{path}")
    with pytest.raises(InvalidRequest, match="is not below"):
        storage.check_writable(f"{root.as_uri()}/outside/new.csv")
    with pytest.raises(InvalidRequest, match="start it with --batch_root"):
        Storage(None).facts(f"{root.as_uri()}/in.csv")
    with pytest.raises(InvalidRequest, match="zero byte"):
        storage.facts(f"{root.as_uri()}/a%00b")


def test_a_pipe_or_a_folder_is_no_file_and_is_not_waited_for(root):
    os.mkfifo(root / "pipe.csv")
    for name in ("pipe.csv", "../root"):
        with pytest.raises(InvalidRequest):
            Storage(root).facts(f"{root.as_uri()}/{name}")
    with pytest.raises(InvalidRequest, match="is not a plain file"):
        Storage(root).reading(f"{root.as_uri()}/pipe.csv").__enter__()


def test_a_stamp_is_another_once_the_file_is(root):
    file = root / "in.csv"
    file.write_text("1")
    before = Storage(root).facts(file.as_uri())
    file.unlink()
    with pytest.raises(StorageError, match=r"in\.csv is not there"):
        Storage(root).facts(file.as_uri())
    file.write_text("2")
    os.utime(file, ns=(1, 1))
    assert Storage(root).facts(file.as_uri()) != before
