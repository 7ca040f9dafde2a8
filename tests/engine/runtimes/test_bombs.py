"""Contract: small files that ask for much are refused, before they are given it."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Callable

import pytest
import torch

from engine.runtimes.options import LoadOptions
from tests.engine.runtimes.refusals import dumped, refused


def archive(compression: int = zipfile.ZIP_STORED, **entries: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", compression) as file:
        for name, data in entries.items():
            file.writestr(name.replace("__", "/"), data)
    return packed.getvalue()


def safetensors(header: bytes) -> bytes:
    return struct.pack("<Q", len(header)) + header


def deflated(**entries: bytes) -> bytes:
    return archive(zipfile.ZIP_DEFLATED, **entries)


SPACES = b" " * (128 << 20)

BOMBS: dict[str, tuple[Callable[[], bytes], str]] = {
    "a tensor of 400 GB in 1 KiB": (
        lambda: dumped(torch.save, {"coefs": torch.zeros(1).expand(10**11)}),
        "'coefs' is said to have 400000000000 bytes, and has 4",
    ),
    "100,000 files": (
        lambda: archive(m__data__pkl=b"", **{f"m__data__{i}": b"" for i in range(100_000)}),
        "the file is of none",
    ),
    "100,000 tensors": (
        lambda: archive(**{"m/data.pkl": b"", **{f"m/{i}": b"" for i in range(100_000)}}),
        "the archive holds 100001 files: at most 32768 are allowed",
    ),
    "a list of tensors without end": (
        lambda: archive(**{"m/data.pkl": bytes(9 << 20)}),
        "the file lists more tensors than 8388608 bytes can name",
    ),
    "a safetensors header of 9 MiB": (
        lambda: safetensors(b"{" + b" " * (9 << 20)),
        "the file's header has 9437185 bytes: at most 8388608 are allowed",
    ),
    "a safetensors tensor larger than its file": (
        lambda: safetensors(
            json.dumps({"x": {"dtype": "F32", "shape": [10**9, 10**9], "data_offsets": [0, 4]}}).encode()
        ),
        "the file is not safetensors, or not all of it: ",
    ),
    "a safetensors header of 100,000 brackets": (
        lambda: safetensors(b'{"a":' + b"[" * 100_000),
        "the file is not safetensors, or not all of it: ",
    ),
    "JSON of 100,000 brackets": (
        lambda: b'{"learner":' + b"[" * 100_000,
        "the file is no XGBoost model, or not all of it: maximum recursion depth exceeded",
    ),
    "UBJSON of 100,000 brackets": (
        lambda: b"{L" + struct.pack(">q", 7) + b"learner" + b"[" * 100_000,
        "the file is no XGBoost model, or not all of it: ",
    ),
    "skops that unpacks to 128 MiB": (
        lambda: deflated(**{"schema.json": SPACES}),
        "the archive of ",
    ),
    "torch.export that unpacks to 128 MiB": (
        lambda: deflated(**{"m/archive_format": b"pt2", "m/models/model.json": SPACES}),
        "the archive of ",
    ),
    "a pickle of 100,000 brackets": (
        lambda: archive(
            **{"m/data.pkl": b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".", "m/version": b"3"}
        ),
        "the file holds a list, not a state_dict of tensors",
    ),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_file_that_asks_for_much_is_refused(name: str) -> None:
    make, sentence = BOMBS[name]
    assert refused(make(), None, LoadOptions()).startswith(sentence)
