"""Coefficients as the file that `torch.save({"coefs": tensor})` writes, without torch: a gateway has none.
Pure."""

from __future__ import annotations

import io
import struct
import zipfile
from array import array

_LENGTH = struct.Struct("<I")


def coefs_file(coefs: array[float]) -> bytes:
    """The file of a float32 vector."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in (
            ("data.pkl", _program(len(coefs))),
            ("byteorder", b"little"),
            ("data/0", coefs.tobytes()),
            ("version", b"3\n"),
        ):
            # The same bytes for the same coefficients: no time of writing.
            archive.writestr(zipfile.ZipInfo(f"archive/{name}"), content)
    return file.getvalue()


def _program(length: int) -> bytes:
    """The pickle in it, by hand (its opcodes are named in the standard library's pickletools): a dict of one
    tensor, over a storage that is named and not in the pickle."""
    count = b"J" + struct.pack("<i", length)
    storage = b"(" + _text("storage") + b"ctorch\nFloatStorage\n" + _text("0") + _text("cpu") + count + b"tQ"
    hooks = b"ccollections\nOrderedDict\n)R"
    tensor = b"".join((
        b"ctorch._utils\n_rebuild_tensor_v2\n(", storage,
        b"K\x00", count, b"\x85", b"K\x01\x85",  # offset, shape, strides
        b"\x89", hooks, b"tR",
    ))  # fmt: skip
    return b"\x80\x02}" + _text("coefs") + tensor + b"s."


def _text(text: str) -> bytes:
    raw = text.encode()
    return b"X" + _LENGTH.pack(len(raw)) + raw
