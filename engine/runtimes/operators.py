"""Operators that a torch program calls beside torch's own, by the libraries that bring them.

torch's loaders tell of a missing operator in whatever way they fail; here it is told before they begin.
"""

from __future__ import annotations

import contextlib
import importlib
import re
from collections.abc import Iterable

import torch

from common.errors import LoadError

# By the namespace of the operators: the library that registers them as it is imported. Only these are
# imported for a file's sake, and never what the file itself says.
_LIBRARIES = {"torchvision": "torchvision"}
_BUILT_IN = {b"aten", b"prim", b"prims", b"higher_order"}

# Text first, as a program may well speak of operators in it.
_IN_SCRIPT = re.compile(rb'"(?:[^"\\\n]|\\.)*"|\bops\.(\w+)\.(\w+)\(')
_IN_EXPORTED = re.compile(rb'"target": ?"torch\.ops\.(\w+)\.(\w+)')


def operators_of_script(code: bytes) -> set[str]:
    """What one source of a TorchScript archive calls, as `namespace::name`, but for torch's own."""
    return _named(_IN_SCRIPT.finditer(code))


def operators_of_exported(program: bytes) -> set[str]:
    """What the JSON of a torch.export program calls, as `namespace::name`, but for torch's own."""
    return _named(_IN_EXPORTED.finditer(program))


def require_operators(operators: Iterable[str]) -> None:
    """Import the libraries that bring these; `LoadError` names what is still not there."""
    missing = _missing(operators)
    for space in {operator.partition("::")[0] for operator in missing} & _LIBRARIES.keys():
        with contextlib.suppress(
            Exception
        ):  # absent, or built for another torch: what matters is what is there
            importlib.import_module(_LIBRARIES[space])
    missing = _missing(missing)
    if not missing:
        return
    libraries = sorted({_LIBRARIES.get(operator.partition("::")[0], "") for operator in missing} - {""})
    remedy = f": install {', '.join(libraries)}, built for torch {torch.__version__}" if libraries else ""
    plural = "s" if len(missing) > 1 else ""
    raise LoadError(
        f"the model needs the operator{plural} {', '.join(missing)}, which this worker lacks{remedy}"
    )


def _missing(operators: Iterable[str]) -> list[str]:
    return sorted(each for each in operators if not torch._C._jit_get_schemas_for_operator(each))


def _named(found: Iterable[re.Match[bytes]]) -> set[str]:
    return {
        f"{each[1].decode()}::{each[2].decode()}" for each in found if each[1] and each[1] not in _BUILT_IN
    }
