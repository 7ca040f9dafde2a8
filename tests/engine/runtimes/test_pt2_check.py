"""Contract: a .pt2 archive that would run code as torch loads it is refused before torch sees it."""

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.runtimes.formats import load_runtime
from engine.runtimes.options import LoadOptions
from engine.runtimes.pt2_check import _check_arithmetic
from tests.engine.runtimes.refusals import CPU, RunsCode, dumped, refused


@pytest.fixture
def edit_program(rezipped: Callable[..., bytes]) -> Callable[..., bytes]:
    """A .pt2 archive whose program was changed by a function of its JSON."""

    def edit(data: bytes, change: Callable[[Any], None]) -> bytes:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            (name,) = (name for name in archive.namelist() if name.endswith("models/model.json"))
            program = json.loads(archive.read(name))
        change(program)
        return rezipped(data, by_end={"models/model.json": json.dumps(program).encode()})

    return edit


@pytest.mark.parametrize("entry", ["data/sample_inputs/model.pt", "data/weights/weight_0"])
def test_a_pickle_inside_a_torch_export_program(planted: RunsCode, sample_of, rezipped, entry: str) -> None:
    data = sample_of("torch.export").data
    config = "data/weights/model_weights_config.json"
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(config))
        weights = json.loads(archive.read(name))
    for payload in weights["config"].values():
        payload["use_pickle"] = True
    changes = {entry: dumped(torch.save, planted)}
    if "weight" in entry:
        changes[config] = json.dumps(weights).encode()
    assert refused(rezipped(data, by_end=changes)).startswith("the file asks to run code (posix.mkdir)")
    assert not planted.path.exists()


@pytest.mark.parametrize(
    "entry",
    [
        "data/constants/opaque_obj_0",
        "data/constants/custom_obj_0",
        "data/weights/model.pt",
        "data/aotinductor/model/model.so",
        "models/other.json",
    ],
)
def test_an_entry_of_a_torch_export_program_that_may_be_code(sample_of, rezipped, entry: str) -> None:
    said = refused(rezipped(sample_of("torch.export").data, more={entry: b"x"}))
    assert said == f"the file holds {entry!r}, which may be code, and is loaded only with --allow-pickle"


CODE = "__import__('os').mkdir('{}')"


def evil_expression(program: Any, code: str) -> None:
    value = program["graph_module"]["graph"]["tensor_values"]["image"]
    value["sizes"][0]["as_expr"]["expr_str"] = code


def evil_guard(program: Any, code: str) -> None:
    program["guards_code"] = [code]


def evil_name(program: Any, code: str) -> None:
    program["graph_module"]["graph"]["nodes"][0]["inputs"][0]["name"] = f"x={code}, y"


def evil_argument(program: Any, code: str) -> None:
    signature = program["graph_module"]["module_call_graph"][0]["signature"]
    signature["forward_arg_names"] = [f"image={code}"]


def evil_parameter(program: Any, code: str) -> None:
    specs = program["graph_module"]["signature"]["input_specs"]
    specs[0]["parameter"]["parameter_name"] = f'x"), {code}, ("'


def evil_target(program: Any, code: str) -> None:
    program["graph_module"]["graph"]["nodes"][0]["target"] = "torch.serialization.os.mkdir"


def evil_operator(program: Any, code: str) -> None:
    program["graph_module"]["graph"]["nodes"][0]["target"] = "torch.ops.aten.from_file.default"


def evil_spec(program: Any, code: str) -> None:
    signature = program["graph_module"]["module_call_graph"][0]["signature"]
    enum = json.dumps({"__enum__": True, "fqn": "os:mkdir", "name": "x"})
    signature["in_spec"] = json.dumps(
        [1, {"type": "builtins.dict", "context": f"[{enum}]", "children_spec": []}]
    )


evil_edits = [
    evil_expression,
    evil_guard,
    evil_name,
    evil_argument,
    evil_parameter,
    evil_target,
    evil_operator,
    evil_spec,
]


@pytest.mark.parametrize("edit", evil_edits)
def test_a_torch_export_program_whose_text_is_code(
    tmp_path: Path, sample_of, edit_program, edit: Any
) -> None:
    code = CODE.format(tmp_path / "planted")
    data = edit_program(sample_of("torch.export").data, lambda program: edit(program, code))
    assert refused(data).startswith("the file may ask to run code (")
    assert not (tmp_path / "planted").exists()


def test_such_a_program_is_as_dangerous_as_it_looks(tmp_path: Path, sample_of, edit_program) -> None:
    code = CODE.format(tmp_path / "planted")
    data = edit_program(sample_of("torch.export").data, lambda program: evil_expression(program, code))
    refused(data, None, LoadOptions(allow_pickle=True))
    assert (tmp_path / "planted").is_dir()


@pytest.mark.parametrize(
    "text",
    [
        "().__class__",
        "Symbol('s0').__class__.__base__.__subclasses__()",
        "lambdify('x', 'y')",
        "size.__globals__",
        "x == 1 # ') ; import os",
        "[c for c in (1,)]",
        "(lambda: 1)()",
        "L['x'].size()[0] if exec('1') else 1",
        "f'{print()}'",
        "Pow(Integer(9), Integer(999999999))",
        "Pow(Pow(Symbol('s0'), Integer(4)), Integer(4))",
        "Pow(Integer(9), Symbol('s0'))",
        "Pow(Symbol('s0'))",
    ],
)
def test_size_expressions_and_guards_are_arithmetic_or_refused(sample_of, edit_program, text: str) -> None:
    data = edit_program(sample_of("torch.export").data, lambda program: evil_guard(program, text))
    assert refused(data).startswith("the file may ask to run code (guards_code: ")


def test_a_guard_that_is_arithmetic_is_none_of_our_business(sample_of, edit_program) -> None:
    sample = sample_of("torch.export")
    data = edit_program(sample.data, lambda program: evil_guard(program, "L['image'].size()[1] == 1"))
    load_runtime(data, None, LoadOptions(), CPU)


@pytest.mark.parametrize(
    "text", ["Pow(Symbol('s53'), Integer(2))", "Pow(Add(Symbol('s0'), Integer(1)), Integer(-1))"]
)
def test_a_length_may_be_squared(text: str) -> None:
    _check_arithmetic(text, "expr_str")
