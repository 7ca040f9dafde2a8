"""Collaboration: what a check finds in real state directories that were damaged on purpose."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from common.errors import StateError
from gateway.recovery.check import check
from gateway.recovery.weights import check_weights
from gateway.state.database import MIGRATIONS
from gateway.state.state import open_state
from gateway.state.state_folder import DATABASE
from tests.gateway.recovery.folders import damage, everything, fill


def test_nothing_is_wrong_with_a_state_as_a_gateway_leaves_it(tmp_path: Path):
    fill(tmp_path)
    before = everything(tmp_path)
    found = check(tmp_path)
    assert (found.findings, found.damage) == ([], [])
    assert (found.schema, found.versions, found.jobs, found.blobs) == (len(MIGRATIONS), 3, 1, 5)
    assert everything(tmp_path) == before


def test_nothing_is_wrong_with_one_that_a_gateway_works_on(tmp_path: Path):
    fill(tmp_path)
    with open_state(tmp_path) as state:
        state.activate("m", "1")
        found = check(tmp_path)
        state.activate("m", "2")  # and it holds up nobody
    assert found.findings == []


def test_every_file_that_is_gone_or_changed_is_named_with_what_it_was_for(tmp_path: Path):
    files = fill(tmp_path)
    files["1"].unlink()
    files["2"].write_bytes(b"short")
    damage(files["3"])
    files["rows"].unlink()
    damage(files["answers"])
    found = {(each.what, each.file): each.sentence for each in check(tmp_path).damage}
    assert found == {
        ("blob_missing", str(files["1"])): "the file is missing (version 1 of m)",
        ("blob_size", str(files["2"])): "the file does not have the size that was stored (version 2 of m)",
        ("blob_sha256", str(files["3"])): "the file does not have the sha256 that it is named for",
        ("job_blob_missing", str(files["rows"])): "the file is missing (rows of job j1)",
        ("blob_sha256", str(files["answers"])): "the file does not have the sha256 that it is named for",
    }


def test_a_file_that_nobody_names_is_told_and_is_no_damage(tmp_path: Path):
    files = fill(tmp_path)
    with open_state(tmp_path) as state:
        state.forget_experiment("trial")
        state.forget_version("m", "1")
    found = check(tmp_path)
    assert [(each.what, each.file) for each in found.findings] == [("orphan", str(files["1"]))]
    assert found.damage == []


def test_a_database_that_is_cut_off_or_is_none_is_told_and_so_is_what_lies_beside_it(tmp_path: Path):
    files = fill(tmp_path)
    damage(files["1"])
    path = tmp_path / DATABASE
    whole = path.read_bytes()
    for content, said in (
        (whole[: len(whole) // 2], "the database cannot be read: database disk image is malformed"),
        (b"This is my shopping list. " * 100, "the database cannot be read: file is not a database"),
        (None, "the database cannot be read: it is missing"),
    ):
        path.unlink() if content is None else path.write_bytes(content)
        found = check(tmp_path)
        assert [each.sentence for each in found.damage] == [
            said, "the file does not have the sha256 that it is named for",
        ]  # fmt: skip


def test_what_refers_to_nothing_and_what_cannot_be_read_is_told(tmp_path: Path):
    fill(tmp_path)
    with closing(sqlite3.connect(tmp_path / DATABASE)) as connection:
        connection.execute("UPDATE activations SET active = '77'")
        connection.execute("UPDATE versions SET settings = '{\"max_batch\":' WHERE version = '2'")
        connection.execute("UPDATE experiments SET body = x'00'")
        connection.commit()
    found = check(tmp_path).damage
    assert [each.what for each in found] == ["reference", "document", "document"]
    assert found[0].sentence == "row 1 of activations names something that versions does not hold"
    assert found[1].sentence.startswith("settings of row 2 of versions cannot be read: ")
    assert found[2].sentence.startswith("body of row 1 of experiments cannot be read: ")


def test_a_state_of_any_older_schema_is_checked_as_it_is(tmp_path: Path):
    for schema, script in enumerate(MIGRATIONS, 1):
        with closing(sqlite3.connect(tmp_path / DATABASE)) as connection:
            connection.executescript(f"{script} PRAGMA user_version = {schema}")
        found = check(tmp_path)
        assert (found.schema, found.findings) == (schema, [])


def test_a_folder_without_a_state_is_a_sentence(tmp_path: Path):
    with pytest.raises(StateError, match="holds no state: say which folder does by --state"):
        check(tmp_path)


@pytest.mark.parametrize(
    ("how", "version", "sentence"),
    [
        (Path.unlink, "1", "is missing"),
        (lambda path: path.write_bytes(b"x"), "1", "does not have the size that was stored"),
        (damage, "3", "does not have the sha256 that it is named for"),
    ],
)
def test_no_gateway_starts_without_the_weights_it_serves(tmp_path: Path, how, version, sentence):
    path = fill(tmp_path)[version]
    how(path)
    with open_state(tmp_path) as state, pytest.raises(StateError) as caught:
        check_weights(state, tmp_path)
    assert str(caught.value) == (
        f"{path} (version {version} of m) {sentence}: `pipeline state check --state {tmp_path}` says all that"
        f" is wrong, `pipeline state repair --state {tmp_path}` saves what can be read"
    )


def test_weights_that_do_not_serve_are_not_read_when_a_gateway_starts(tmp_path: Path):
    damage(fill(tmp_path)["1"])
    with open_state(tmp_path) as state:
        check_weights(state, tmp_path)
    assert [each.what for each in check(tmp_path).damage] == ["blob_sha256"]


def test_no_gateway_starts_with_a_database_that_has_a_hole_wherever_it_is(tmp_path: Path):
    fill(tmp_path)
    path = tmp_path / DATABASE
    whole = path.read_bytes()
    page = int.from_bytes(whole[16:18], "big")  # its size (SQLite's file format, 1.3)
    for at in range(page, len(whole), page):
        path.write_bytes(whole[:at] + bytes(page) + whole[at + page :])
        with pytest.raises(StateError, match=r"is damaged \("), open_state(tmp_path):
            pass
    path.write_bytes(whole)
    with open_state(tmp_path) as state:
        assert len(state.all_versions()) == 3


def test_a_state_whose_database_is_gone_is_not_begun_anew(tmp_path: Path):
    files = fill(tmp_path)
    (tmp_path / DATABASE).unlink()
    with pytest.raises(
        StateError, match=r"pipeline\.sqlite is missing, and what it named is there: `pipeline"
    ):
        open_state(tmp_path).__enter__()
    assert all(path.exists() for path in files.values())
