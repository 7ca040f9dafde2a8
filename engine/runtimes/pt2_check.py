"""Is this .pt2 archive a program of tensors and nothing else? Read before torch's own loader sees it.

`torch.export.load` believes what it reads: it unpickles some entries, evaluates size expressions and guards
as Python, and pastes names into source text that it runs. So this is a list of what may be there, and
all else is refused:

1. Entries: the program, its weights and constants, example inputs, and marks of version. No objects that are
   pickled whole, no compiled libraries.
2. Entries that are unpickled hold tensors only.
3. Size expressions and guards are arithmetic.
4. What a node calls is an operator on tensors (torch's own, or torchvision's) or arithmetic.
5. Every other string of the program is a dotted name, except the text that is never run.
"""

from __future__ import annotations

import ast
import json
import re
from typing import IO, Any

import torch

from common.errors import LoadError
from engine.runtimes.archives import check_archive
from engine.runtimes.operators import operators_of_exported, require_operators
from engine.runtimes.torch_file import read_tensors

_PROGRAM = "models/model.json"
_EXAMPLES = "data/sample_inputs/model.pt"
_CONFIGS = {
    "data/weights/model_weights_config.json": "data/weights/",
    "data/constants/model_constants_config.json": "data/constants/",
}
_ENTRY = re.compile(
    r"data/weights/weight_\d+|data/constants/tensor_\d+|archive_format|archive_version|byteorder|version"
    r"|\.data/(version|serialization_id|alignment)|\.format_version|\.storage_alignment"
)
_NAME = re.compile(r"[\w.:+-]*", re.ASCII)
_TARGET = re.compile(
    r"torch\.ops\.(aten|prims|torchvision)\.(?!from_file\b|save\b)\w+\.\w+"
    r"|torch\.ops\.higher_order\.(cond|wrap_with_set_grad_enabled|wrap_with_autocast)"
    r"|torch\.sym_(int|float|max|min|not|sum|ite|sqrt)|math\.(ceil|floor|trunc|sqrt|pow)"
    r"|_operator\.(add|sub|mul|truediv|floordiv|mod|neg|pow|abs|ge|gt|le|lt|eq|ne|and_|or_|not_|getitem)",
    re.ASCII,
)
_FREE_TEXT = {"metadata", "torch_version", "as_string", "as_strings"}  # kept, or quoted by torch itself
_SPECS = {"in_spec", "out_spec"}
_SPEC_TYPES = {None, "builtins.tuple", "builtins.list", "builtins.dict", "collections.OrderedDict"}
_FUNCTIONS = {
    "Symbol", "Integer", "Float", "Rational", "Add", "Mul", "Mod", "Max", "Min", "FloorDiv", "CleanDiv",
    "CeilDiv", "ModularIndexing", "PythonMod", "Where", "CeilToInt", "FloorToInt", "IntTrueDiv",
    "FloatTrueDiv", "TruncToInt", "RoundToInt", "ToFloat", "Identity", "Eq", "Ne", "Gt", "Ge", "Lt", "Le",
    "And", "Or", "Not", "Equality", "Unequality", "StrictGreaterThan", "GreaterThan", "StrictLessThan",
    "LessThan",
}  # fmt: skip
_POWER, _EXPONENTS = "Pow", {f"Integer({number})" for number in range(-4, 5)}
_QUESTIONS = {"size", "stride", "storage_offset", "numel", "dim"}  # that a guard asks of a tensor
_ARITHMETIC = (
    ast.Expression, ast.Constant, ast.Load, ast.UnaryOp, ast.USub, ast.UAdd, ast.Not, ast.BinOp, ast.Add,
    ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.Compare, ast.cmpop, ast.BoolOp, ast.boolop,
    ast.Subscript, ast.Name, ast.keyword,
)  # fmt: skip


