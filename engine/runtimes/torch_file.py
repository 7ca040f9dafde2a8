"""Reading what `torch.save` wrote when nobody knows who wrote it: tensors or a `LoadError`, never code."""

from __future__ import annotations

import pickle
import re
import zipfile
from pathlib import Path
from typing import IO, Any

import torch

from common.errors import LoadError
from engine.runtimes.archives import check_archive
from engine.runtimes.source import Source, open_source

_LONGEST_PICKLE = 8 << 20  # it names the tensors, some hundred bytes for each; their numbers are elsewhere
_ZIP_MAGIC = b"PK\x03\x04"
# torch names what a pickle asks for in one of two sentences, among advice to load it unsafely.
_ASKED_FOR = re.compile(r"GLOBAL ([\w.]+)")


def read_tensors(source: Source) -> Any:
    """The tensors, lists, dicts and numbers that bytes or a file hold; a file is mapped where its format
    allows, and may be removed or closed afterwards."""
    with open_source(source) as file:
        start = file.read(len(_ZIP_MAGIC))
        file.seek(0)
        try:
            if start != _ZIP_MAGIC:  # what torch wrote before 1.6, or nothing of torch's
                return torch.load(file, map_location="cpu", weights_only=True)
            _refuse_compressed(file)
            mapped = isinstance(source, Path)
            return torch.load(
                source if mapped else file,  # type: ignore[arg-type]
                map_location="cpu",
                weights_only=True,
                mmap=mapped,
            )
        except LoadError:
            raise
        except Exception as error:  # torch raises a dozen kinds here, none of them its own
            raise LoadError(_sentence(error)) from error


def _refuse_compressed(file: IO[bytes]) -> None:
    """torch never compresses, and a few MiB of zeros, compressed, unpack to more than any machine has."""
    for entry in check_archive(file):
        if entry.compress_type != zipfile.ZIP_STORED:
            raise LoadError("the file is a compressed archive, and torch.save writes none")
        if entry.filename.endswith("/data.pkl") and entry.file_size > _LONGEST_PICKLE:
            raise LoadError(f"the file lists more tensors than {_LONGEST_PICKLE} bytes can name")


def _sentence(error: Exception) -> str:
    if isinstance(error, pickle.UnpicklingError) and (asked := _ASKED_FOR.search(str(error))):
        return f"the file asks to run code ({asked[1]}), and only tensors are loaded: save the state_dict()"
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    if isinstance(error, pickle.UnpicklingError):
        reason = "it is a pickle of something else, or damaged"  # torch's own sentence gives unsafe advice
    return f"the file is not what torch.save wrote, or not all of it: {reason[:200]}"
