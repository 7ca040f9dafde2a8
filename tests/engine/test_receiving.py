"""Collaboration: weights that are what their sha256 says, signed by whom they have to be, or are not read."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from cli.main import main
from common.errors import CertificateError, LoadError
from common.signatures import read_trusted_keys
from common.wire import Load, VersionKey
from engine.receiving import Receiving
from engine.runtimes.source import Source, read_source
from engine.staging import Staging

DATA = b"weights" * 1000


def load_of(data: bytes, path: str = "") -> Load:
    return Load([], VersionKey("m", "1", hashlib.sha256(data).hexdigest()), len(data), path)


@pytest.fixture(params=["in the survey", "in chunks", "in a file"])
def way(request: pytest.FixtureRequest) -> str:
    kind: str = request.param
    return kind


def received(
    receiving: Receiving, staging: Staging, way: str, folder: Path, said: bytes, sent: bytes
) -> bytes:
    """What a load finds of the weights that were `sent`, where others were `said` to come."""
    load, buffers = load_of(said), []
    if way == "in the survey":
        buffers = [memoryview(sent)]
    elif way == "in a file":
        (folder / "blob").write_bytes(sent)
        load = load_of(said, str(folder / "blob"))
    else:
        staging.store(load.key.sha256, load.size, 0, memoryview(sent))
    source: Source
    with receiving.take(load, buffers) as source:
        return read_source(source)


def test_weights_are_read_once_their_digest_is_right(way: str, tmp_path: Path) -> None:
    staging = Staging()
    receiving = Receiving(staging)
    assert received(receiving, staging, way, tmp_path, DATA, DATA) == DATA
    assert received(receiving, staging, way, tmp_path, DATA, DATA) == DATA
    damaged = DATA[:-1] + b"S"
    with pytest.raises(LoadError, match="the weights were damaged on the way: their sha256 differs"):
        received(receiving, staging, way, tmp_path, DATA, damaged)


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """ours.key, ours.pub and theirs.key in a folder; and model.pt, which nobody signed."""
    for name in ("ours", "theirs"):
        assert main(["keys", "create", str(tmp_path / name)]) == 0
    (tmp_path / "model.pt").write_bytes(DATA)
    return tmp_path


def signed(folder: Path, by: str) -> bytes:
    out = folder / f"{by}.pt"
    assert (
        main(["sign", str(folder / "model.pt"), "--key", str(folder / f"{by}.key"), "--out", str(out)]) == 0
    )
    return out.read_bytes()


def test_a_signed_file_is_read_without_its_signature_also_where_none_is_asked_for(
    keys: Path, way: str
) -> None:
    data = signed(keys, "ours")
    assert len(data) == len(DATA) + 112
    for trusted in (None, read_trusted_keys(keys / "ours.pub")):
        staging = Staging()
        assert received(Receiving(staging, trusted), staging, way, keys, data, data) == DATA


def test_only_what_a_trusted_key_signed_as_it_is_passes(keys: Path, way: str) -> None:
    staging = Staging()
    receiving = Receiving(staging, read_trusted_keys(keys / "ours.pub"))
    data = signed(keys, "ours")
    for sent, sentence in (
        (DATA, r"the file is not signed, and --require_signed is given: pipeline sign signs it"),
        (signed(keys, "theirs"), r"the file is signed by \S{44}, which is not among the --trusted_keys"),
        (b"W" + data[1:], r"the file's signature is not of these bytes: it was changed since"),
        (data[:-1] + bytes([data[-1] ^ 1]), r"the file's signature is not of these bytes"),
    ):
        with pytest.raises(LoadError, match=sentence):
            received(receiving, staging, way, keys, sent, sent)


def test_keys_are_for_their_owner_and_nothing_is_written_over(
    keys: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (keys / "ours.key").stat().st_mode & 0o777 == 0o600
    assert main(["keys", "create", str(keys / "ours")]) == 2
    assert capsys.readouterr().err == f"pipeline: {keys}/ours.key cannot be written: File exists\n"
    signed(keys, "ours")
    for argv, sentence in (
        (["sign", "model.pt", "--key", "ours.pub"], "ours.pub is no key that pipeline keys create has made"),
        (["sign", "ours.pt", "--key", "ours.key"], "ours.pt is signed already"),
        (["sign", "nothing.pt", "--key", "ours.key"], "nothing.pt cannot be read: No such file or directory"),
    ):
        argv[1], argv[3] = str(keys / argv[1]), str(keys / argv[3])
        assert main(argv) == 2
        assert capsys.readouterr().err == f"pipeline: {keys}/{sentence}\n"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "has no key in it"),
        ("# none\n\n", "has no key in it"),
        ("# one\nssh-rsa AAAA me", "line 2: a key is written ed25519 KEY NAME, as pipeline keys create does"),
        ("ed25519 AAAA me", "line 1: a key is written"),
        ("ed25519", "line 1: a key is written"),
    ],
)
def test_a_list_of_keys_that_is_none_is_said_at_once(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "keys").write_text(text)
    with pytest.raises(CertificateError, match=sentence):
        read_trusted_keys(tmp_path / "keys")
