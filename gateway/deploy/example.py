"""The request that whoever has just deployed a model can paste: a curl command by what it takes. Pure."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from common.models import DEFAULTS
from common.tensor import BYTES

LONGEST = 64  # numbers that are written out

# Of what is sent as a file: a name that is to be put in its place.
_FILES = {"image": "picture.jpg", "audio": "recording.wav"}


def example(url: str, model: Mapping[str, Any], version: Mapping[str, Any]) -> str:
    """A command that asks a model; both are what GET /models/{name} shows, of it and of one version."""
    name, settings = model["name"], version["settings"]
    kind = settings.get("input_type", DEFAULTS.input_type)
    where = f"{url}/models/{name}/{kind}"
    if kind in _FILES:
        return f"curl {where} --data-binary @{_FILES[kind]}"
    if kind == "text":
        is_pair = settings.get("text", {}).get("pair", False)
        return f"curl {where} -d {_quoted({'text': ['a text', 'and another'] if is_pair else 'a text'})}"
    if kind == "json":
        return f"curl {where} -d {_quoted({})}"
    return _of_tensors(f"{url}/models/{name}", version["inputs"])


def _of_tensors(model: str, inputs: Sequence[Mapping[str, Any]]) -> str:
    where = f"{model}/predict"
    if not inputs:
        return f"curl {model} (its file does not say what it takes: say inputs under [model])"
    row = inputs[0]["shape"][1:]
    count = math.prod(row)
    if len(inputs) == 1 and -1 not in row and inputs[0]["datatype"] != BYTES and count <= LONGEST:
        return f"curl {where} -d {_quoted({'vector': [0] * count})}"
    if sum(math.prod(_row(each)) for each in inputs) <= LONGEST:
        return f"curl {where} -d {_quoted({'inputs': [_tensor(each) for each in inputs]})}"
    parts = ", ".join(_tensor_in_python(each) for each in inputs)
    program = f'import json; print(json.dumps({{"inputs": [{parts}]}}))'
    return f"python3 -c {shlex.quote(program)} | curl {where} -d @-"


def _row(tensor: Mapping[str, Any]) -> list[int]:
    """The shape of one row; a length that is free is 4."""
    return [4 if size == -1 else size for size in tensor["shape"][1:]]


def _tensor(tensor: Mapping[str, Any]) -> dict[str, Any]:
    row = _row(tensor)
    data: list[Any] = [_element(tensor)] * math.prod(row)
    return {"name": tensor["name"], "datatype": tensor["datatype"], "shape": [1, *row], "data": data}


def _tensor_in_python(tensor: Mapping[str, Any]) -> str:
    row = _row(tensor)
    about = {"name": tensor["name"], "datatype": tensor["datatype"], "shape": [1, *row]}
    return f'{json.dumps(about)[:-1]}, "data": [{json.dumps(_element(tensor))}] * {math.prod(row)}}}'


def _element(tensor: Mapping[str, Any]) -> Any:
    datatype = tensor["datatype"]
    return "text" if datatype == BYTES else False if datatype == "BOOL" else 0


def _quoted(body: Mapping[str, Any]) -> str:
    return shlex.quote(json.dumps(body))
