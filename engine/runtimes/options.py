"""What a model's settings and the worker's operator say about loading it; the file says the rest."""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from common.errors import LoadError
from common.tensor import TensorSpec

_REFERENCE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", re.ASCII)


@dataclass(frozen=True)
class LoadOptions:
    """How to load a model. A runtime refuses what it has no use for, except what the operator allows.

    `architecture`: for a state_dict, `sample`, `linear` or `module:Class`; None asks the file.
    `arguments`: keyword arguments of that class, or of a Python callable at each call.
    `inputs`: what one row of each input is, where the file does not say or says it wrong; −1 is any length.
    `methods`: of a scikit-learn model, each of which gives an output; none is `predict`.
    `rows_multiple`: each call has a multiple of so many rows; None leaves it to the model's size.

    What the operator allows: `allow_pickle`, files that run code as they load; `allow_code`, patterns of the
    modules that `module:name` may name, as `shop.*`; `trusted`, types that skops would not load otherwise.
    """

    architecture: str | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    inputs: tuple[TensorSpec, ...] | None = None
    methods: tuple[str, ...] = ()
    rows_multiple: int | None = None
    allow_pickle: bool = False
    allow_code: tuple[str, ...] = ()
    trusted: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.rows_multiple is not None and self.rows_multiple < 1:
            raise ValueError(f"rows_multiple is {self.rows_multiple}, and has to be at least 1")

    def refuse(self, *names: str, because: str) -> None:
        """`LoadError` where any of the named options was given and the model has no use for it."""
        for name in names:
            if getattr(self, name):
                raise LoadError(f"{name} was given, and {because}")


def is_reference(text: str) -> bool:
    """Whether a text is `module:name`."""
    return _REFERENCE.fullmatch(text) is not None


def import_allowed(reference: str, allow_code: tuple[str, ...]) -> Any:
    """What `module:name` names, imported; `LoadError` unless its module is among those allowed."""
    if not is_reference(reference):
        raise LoadError(f"{reference[:80]!r} is not of the form module:name")
    module, _, name = reference.partition(":")
    if not any(fnmatchcase(module, pattern) for pattern in allow_code):
        raise LoadError(
            f"{reference} is code, and the module {module} is not among those this worker may import: "
            f"start it with --allow-code {module}"
        )
    try:
        return getattr(importlib.import_module(module), name)
    except Exception as error:  # whatever the module's own code raises
        raise LoadError(f"{reference} cannot be imported: {type(error).__name__}: {error}") from error
