"""Collaboration: state/state.py on a real disk; the gateways that fight for it and die in it are real."""

import hashlib
import os
import random
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.errors import Conflict, NotFound, StateError
from common.models import DEFAULTS, ModelInput, ModelSettings
from common.tensor import TensorSpec
from gateway.state.database import MIGRATIONS
from gateway.state.state import State, VersionRecord, open_state
from gateway.state.state_folder import DATABASE

ROOT = Path(__file__).parents[3]
OTHER = "0" * 64

ADDS_AND_ACTIVATES_FOR_EVER = """
import itertools, pathlib, sys
from gateway.state.state import VersionRecord, open_state
with open_state(pathlib.Path(sys.argv[1])) as state:
    start = len(state.versions("m")) + 1
    for number in itertools.count(start):
        state.add_version(VersionRecord("m", str(number), "0" * 32, f"{number:064x}", number, 1.0))
        state.activate("m", str(number))
        print(number, flush=True)
"""
DIES_INSIDE_A_TRANSACTION = """
import os, pathlib, sys
from gateway.state.state import open_state
with open_state(pathlib.Path(sys.argv[1])) as state:
    state._connection.execute("PRAGMA cache_size = 1")  # so that changed pages go to the disk before COMMIT
    with state._transaction() as connection:
        connection.execute("UPDATE activations SET active = NULL, previous = NULL")
        connection.execute("DELETE FROM versions")
        for number in range(2000):
            values = ("x", str(number), "", "0" * 64, 0, 0.0, 0)
            connection.execute(
                "INSERT INTO versions (model, version, nn_id, sha256, size, created, checked)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)", values
            )
        os.kill(os.getpid(), 9)
"""
TRIES_TO_OPEN = """
import os, pathlib, sys
from common.errors import StateError
from gateway.state.state import open_state
try:
    with open_state(pathlib.Path(sys.argv[1])):
        print("open", os.getpid(), flush=True)
        sys.stdin.read()
except StateError as error:
    print(error, flush=True)
    sys.stdin.read()
"""
STARTS_A_WORKER = """
import pathlib, subprocess, sys
from gateway.state.state import open_state
WORKER = "import sys; print('worker', flush=True); sys.stdin.read(); print('end')"
with open_state(pathlib.Path(sys.argv[1])):
    subprocess.run([sys.executable, "-c", WORKER], close_fds=False)
"""


