"""Collaboration: gateway/state/blobs.py on a real file system; the processes that die in it are real."""

import hashlib
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.errors import NotFound, StateError
from gateway.state.blobs import Blob, BlobStore

ROOT = Path(__file__).parents[3]
DATA = b"weights" * 1000
SHA256 = hashlib.sha256(DATA).hexdigest()

DIES_WHILE_WRITING = """
import os, pathlib, sys
from gateway.state.blobs import BlobStore
with BlobStore(pathlib.Path(sys.argv[1])).new() as writer:
    writer.write(b"half of it")
    os.kill(os.getpid(), 9)
"""
FILLS_THE_DISK = """
import pathlib, resource, sys
from common.errors import StateError
from gateway.state.blobs import BlobStore
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    with BlobStore(pathlib.Path(sys.argv[1])).new() as writer:
        writer.write(bytes(5000))
except StateError as error:
    print(error)
"""


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "blobs")


def put(store: BlobStore, data: bytes = DATA) -> Blob:
    with store.new() as writer:
        writer.write(data)
        return writer.commit()


def files(store: BlobStore) -> list[str]:
    return sorted(str(path.relative_to(store.directory)) for path in store.directory.rglob("*"))


def test_a_committed_blob_is_named_for_its_bytes(store: BlobStore) -> None:
    path = store.directory / SHA256[:2] / SHA256
    assert put(store) == Blob(SHA256, len(DATA), path)
    assert files(store) == [SHA256[:2], f"{SHA256[:2]}/{SHA256}"]
    assert store.path(SHA256) == path
    assert store.read(SHA256) == DATA
    assert store.verify(SHA256) is True


def test_only_its_owner_may_read_a_blob(store: BlobStore) -> None:
    blob = put(store)
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (store.directory, blob.path.parent, blob.path)]
    assert modes == [0o700, 0o700, 0o600]


def test_a_part_of_a_blob_is_read_by_offset_and_size(store: BlobStore) -> None:
    put(store)
    assert store.read(SHA256, offset=7, size=14) == b"weightsweights"
    assert store.read(SHA256, offset=len(DATA) - 3, size=100) == b"hts"
    assert store.read(SHA256, offset=len(DATA) + 1) == b""


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(chunks=st.lists(st.binary(max_size=300)))
def test_however_the_bytes_are_split_the_blob_is_the_same(store: BlobStore, chunks: list[bytes]) -> None:
    with store.new() as writer:
        for chunk in chunks:
            writer.write(memoryview(bytearray(chunk)))
        assert (writer.sha256, writer.size) == (
            hashlib.sha256(b"".join(chunks)).hexdigest(),
            len(b"".join(chunks)),
        )
        blob = writer.commit()
    assert store.read(blob.sha256) == b"".join(chunks)


@pytest.mark.parametrize("chunk", [3 << 20, 20 << 20])
def test_bytes_are_right_across_the_strides_of_the_write_back(store: BlobStore, chunk: int) -> None:
    data = os.urandom(1 << 20) * 20
    with store.new() as writer:
        for start in range(0, len(data), chunk):
            writer.write(memoryview(data)[start : start + chunk])
        blob = writer.commit()
    assert blob.sha256 == hashlib.sha256(data).hexdigest()
    assert store.read(blob.sha256) == data


def test_a_buffer_of_other_items_than_bytes_counts_its_bytes(store: BlobStore) -> None:
    with store.new() as writer:
        writer.write(memoryview(bytes(16)).cast("f"))
        assert writer.size == 16


def test_without_a_commit_nothing_is_left(store: BlobStore) -> None:
    with store.new() as writer:
        writer.write(DATA)
    assert files(store) == []
    with pytest.raises(TypeError), store.new() as writer:
        writer.write("text")  # type: ignore[arg-type]
    assert files(store) == []


