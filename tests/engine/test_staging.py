"""Pure but for a nameless file: engine/staging.py."""

import hashlib
import io
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import LoadError
from engine.staging import Staging

WEIGHTS = bytes(range(100))
DIGEST = hashlib.sha256(WEIGHTS).hexdigest()


def store(staging: Staging, offset: int, data: bytes, *, digest: str = DIGEST, size: int = 100) -> int:
    return staging.store(digest, size, offset, memoryview(data))


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture
def staging():
    before = open_files()
    staging = Staging()
    yield staging
    staging.close()
    assert open_files() == before


def test_chunks_in_order_become_a_file_that_is_gone_afterwards(staging: Staging) -> None:
    assert store(staging, 0, WEIGHTS[:60]) == 60
    assert store(staging, 60, WEIGHTS[60:]) == 100
    with staging.take(DIGEST, 100) as path:
        assert path.read_bytes() == WEIGHTS
    assert not path.exists()
    with pytest.raises(LoadError, match=r"^the weights did not arrive$"), staging.take(DIGEST, 100):
        pass


def test_a_sender_that_was_cut_off_begins_anew(staging: Staging) -> None:
    store(staging, 0, b"wrong" * 4)
    assert store(staging, 0, WEIGHTS[:60]) == 60
    assert store(staging, 60, WEIGHTS[60:]) == 100
    with staging.take(DIGEST, 100) as path:
        assert path.read_bytes() == WEIGHTS


def test_a_chunk_sent_again_because_its_answer_was_lost_changes_nothing(staging: Staging) -> None:
    store(staging, 0, WEIGHTS[:50])
    assert store(staging, 50, WEIGHTS[50:70]) == 70
    assert store(staging, 50, WEIGHTS[50:70]) == 70
    assert store(staging, 70, WEIGHTS[70:]) == 100
    with staging.take(DIGEST, 100) as path:
        assert path.read_bytes() == WEIGHTS


@pytest.mark.parametrize(
    ("offset", "data"),
    [(61, b"x"), (59, b"x"), (-1, b"x"), (60, bytes(41)), (0, bytes(101)), (10**30, b"x")],
    ids=["gap", "overlap", "negative", "too long", "too long from the start", "far away"],
)
def test_a_chunk_that_does_not_fit_changes_nothing(staging: Staging, offset: int, data: bytes) -> None:
    store(staging, 0, WEIGHTS[:60])
    assert store(staging, offset, data) == 60
    store(staging, 60, WEIGHTS[60:])
    with staging.take(DIGEST, 100) as path:
        assert path.read_bytes() == WEIGHTS


def test_a_chunk_of_weights_that_were_never_begun_stores_nothing(staging: Staging) -> None:
    assert store(staging, 60, WEIGHTS[60:]) == 0
    assert store(staging, 0, WEIGHTS, size=-5) == 0


def test_other_weights_push_out_those_that_never_became_whole(staging: Staging) -> None:
    store(staging, 0, WEIGHTS[:60])
    other = b"other"
    digest = hashlib.sha256(other).hexdigest()
    assert store(staging, 0, other, digest=digest, size=5) == 5
    assert store(staging, 60, WEIGHTS[60:]) == 0
    with staging.take(digest, 5) as path:
        assert path.read_bytes() == other


def test_weights_that_are_not_whole_are_refused_and_gone(staging: Staging) -> None:
    store(staging, 0, WEIGHTS[:60])
    with (
        pytest.raises(LoadError, match=r"^the weights did not arrive whole: 60 of 100 bytes$"),
        staging.take(DIGEST, 100),
    ):
        pass
    assert store(staging, 60, WEIGHTS[60:]) == 0


def test_weights_of_another_digest_are_refused_and_gone(staging: Staging) -> None:
    store(staging, 0, bytes(100))
    with (
        pytest.raises(LoadError, match=r"^the weights were damaged on the way: their sha256 differs$"),
        staging.take(DIGEST, 100),
    ):
        pass
    with pytest.raises(LoadError, match=r"^the weights did not arrive$"), staging.take(DIGEST, 100):
        pass


@pytest.mark.parametrize("digest", ["", "../../etc/passwd", DIGEST.upper(), DIGEST + "\n", DIGEST[:63] + "é"])
def test_a_digest_that_is_none_is_refused(staging: Staging, digest: str) -> None:
    with pytest.raises(LoadError, match=r"^a digest is 64 hex digits, not "):
        store(staging, 0, WEIGHTS, digest=digest)


def test_while_weights_are_loaded_others_may_arrive(staging: Staging) -> None:
    store(staging, 0, WEIGHTS)
    with staging.take(DIGEST, 100) as path:
        assert store(staging, 0, WEIGHTS[:10]) == 10
        assert path.read_bytes() == WEIGHTS


def test_a_full_disk_is_a_sentence_and_keeps_nothing(staging: Staging, monkeypatch) -> None:
    full = open("/dev/full", "wb", buffering=0)  # noqa: SIM115 - the staging closes it
    monkeypatch.setattr("engine.staging.tempfile.TemporaryFile", lambda: full)
    with pytest.raises(LoadError, match=r"^the weights cannot be stored: No space left on device$"):
        store(staging, 0, WEIGHTS)
    assert full.closed


def test_nothing_of_it_has_a_name_on_the_disk(staging: Staging, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    store(staging, 0, WEIGHTS[:60])
    assert list(tmp_path.iterdir()) == []
    assert isinstance(staging._file, io.BufferedRandom)


@given(st.lists(st.tuples(st.integers(1, 40), st.booleans()), min_size=1, max_size=10))
def test_however_chunks_are_lost_and_repeated_the_sender_gets_there(cuts: list[tuple[int, bool]]) -> None:
    staging = Staging()
    offset = 0
    for cut, is_answered in cuts:
        stored = store(staging, offset, WEIGHTS[offset : offset + cut])
        offset = stored if is_answered else offset
    while offset < 100:
        offset = store(staging, offset, WEIGHTS[offset : offset + 33])
    with staging.take(DIGEST, 100) as path:
        assert path.read_bytes() == WEIGHTS