def start(program: str, directory: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", program, str(directory)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def record(version: str, *, model: str = "m", size: int = 100) -> VersionRecord:
    return VersionRecord(
        model, version, "a" * 32, hashlib.sha256(f"{model} {version}".encode()).hexdigest(), size, 1.5
    )


RICH = replace(
    record("1"),
    file="é 'quoted'.skops",
    settings=ModelSettings(
        runtime="sklearn",
        arguments={"depth": [1, {"a": 2.5}], "name": "x"},
        inputs=(ModelInput(name="x", datatype="FP64", shape=(-1, 4)),),
        labels=("setosa", "versicolor"),
        queue_max=7,
        timeout=1.5,
        warmup_rows=((1.0, 2.0),),
        affinity=False,
    ),
    inputs=(TensorSpec("x", "FP64", (4,)), TensorSpec("ids", "INT64", ())),
    outputs=(TensorSpec("label", "INT64", ()), TensorSpec("p", "FP32", (3, -1))),
)


@pytest.fixture(params=["disk", "ephemeral"])
def state(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[State]:
    with open_state(tmp_path / "state" if request.param == "disk" else None) as opened:
        yield opened


def test_a_new_state_knows_nothing(state: State) -> None:
    assert state.versions("m") == []
    assert (state.version("m", "1"), state.active("m"), state.previous("m")) == (None, None, None)
    assert (state.all_active(), state.referenced()) == ({}, set())


def test_versions_are_remembered_in_the_order_they_came(state: State) -> None:
    records = [record("2"), record("10"), record("1")]
    for each in [*records, record("1", model="other")]:
        state.add_version(each)
    assert state.versions("m") == records
    assert state.version("m", "10") == records[1]
    assert state.referenced() == {*(each.sha256 for each in records), record("1", model="other").sha256}


def test_adding_a_version_again_changes_nothing(state: State) -> None:
    state.add_version(record("1"))
    state.mark_checked("m", "1")
    state.add_version(replace(record("1"), created=99.0))
    assert state.versions("m") == [replace(record("1"), checked=True)]


@pytest.mark.parametrize("change", [{"sha256": OTHER}, {"size": 7}, {"nn_id": "b" * 32}])
def test_a_version_never_changes_its_weights(state: State, change: dict[str, str]) -> None:
    state.add_version(record("1"))
    with pytest.raises(Conflict) as caught:
        state.add_version(replace(record("1"), **change))  # type: ignore[arg-type]
    assert str(caught.value) == (
        f"version 1 of m is already there with other weights (nn_id {'a' * 32}, sha256 {record('1').sha256})"
    )
    assert state.versions("m") == [record("1")]


def test_a_version_is_checked_once_a_worker_has_loaded_it(state: State) -> None:
    state.add_version(record("1"))
    state.mark_checked("m", "1")
    state.mark_checked("m", "1")
    assert state.version("m", "1") == replace(record("1"), checked=True)


def test_activating_moves_the_one_before_to_previous(state: State) -> None:
    one, two = record("1"), record("2")
    state.add_version(one)
    state.add_version(two)
    state.activate("m", "1")
    assert (state.active("m"), state.previous("m")) == (one, None)
    state.activate("m", "2")
    assert (state.active("m"), state.previous("m")) == (two, one)
    state.activate("m", "2")
    assert (state.active("m"), state.previous("m")) == (two, one)
    state.activate("m", "1")
    assert (state.active("m"), state.previous("m")) == (one, two)
    state.activate("m", None)
    assert (state.active("m"), state.previous("m")) == (None, one)


def test_all_active_has_the_models_that_serve(state: State) -> None:
    for model in ("b", "a", "idle"):
        state.add_version(record("1", model=model))
    state.activate("a", "1")
    state.activate("b", "1")
    state.activate("idle", None)
    assert state.all_active() == {"a": record("1", model="a"), "b": record("1", model="b")}


def test_a_version_that_is_not_there_is_not_found(state: State) -> None:
    for change in (state.mark_checked, state.activate, lambda *key: state.set_serving(*key, True)):
        with pytest.raises(NotFound, match=r"^there is no version 1 of m$"):
            change("m", "1")
    assert state.active("m") is None


def test_the_active_version_cannot_be_forgotten_and_the_previous_can(state: State) -> None:
    for version in ("1", "2"):
        state.add_version(record(version))
        state.activate("m", version)
    with pytest.raises(Conflict, match=r"^version 2 of m is active: activate another one first$"):
        state.forget_version("m", "2")
    state.forget_version("m", "1")
    state.forget_version("m", "1")
    assert (state.versions("m"), state.active("m"), state.previous("m")) == ([record("2")], record("2"), None)


def test_after_a_failed_change_the_next_one_works(state: State) -> None:
    with pytest.raises(StateError, match=r"cannot be used \(CHECK constraint failed: "):
        state.add_version(record("1", size=-1))
    state.add_version(record("1"))
    assert state.versions("m") == [record("1")]


def test_experiments_are_remembered_and_hold_their_versions(state: State) -> None:
    for version in "123":
        state.add_version(record(version))
    state.put_experiment("trial", b"first", "m", ["1", "2"])
    state.put_experiment("trial", b"second", "m", ["1", "3"])
    state.put_experiment("over", b"ended", "m", [])
    assert state.experiments() == {"over": b"ended", "trial": b"second"}
    state.forget_version("m", "2")
    with pytest.raises(Conflict, match=r"^version 3 of m is an arm of experiment trial: end it first$"):
        state.forget_version("m", "3")
    for name in ("trial", "never"):
        state.forget_experiment(name)
    state.forget_version("m", "3")
    assert (state.experiments(), state.versions("m")) == ({"over": b"ended"}, [record("1")])


def test_an_experiment_with_a_version_that_is_not_there_changes_nothing(state: State) -> None:
    state.add_version(record("1"))
    state.put_experiment("trial", b"first", "m", ["1"])
    with pytest.raises(NotFound, match=r"^there is no version 2 of m$"):
        state.put_experiment("trial", b"second", "m", ["1", "2"])
    assert state.experiments() == {"trial": b"first"}


@pytest.mark.parametrize("schema", range(1, len(MIGRATIONS)))
def test_a_database_of_any_older_schema_is_brought_up_to_date_with_all_that_is_in_it(
    tmp_path: Path, schema: int
) -> None:
    old = replace(record("1"), checked=True)
    with closing(sqlite3.connect(tmp_path / DATABASE)) as connection:
        for script in MIGRATIONS[:schema]:
            connection.executescript(script)
        connection.execute(
            "INSERT INTO versions (model, version, nn_id, sha256, size, created, checked)"
            " VALUES ('m', '1', ?, ?, 100, 1.5, 1)",
            (old.nn_id, old.sha256),
        )
        connection.execute("INSERT INTO activations VALUES ('m', '1', NULL)")
        connection.execute(f"PRAGMA user_version = {schema}")
        connection.commit()
    for _ in range(2):
        with open_state(tmp_path) as state:
            assert state.all_active() == {"m": old}
            state.put_experiment("trial", b"{}", "m", ["1"])


VERSIONS = st.sampled_from("123")
CHANGES = st.one_of(
    st.tuples(st.just("add"), VERSIONS),
    st.tuples(st.just("activate"), st.one_of(st.none(), VERSIONS)),
    st.tuples(st.just("forget"), VERSIONS),
)


@settings(deadline=None)
@given(st.lists(CHANGES, max_size=30))
def test_any_changes_leave_what_a_dictionary_would(changes: list[tuple[str, str | None]]) -> None:
    known: dict[str | None, VersionRecord] = {}
    active: str | None = None
    previous: str | None = None
    with open_state(None) as state:
        for what, version in changes:
            if what == "add" and version:
                state.add_version(record(version))
                known.setdefault(version, record(version))
            elif what == "activate" and (version is None or version in known):
                state.activate("m", version)
                if version != active:
                    active, previous = version, active
            elif what == "forget" and version and version != active:
                state.forget_version("m", version)
                known.pop(version, None)
                previous = None if previous == version else previous
            assert state.versions("m") == list(known.values())
            assert (state.active("m"), state.previous("m")) == (known.get(active), known.get(previous))


def test_what_is_known_of_a_version_is_there_after_opening_again(tmp_path: Path) -> None:
    with open_state(tmp_path) as state:
        state.add_version(RICH)
        state.add_version(replace(record("2"), size=0))
    with open_state(tmp_path) as state:
        assert state.versions("m") == [RICH, replace(record("2"), size=0)]


def test_what_a_worker_says_that_a_version_takes_and_gives_replaces_what_was_known(state: State) -> None:
    state.add_version(RICH)
    other = (TensorSpec("y", "FP32", (-1, 2)),)
    state.mark_checked("m", "1", other, ())
    assert state.version("m", "1") == replace(RICH, checked=True, inputs=other, outputs=())


def test_settings_that_nobody_can_read_are_damage_and_said_so(tmp_path: Path) -> None:
    with open_state(tmp_path) as state:
        state.add_version(RICH)
    with closing(sqlite3.connect(tmp_path / DATABASE)) as connection:
        connection.execute("""UPDATE versions SET settings = '{"max_batch":0}'""")
        connection.commit()
    with open_state(tmp_path) as state, pytest.raises(StateError, match=r"is damaged .*max_batch"):
        state.versions("m")


def test_versions_serve_by_their_names_until_they_do_not(state: State) -> None:
    for each in (record("1"), record("2"), record("1", model="other")):
        state.add_version(each)
    assert state.all_serving() == []
    state.set_serving("m", "2", True)
    state.set_serving("other", "1", True)
    state.set_serving("m", "1", True)
    assert state.all_serving() == [
        replace(each, serves=True) for each in (record("1"), record("2"), record("1", model="other"))
    ]
    state.set_serving("m", "2", False)
    state.set_serving("m", "2", False)
    assert [(each.model, each.version) for each in state.all_serving()] == [("m", "1"), ("other", "1")]
    assert state.version("m", "2") == record("2")
    state.forget_version("m", "1")
    assert [(each.model, each.version) for each in state.all_serving()] == [("other", "1")]


def test_adding_a_version_again_leaves_its_settings_and_whether_it_serves(state: State) -> None:
    state.add_version(RICH)
    state.set_serving("m", "1", True)
    state.add_version(replace(RICH, settings=DEFAULTS, file="", inputs=(), outputs=()))
    assert state.version("m", "1") == replace(RICH, serves=True)


def test_everything_is_there_after_closing_and_opening_again(tmp_path: Path) -> None:
    with open_state(tmp_path) as state:
        for version in ("1", "2"):
            state.add_version(record(version))
            state.activate("m", version)
        with state.blobs.new() as writer:
            writer.write(b"weights")
            blob = writer.commit()
    with open_state(tmp_path) as state:
        assert (state.active("m"), state.previous("m")) == (record("2"), record("1"))
        assert state.blobs.read(blob.sha256) == b"weights"
        assert state.blobs.path(blob.sha256) == tmp_path / "blobs" / blob.sha256[:2] / blob.sha256


def test_nobody_else_may_look_into_the_folder(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir(mode=0o755)
    for directory in (tmp_path / "new" / "state", tmp_path / "old"):
        with open_state(directory):
            assert stat.S_IMODE(directory.stat().st_mode) == 0o700


def test_an_ephemeral_state_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with open_state(None) as state, state.blobs.new() as writer:
        writer.write(b"weights")
        assert writer.commit().path.is_relative_to(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_every_change_is_synced_to_the_disk(tmp_path: Path) -> None:
    with open_state(tmp_path) as state:
        pragmas = ("journal_mode", "synchronous", "foreign_keys", "busy_timeout", "user_version")
        values = [state._connection.execute(f"PRAGMA {pragma}").fetchone()[0] for pragma in pragmas]
    assert values == ["wal", 2, 1, 5000, len(MIGRATIONS)]


def test_a_gateway_killed_between_changes_loses_none_it_has_told_of(tmp_path: Path) -> None:
    random.seed(7)
    told = 0
    for _ in range(5):
        with start(ADDS_AND_ACTIVATES_FOR_EVER, tmp_path) as gateway:
            assert gateway.stdout is not None
            for _ in range(random.randint(1, 30)):
                told = int(gateway.stdout.readline())
            gateway.kill()
            told = int((gateway.stdout.read().split() or [told])[-1])
        with open_state(tmp_path) as state:
            active, previous = state.active("m"), state.previous("m")
            assert active is not None
            assert int(active.version) in (told, told + 1)
            assert int(previous.version if previous else 0) == int(active.version) - 1
            assert len(state.versions("m")) - int(active.version) in (0, 1)


def test_a_gateway_killed_inside_a_change_never_made_it(tmp_path: Path) -> None:
    with open_state(tmp_path) as state:
        for version in ("1", "2"):
            state.add_version(record(version))
            state.activate("m", version)
    with start(DIES_INSIDE_A_TRANSACTION, tmp_path) as gateway:
        assert gateway.wait(60) == -9
    assert (tmp_path / f"{DATABASE}-wal").stat().st_size > 100_000  # half of it did reach the disk
    with open_state(tmp_path) as state:
        assert (state.active("m"), state.previous("m")) == (record("2"), record("1"))
        assert (state.versions("m"), state.versions("x")) == ([record("1"), record("2")], [])


def test_a_second_gateway_is_told_who_holds_the_state(tmp_path: Path) -> None:
    sentence = (
        f"{tmp_path} is in use by another gateway (process {os.getpid()}): stop it, or give another --state"
    )
    with open_state(tmp_path), start(TRIES_TO_OPEN, tmp_path) as gateway:
        assert gateway.communicate(timeout=60) == (f"{sentence}\n", None)
    with open_state(tmp_path):
        pass


def test_of_gateways_started_at_once_one_gets_the_state_and_its_death_frees_it(tmp_path: Path) -> None:
    gateways = [start(TRIES_TO_OPEN, tmp_path) for _ in range(4)]
    lines = [gateway.stdout.readline() for gateway in gateways if gateway.stdout]
    (winner,) = [number for number, line in enumerate(lines) if line.startswith("open ")]
    assert sum("is in use by another gateway" in line for line in lines) == 3
    gateways[winner].kill()
    for gateway in gateways:
        gateway.communicate(timeout=60)
    with open_state(tmp_path):
        pass


def test_workers_that_outlive_their_gateway_do_not_hold_its_state(tmp_path: Path) -> None:
    with start(STARTS_A_WORKER, tmp_path) as gateway:
        assert gateway.stdout is not None
        assert gateway.stdout.readline() == "worker\n"
        gateway.kill()
        gateway.wait(60)
        with open_state(tmp_path):
            pass
        assert gateway.stdin is not None
        gateway.stdin.close()  # the worker's as well: it ends, and with it the output
        assert gateway.stdout.read() == "end\n"


def filled(directory: Path) -> bytes:
    with open_state(directory) as state:
        for number in range(30):
            state.add_version(record(str(number)))
            state.activate("m", str(number))
    return (directory / DATABASE).read_bytes()


@pytest.fixture(scope="module")
def whole_database(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return filled(tmp_path_factory.mktemp("whole"))


@pytest.mark.parametrize("kept", [0, 50, 100, 4096, 0.5, -4096])
def test_a_truncated_database_is_refused_with_a_sentence(tmp_path: Path, kept: float) -> None:
    whole = filled(tmp_path)
    kept = int(kept * len(whole)) if isinstance(kept, float) else kept
    (tmp_path / DATABASE).write_bytes(whole[:kept])
    with pytest.raises(StateError) as caught, open_state(tmp_path):
        pass
    sentence = str(caught.value)
    assert sentence.startswith(f"{tmp_path / DATABASE} is damaged (")
    assert sentence.endswith(f"`pipeline state repair --state {tmp_path}` saves what can be read")


def test_a_file_that_is_no_database_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / DATABASE).write_bytes(b"This is my shopping list. " * 100)
    with pytest.raises(StateError, match=r"is damaged \(file is not a database\): `pipeline state check"):
        open_state(tmp_path).__enter__()
    assert (tmp_path / DATABASE).read_bytes().startswith(b"This is my")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(place=st.floats(0, 1), junk=st.binary(min_size=1, max_size=200), beside=st.binary(max_size=200))
def test_whatever_is_wrong_with_the_files_it_is_a_state_error(
    tmp_path_factory: pytest.TempPathFactory, whole_database: bytes, place: float, junk: bytes, beside: bytes
) -> None:
    directory = tmp_path_factory.mktemp("state")
    whole = bytearray(whole_database)
    at = int(place * (len(whole) - len(junk)))
    whole[at : at + len(junk)] = junk
    (directory / DATABASE).write_bytes(whole)
    (directory / f"{DATABASE}-wal").write_bytes(beside)
    try:
        with open_state(directory) as state:
            state.versions("m")
            state.all_active()
            state.settings("m")
            state.activate("m", "1")
    except (StateError, NotFound):
        pass


def test_a_newer_schema_is_refused_with_a_sentence_and_left_alone(tmp_path: Path) -> None:
    with open_state(tmp_path):
        pass
    with closing(sqlite3.connect(tmp_path / DATABASE)) as connection:
        connection.execute("PRAGMA user_version = 77")
    for _ in range(2):
        with pytest.raises(StateError) as caught, open_state(tmp_path):
            pass
        assert str(caught.value) == (
            f"{tmp_path / DATABASE} is of a newer release (schema 77, this one knows {len(MIGRATIONS)}):"
            " start that release, or give another --state"
        )


SCHEMA_1 = """
CREATE TABLE versions (
    id INTEGER PRIMARY KEY,
    model TEXT NOT NULL,
    version TEXT NOT NULL,
    nn_id TEXT NOT NULL,
    sha256 TEXT NOT NULL CHECK (length(sha256) = 64),
    size INTEGER NOT NULL CHECK (size >= 0),
    created REAL NOT NULL,
    checked INTEGER NOT NULL CHECK (checked IN (0, 1)),
    UNIQUE (model, version)
);
CREATE TABLE activations (
    model TEXT PRIMARY KEY,
    active TEXT,
    previous TEXT,
    FOREIGN KEY (model, active) REFERENCES versions (model, version),
    FOREIGN KEY (model, previous) REFERENCES versions (model, version)
);
INSERT INTO versions VALUES (1, 'm', '1', 'a1', printf('%064d', 1), 100, 1.5, 1);
INSERT INTO versions VALUES (2, 'm', '2', 'a2', printf('%064d', 2), 200, 2.5, 0);
INSERT INTO activations VALUES ('m', '2', '1');
PRAGMA user_version = 1;
"""


def test_a_state_of_the_first_release_is_taken_over_with_all_it_holds(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / DATABASE)) as connection:
        connection.executescript(SCHEMA_1)
    one = VersionRecord("m", "1", "a1", f"{1:064}", 100, 1.5, checked=True)
    two = VersionRecord("m", "2", "a2", f"{2:064}", 200, 2.5, checked=False)
    for _ in range(2):
        with open_state(tmp_path) as state:
            assert state.versions("m") == [one, two]
            assert (state.active("m"), state.previous("m"), state.all_serving()) == (two, one, [])
            assert (one.file, one.settings, one.inputs, one.outputs, one.serves) == (
                "",
                DEFAULTS,
                (),
                (),
                False,
            )
    with open_state(tmp_path) as state:
        state.add_version(replace(RICH, model="m", version="3"))
        state.set_serving("m", "3", True)
    with open_state(tmp_path) as state:
        assert state.all_serving() == [replace(RICH, model="m", version="3", serves=True)]


def test_a_state_without_settings_of_models_is_taken_over(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / DATABASE)) as connection:
        connection.executescript(SCHEMA_1)
        for number in (1, 2):  # the two releases that followed
            connection.executescript(f"{MIGRATIONS[number]} PRAGMA user_version = {number + 1};")
        connection.execute("UPDATE versions SET settings = '{\"max_batch\":7}' WHERE version = '2'")
        connection.commit()
    for _ in range(2):
        with open_state(tmp_path) as state:
            assert state.settings("m") is None
            assert [each.settings for each in state.versions("m")] == [DEFAULTS, ModelSettings(max_batch=7)]
    with open_state(tmp_path) as state:
        state.set_settings("m", RICH.settings, {"1": RICH.settings})
    with open_state(tmp_path) as state:
        assert state.settings("m") == RICH.settings


def test_a_gateway_killed_while_it_made_the_database_is_no_harm(tmp_path: Path) -> None:
    (tmp_path / f"{DATABASE}.new").write_bytes(b"half of i")
    (tmp_path / f"{DATABASE}.new-wal").write_bytes(b"junk")
    (tmp_path / f"{DATABASE}-wal").write_bytes(b"of a database that is gone")
    with open_state(tmp_path) as state:
        state.add_version(record("1"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["blobs", "job_blobs", "lock", DATABASE]


def test_a_folder_of_somebody_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("…")
    tmp_path.chmod(0o755)
    with pytest.raises(
        StateError, match=r"holds other things and no state: give --state a new or empty folder$"
    ):
        open_state(tmp_path).__enter__()
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_path_that_is_a_file_is_refused_with_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError, match=r"/file: File exists$"):
        open_state(tmp_path / "file").__enter__()


# --- settings of models


def test_settings_are_those_that_were_said_last_and_each_model_has_its_own(state: State) -> None:
    assert state.settings("m") is None
    state.set_settings("m", RICH.settings, {})
    state.set_settings("n", ModelSettings(max_batch=1), {})
    state.set_settings("m", ModelSettings(max_batch=2), {})
    assert (state.settings("m"), state.settings("n")) == (
        ModelSettings(max_batch=2),
        ModelSettings(max_batch=1),
    )


def test_versions_are_given_their_settings_with_the_model_s_or_not_at_all(state: State) -> None:
    for version in "123":
        state.add_version(record(version))
        state.mark_checked("m", version)
    one, two = ModelSettings(max_batch=1), ModelSettings(max_batch=2)
    state.set_settings("m", one, {"1": one, "2": two, "9": one}, untried=["2", "9"])
    assert [each.settings for each in state.versions("m")] == [one, two, DEFAULTS]
    assert [each.checked for each in state.versions("m")] == [True, False, True]
    with pytest.raises(ZeroDivisionError):
        state.set_settings("m", two, {"1": two}, untried=(str(1 / number) for number in (0,)))
    assert (state.settings("m"), state.version("m", "1").settings) == (one, one)
