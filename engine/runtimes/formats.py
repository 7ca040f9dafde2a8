"""The model formats: how each is told by its bytes, what executes it, and what it needs installed."""

from __future__ import annotations

import importlib
import re
import zipfile
from pathlib import Path
from typing import IO, Any, NamedTuple

import torch

from common.errors import LoadError
from common.tensor import BYTES
from engine.runtimes.options import LoadOptions, is_reference
from engine.runtimes.runtime import Runtime
from engine.runtimes.source import Source, open_source


class Format(NamedTuple):
    """`module` of engine.runtimes loads it, with what the extra of that name installs, if it needs one.
    `also` are the datatypes of inputs that it takes beside plain numbers."""

    title: str
    module: str
    extra: str = ""
    packages: str = ""
    suffixes: tuple[str, ...] = ()
    also: tuple[str, ...] = ()


_NOT_PLAIN = (BYTES, "BF16")

FORMATS: dict[str, Format] = {
    "torch": Format("a torch state_dict", "torch_state", suffixes=(".pt", ".pth"), also=("BF16",)),
    "torchscript": Format("a TorchScript program", "torch_script", suffixes=(".ts",), also=("BF16",)),
    "torch_export": Format("a torch.export program", "torch_export", suffixes=(".pt2",), also=("BF16",)),
    "safetensors": Format(
        "a safetensors state_dict",
        "safetensors_state",
        "safetensors",
        "safetensors",
        (".safetensors",),
        ("BF16",),
    ),
    "sklearn": Format(
        "a scikit-learn model", "sklearn_model", "sklearn", "scikit-learn and skops", (".skops",)
    ),
    "pickle": Format(
        "a pickled scikit-learn model",
        "sklearn_model",
        "sklearn",
        "scikit-learn and skops",
        (".pkl", ".pickle", ".joblib"),
    ),
    "onnx": Format("an ONNX model", "onnx_model", "onnx", "onnxruntime", (".onnx",), (BYTES,)),
    "xgboost": Format("an XGBoost model", "xgboost_model", "xgboost", "xgboost", (".ubj",)),
    "lightgbm": Format("a LightGBM model", "lightgbm_model", "lightgbm", "lightgbm"),
    "python": Format("a Python callable", "python_callable", also=_NOT_PLAIN),
}

_HEAD = 4096
_ZIP_MAGIC = b"PK\x03\x04"
# torch.save before 1.6 begins with this number, pickled.
_OLD_TORCH = re.compile(rb"\x80.\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19\.", re.DOTALL)
_PICKLE = re.compile(rb"\x80[\x01-\x05]")
_XGBOOST = re.compile(rb'\{\s*"learner"|\{L\x00{7}\x07learner|\{i\x07learner')
_LIGHTGBM = re.compile(rb"tree\r?\n")
_LARGEST_HEADER = 100 * 10**6  # that a safetensors file may have


def detect(source: Source, name: str = "") -> str:
    """The format's name, by what is in it; the suffix of its `name`, or its own, counts only where that does
    not tell.

    `LoadError` where it cannot be read, or is none of them.
    """
    path = source if isinstance(source, Path) and not name else Path(name)
    suffix = path.suffix.lower()
    with open_source(source) as file:
        found = _detect_by_content(file)
    # A plain pickle that is called .pt is, if anything, tensors: torch's own sentence says what is wrong.
    if found is None or (found == "pickle" and suffix in FORMATS["torch"].suffixes):
        found = next((kind for kind, each in FORMATS.items() if suffix in each.suffixes), found)
    if found is None:
        titles = ", ".join(each.title.partition(" ")[2] for each in FORMATS.values())
        raise LoadError(f"the file is of none of the known formats: {titles}")
    return found


def _detect_by_content(file: IO[bytes]) -> str | None:
    head = file.read(_HEAD)
    size = file.seek(0, 2)
    if head.startswith(_ZIP_MAGIC):
        return _detect_archive(file)
    if _OLD_TORCH.match(head):
        return "torch"
    if _PICKLE.match(head):
        return "pickle"
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= min(size - 8, _LARGEST_HEADER):
        return "safetensors"
    if _XGBOOST.match(head):
        return "xgboost"
    if _LIGHTGBM.match(head):
        return "lightgbm"
    if size < _HEAD and head.isascii() and is_reference(head.decode("ascii").strip()):
        return "python"
    return "onnx" if _is_onnx(file, size) else None


def _detect_archive(file: IO[bytes]) -> str | None:
    """By the names of its entries; torch's all lie in one folder."""
    try:
        with zipfile.ZipFile(file) as archive:
            names = set(archive.namelist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return None
    if "schema.json" in names:
        return "sklearn"
    inner = {name.partition("/")[2] for name in names}
    if "archive_format" in inner or any(name.startswith("models/") for name in inner):
        return "torch_export"
    if "constants.pkl" in inner and any(name.startswith("code/") for name in inner):
        return "torchscript"
    return "torch" if "data.pkl" in inner else None


def _is_onnx(file: IO[bytes], size: int) -> bool:
    """Whether the fields of a protobuf fill the file, and the IR version and the graph are among them.

    ONNX has no magic number; ModelProto's fields are in onnx.proto, the encoding in protobuf's documentation.
    """
    seen: set[int] = set()
    file.seek(0)
    while file.tell() < size:
        tag = _read_varint(file)
        length = _read_varint(file) if tag & 7 in {0, 2} else None
        if tag >> 3 == 0 or length is None or len(seen) > 64:
            return False
        seen.add(tag >> 3)
        if tag & 7 == 2:
            file.seek(length, 1)
    return file.tell() == size and {1, 7} <= seen


def _read_varint(file: IO[bytes]) -> int:
    """0, which no field's tag is, where there is none."""
    value = 0
    for shift in range(0, 64, 7):
        byte = file.read(1)
        if not byte:
            return 0
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    return 0


def load_runtime(source: Source, kind: str | None, options: LoadOptions, device: torch.device) -> Runtime:
    """A warm runtime of a format of `FORMATS`, or of the one the file shows; its module is imported now.

    `LoadError` with a sentence for a format that is not known or not installed, and for whatever keeps the
    model from serving.
    """
    kind = kind or detect(source)
    module = import_format(kind)
    for spec in options.inputs or ():
        if spec.datatype in _NOT_PLAIN and spec.datatype not in FORMATS[kind].also:
            raise LoadError(
                f"{FORMATS[kind].title} takes no {spec.datatype}, and its input {spec.name} is said to be"
            )
    runtime: Runtime = module.load(source, options, device)
    return runtime


def import_format(kind: str) -> Any:
    """The module that loads a format, and with it the library; `LoadError` as `load_runtime`."""
    if kind not in FORMATS:
        raise LoadError(f"the format {kind[:40]!r} is not known: use one of {', '.join(FORMATS)}")
    chosen = FORMATS[kind]
    try:
        return importlib.import_module(f"engine.runtimes.{chosen.module}")
    except ImportError as error:
        if not chosen.extra:
            raise
        raise LoadError(
            f"{chosen.title} needs {chosen.packages}, which cannot be imported here ({error}): "
            f'pip install "pipeline-inference[{chosen.extra}]"'
        ) from error