def check_pt2(file: IO[bytes]) -> None:
    """Raise `LoadError` with what is wrong unless the archive is all as the rules above say."""
    entries = _entries(file)
    for name in sorted(entries):
        if name not in {_PROGRAM, _EXAMPLES, *_CONFIGS} and not _ENTRY.fullmatch(name):
            raise LoadError(
                f"the file holds {name[:80]!r}, which may be code, and is loaded only with --allow-pickle"
            )
    file.seek(0)
    reader = torch._C.PyTorchFileReader(file)  # the very one that torch.export.load reads with
    if set(reader.get_all_records()) != entries:
        raise LoadError("the archive's list of entries is damaged")
    for config, folder in _CONFIGS.items():
        for payload in json.loads(reader.get_record(config))["config"].values():
            if payload["use_pickle"]:
                read_tensors(reader.get_record(folder + payload["path_name"]))
    if _EXAMPLES in entries and (examples := reader.get_record(_EXAMPLES)):
        read_tensors(examples)
    require_operators_of(reader)
    _check(json.loads(reader.get_record(_PROGRAM)), "")


def require_operators_of(reader: torch._C.PyTorchFileReader) -> None:
    """Raise `LoadError` where the program calls operators that this worker lacks."""
    require_operators(operators_of_exported(reader.get_record(_PROGRAM)))


def _entries(file: IO[bytes]) -> set[str]:
    """Names without the folder that all of them are in."""
    names = [entry.filename for entry in check_archive(file)]
    root = names[0].partition("/")[0] + "/"
    if len(set(names)) != len(names) or not all(name.startswith(root) for name in names):
        raise LoadError("the archive's list of entries is damaged")
    return {name.removeprefix(root) for name in names}


def _check(value: Any, key: str) -> None:
    if key in _FREE_TEXT:
        return
    if isinstance(value, dict):
        if value and key == "treespec_namedtuple_fields":
            raise _refusal(key, value)
        for name, each in value.items():
            if not _NAME.fullmatch(name):
                raise _refusal(key, name)
            _check(each, name)
    elif isinstance(value, list):
        for each in value:
            _check(each, key)
    elif isinstance(value, str):
        _check_text(value, key)


def _check_text(text: str, key: str) -> None:
    if key in {"expr_str", "guards_code"}:
        _check_arithmetic(text, key)
    elif key in _SPECS:
        _check_spec(json.loads(text)[1], key)
    elif key in {"target", "as_operator"} and "." in text and text.startswith(("torch", "math", "_operator")):
        if not _TARGET.fullmatch(text):
            raise _refusal(key, text)
    elif not _NAME.fullmatch(text):
        raise _refusal(key, text)


def _check_spec(spec: Any, key: str) -> None:
    context = spec["context"]
    names = json.loads(context) if isinstance(context, str) else context
    is_plain = names is None or (
        isinstance(names, list) and all(isinstance(name, str) and _NAME.fullmatch(name) for name in names)
    )
    if spec["type"] not in _SPEC_TYPES or not is_plain:
        raise _refusal(key, spec)
    for child in spec["children_spec"]:
        _check_spec(child, key)


def _check_arithmetic(text: str, key: str) -> None:
    """No comment, quote of another kind or line's end, with which a text is not what its tree says."""
    if len(text) > 10_000 or set(text) & set('#"\\\r\n;{}'):
        raise _refusal(key, text)
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise _refusal(key, text) from None
    if not all(map(_is_arithmetic, ast.walk(tree))):
        raise _refusal(key, text)


def _is_arithmetic(node: ast.AST) -> bool:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == _POWER:
        return _is_small_power(node)
    if isinstance(node, ast.Call):
        return (isinstance(node.func, ast.Name) and node.func.id in _FUNCTIONS) or isinstance(
            node.func, ast.Attribute
        )
    if isinstance(node, ast.Attribute):
        return node.attr in _QUESTIONS
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return _NAME.fullmatch(node.value) is not None
    if isinstance(node, ast.Name):
        return not node.id.startswith("__")
    return isinstance(node, _ARITHMETIC)


def _is_small_power(node: ast.Call) -> bool:
    """Whether a power is one of the few that lengths are raised to, and not of another power: such numbers
    would be computed as the file loads, and have as many digits as they like."""
    if len(node.args) != 2 or node.keywords:
        return False
    base, exponent = node.args
    is_nested = any(isinstance(each, ast.Name) and each.id == _POWER for each in ast.walk(base))
    return not is_nested and ast.unparse(exponent) in _EXPONENTS


def _refusal(key: str, found: object) -> LoadError:
    return LoadError(
        f"the file may ask to run code ({key}: {str(found)[:80]!r}), and is loaded only with --allow-pickle"
    )
