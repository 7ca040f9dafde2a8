"""Runtime of a TorchScript archive (`torch.jit.save`).

TorchScript is no Python, and its loader takes no pickle but of its own types. But its programs can write and
read files, by two operators, and one kind of method runs as the file loads. Such programs are refused.
"""

from __future__ import annotations

import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO

import torch

from common.errors import LoadError
from engine.runtimes.archives import check_archive
from engine.runtimes.filling import choose_multiple
from engine.runtimes.operators import operators_of_script, require_operators
from engine.runtimes.options import LoadOptions
from engine.runtimes.runtime import first_line
from engine.runtimes.source import Source, open_source, source_size
from engine.runtimes.torch_call import TorchRuntime

# Read in torch's list of all operators: of those a program can name, these touch files.
_REFUSED = {"aten::save", "aten::from_file"}
_NAMESPACES = {
    "_quantized",
    "aten",
    "mkldnn",
    "mkldnn_prepacked",
    "prim",
    "prims",
    "quantized",
    "torchvision",
}
_LONGEST_PROGRAMS = 64 * 2**20
_REFUSED_WORDS = re.compile(rb"\b(__setstate__|save|from_file)\s*\(")


def load(source: Source, options: LoadOptions, device: torch.device) -> TorchRuntime:
    """A warm runtime; `options.inputs` says what its rows are, as the format does not.

    `LoadError` for what is no archive, or holds a program that could touch files.
    """
    options.refuse("architecture", "arguments", "methods", because="TorchScript has no use for it")
    with open_source(source) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch would rather have torch.export
        try:
            if not options.allow_pickle:
                _refuse_bombs(file)
            reader = torch._C.PyTorchFileReader(str(source) if isinstance(source, Path) else file)
            programs = {
                name: reader.get_record(name) for name in reader.get_all_records() if name.startswith("code/")
            }
            if not options.allow_pickle:
                _refuse_words(programs)
            # Beside each source is what it was written from, for stack traces.
            sources = [code for name, code in programs.items() if name.endswith(".py")]
            require_operators(set().union(*map(operators_of_script, sources)))
            file.seek(0)
            network = torch.jit.load(str(source) if isinstance(source, Path) else file, map_location=device)  # type: ignore[no-untyped-call]
            operators = torch.jit.export_opnames(network)  # type: ignore[no-untyped-call]
            network.eval()
        except LoadError:
            raise
        except Exception as error:  # torch raises RuntimeError and a few more, none of them its own
            raise LoadError(f"the file is not TorchScript, or not all of it: {first_line(error)}") from error
    if not options.allow_pickle:
        _refuse_operators(operators)
    multiple = choose_multiple(options, source_size(source))
    return TorchRuntime(network, options.inputs, device, rows_multiple=multiple)


def _refuse_bombs(file: IO[bytes]) -> None:
    """torch compresses the programs, and a few MiB of them unpack to more than any machine has."""
    packed = [each for each in check_archive(file) if each.compress_type != zipfile.ZIP_STORED]
    unpacked = sum(entry.file_size for entry in packed)
    if unpacked > _LONGEST_PROGRAMS:
        raise LoadError("the archive would unpack to more than any program is")


def _refuse_words(programs: Mapping[str, bytes]) -> None:
    for program in programs.values():
        if found := _REFUSED_WORDS.search(program):
            raise _refusal(found[1].decode())


def _refuse_operators(operators: list[str]) -> None:
    for operator in operators:
        name, space = operator.partition(".")[0], operator.partition("::")[0]
        if name in _REFUSED or ("::" in operator and space not in _NAMESPACES):
            raise _refusal(operator)


def _refusal(name: str) -> LoadError:
    return LoadError(
        f"the file asks to run code that may touch files ({name}), and is loaded only with --allow-pickle"
    )