def test_committing_again_gives_the_same_blob_and_writing_again_is_refused(store: BlobStore) -> None:
    with store.new() as writer:
        writer.write(DATA)
        blob = writer.commit()
        assert writer.commit() is blob
        with pytest.raises(ValueError, match="a committed blob cannot be written to"):
            writer.write(b"more")
    assert store.verify(SHA256)


def test_the_same_bytes_from_two_threads_at_once_are_one_blob(store: BlobStore) -> None:
    threads = [threading.Thread(target=put, args=(store,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert files(store) == [SHA256[:2], f"{SHA256[:2]}/{SHA256}"]
    assert store.verify(SHA256)


def test_the_bytes_are_synced_before_the_name_and_the_name_before_commit_returns(
    store: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    fsync, rename = os.fsync, Path.rename

    def recorded_fsync(file: int) -> None:
        done.append("sync " + ("folder" if stat.S_ISDIR(os.fstat(file).st_mode) else "file"))
        fsync(file)

    def recorded_rename(path: Path, target: Path) -> Path:
        done.append("rename")
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", recorded_fsync)
    monkeypatch.setattr(Path, "rename", recorded_rename)
    put(store)
    assert done == ["sync file", "rename", "sync folder", "sync folder"]


@pytest.mark.parametrize(
    "name", ["", "../../etc/passwd", "a" * 63, "A" * 64, "a" * 64 + "\n", "/" + "a" * 63, "é" * 64]
)
def test_what_is_no_digest_never_becomes_a_path(store: BlobStore, name: str) -> None:
    for method in (store.path, store.read, store.verify):
        with pytest.raises(ValueError, match="a sha256 is 64 lower-case hex digits, not "):
            method(name)


def test_a_blob_that_is_not_there_is_not_found(store: BlobStore) -> None:
    for method in (store.read, store.verify):
        with pytest.raises(NotFound, match=f"^there is no blob {SHA256}$"):
            method(SHA256)


def test_a_changed_blob_does_not_verify_and_writing_it_again_repairs_it(store: BlobStore) -> None:
    path = put(store).path
    path.write_bytes(DATA[:-1] + b"?")
    assert store.verify(SHA256) is False
    put(store)
    assert store.verify(SHA256) is True


def test_a_sweep_keeps_what_is_referred_to_and_strangers(store: BlobStore) -> None:
    kept, other = put(store), put(store, b"other")
    (store.directory / "README").write_text("not ours")
    (store.directory / "0123.tmp").write_text("left over")
    assert store.sweep({kept.sha256}) == 2
    assert files(store) == [SHA256[:2], f"{SHA256[:2]}/{SHA256}", "README"]
    assert not other.path.parent.exists()
    assert store.sweep({kept.sha256}) == 0


def test_a_sweep_of_no_folder_removes_nothing(store: BlobStore) -> None:
    assert store.sweep(set()) == 0


def test_a_writer_killed_half_way_leaves_what_a_sweep_removes(store: BlobStore) -> None:
    command = [sys.executable, "-c", DIES_WHILE_WRITING, str(store.directory)]
    assert subprocess.run(command, cwd=ROOT, check=False, timeout=60).returncode == -9
    (left,) = files(store)
    assert left.endswith(".tmp")
    assert store.sweep(set()) == 1
    assert files(store) == []


def test_a_disk_that_takes_no_more_is_a_state_error_and_nothing_is_left(store: BlobStore) -> None:
    command = [sys.executable, "-c", FILLS_THE_DISK, str(store.directory)]
    told = subprocess.run(command, cwd=ROOT, check=True, timeout=60, capture_output=True, text=True)
    assert (told.stdout.endswith(".tmp: File too large\n"), told.stderr) == (True, "")
    assert files(store) == []


def test_a_folder_that_cannot_be_made_is_a_state_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(StateError, match=r"file/blobs: Not a directory$"),
        BlobStore(tmp_path / "file/blobs").new(),
    ):
        raise AssertionError("it was made")
