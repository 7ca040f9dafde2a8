"""Pure: common/bundle.py, a model and the files beside it as one."""

from __future__ import annotations

import io
import tarfile
from contextlib import suppress

import pytest

from common.bundle import is_bundle, pack_bundle, read_bundle
from common.errors import LoadError


def packed(**files: bytes) -> bytes:
    return b"".join(pack_bundle([(name.replace("_", "."), io.BytesIO(data)) for name, data in files.items()]))


def archive(*names: str) -> io.BytesIO:
    """As tar itself writes one of these names, with a byte in each."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as writer:
        for name in names:
            entry = tarfile.TarInfo(name)
            entry.size = 1
            writer.addfile(entry, io.BytesIO(b"x"))
    file.seek(0)
    return file


def test_what_is_packed_is_read_again() -> None:
    data = packed(model_onnx=b"m" * 1000, tokenizer_json=b"{}", empty_txt=b"")
    found = read_bundle(io.BytesIO(data))
    assert (found.name, found.files) == ("model.onnx", {"tokenizer.json": b"{}", "empty.txt": b""})
    assert data[found.offset : found.offset + found.size] == b"m" * 1000


def test_the_same_files_make_the_same_bytes_which_tar_reads() -> None:
    data = packed(model_pt=b"m", tokenizer_json=b"{}")
    assert data == packed(model_pt=b"m", tokenizer_json=b"{}")
    with tarfile.open(fileobj=io.BytesIO(data)) as found:
        assert found.getnames() == ["model.pt", "tokenizer.json"]


@pytest.mark.parametrize(
    ("data", "found"), [(packed(model_pt=b"m"), True), (b"m" * 300, False), (b"", False)]
)
def test_a_bundle_is_told_by_its_bytes(data: bytes, found: bool) -> None:
    assert is_bundle(io.BytesIO(data)) is found


def test_what_tar_makes_of_a_folder_is_read_without_what_is_hidden() -> None:
    found = read_bundle(archive("./model.ts", "./tokenizer.json", "./._model.ts", "src/model.py"))
    assert (found.name, list(found.files)) == ("model.ts", ["tokenizer.json"])


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["a.json"], "exactly one file called model.*, and this one holds a.json"),
        (["model.pt", "model.onnx"], "this one holds model.pt, model.onnx"),
        (["src/model.pt"], "this one holds nothing"),
        ([f"{n}.txt" for n in range(65)], "the archive holds 65 files: at most 64 are allowed"),
    ],
)
def test_an_archive_without_exactly_one_model_is_refused(names: list[str], said: str) -> None:
    with pytest.raises(LoadError) as caught:
        read_bundle(archive(*names))
    assert said in str(caught.value)


def test_an_archive_that_was_cut_is_refused_or_has_all_that_it_shows() -> None:
    data = packed(model_pt=b"m" * 1000, tokenizer_json=b"t" * 1000)
    for size in range(0, 2500, 100):
        with suppress(LoadError):
            assert set(read_bundle(io.BytesIO(data[:size])).files.values()) <= {b"t" * 1000}


def test_a_file_that_becomes_shorter_while_it_is_packed_is_no_bundle() -> None:
    class Shrinking(io.BytesIO):
        def seek(self, offset: int, whence: int = 0) -> int:
            return super().seek(offset, whence) + (9 if whence == io.SEEK_END else 0)

    with pytest.raises(OSError, match="became shorter"):
        list(pack_bundle([("model.pt", Shrinking(b"m"))]))
