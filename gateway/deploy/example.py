"""The request that whoever has just deployed a model can paste: a curl command by what it takes. Pure."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

LONGEST = 64  # numbers that are written out

_TEXT = "BYTES"


def example(url: str, model: str, version: Mapping[str, Any]) -> str:
    """A command that asks the model; `version` is what GET /models/{name} shows of one."""
    where = f"{url}/models/{model}/predict"
    inputs: Sequence[Mapping[str, Any]] = version["inputs"]
    if not inputs:
        return f"curl {url}/models/{model} (its file does not say what it takes: say inputs under [model])"
    row = inputs[0]["shape"][1:]
    count = math.prod(row)
    if len(inputs) == 1 and -1 not in row and inputs[0]["datatype"] != _TEXT and count <= LONGEST:
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
    return "text" if datatype == _TEXT else False if datatype == "BOOL" else 0


def _quoted(body: Mapping[str, Any]) -> str:
    return shlex.quote(json.dumps(body))
