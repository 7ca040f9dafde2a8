"""collaboration: programs that call other libraries' operators, where these are and where they are not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from common.errors import LoadError
from engine.runtimes.formats import load_runtime
from engine.runtimes.operators import operators_of_exported, operators_of_script, require_operators
from engine.runtimes.options import LoadOptions

ROOT = Path(__file__).resolve().parents[3]
SERVICE = ROOT / "tests" / "services" / "detectors.py"
LACKED = (
    "the model needs the operator torchvision::nms, which this worker lacks: install torchvision, built for"
    f" torch {torch.__version__}"
)


def run(*command: str, path: Path = ROOT) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{path}"}
    return subprocess.run(
        [sys.executable, *command], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Both programs."""
    folder = tmp_path_factory.mktemp("programs")
    made = run(str(SERVICE), str(folder))
    assert made.returncode == 0, made.stderr
    return folder


@pytest.mark.parametrize("ending", ["ts", "pt2"])
@pytest.mark.parametrize("allow_pickle", [False, True])
def test_a_program_whose_operator_is_not_here_is_refused_with_its_name(folder, ending, allow_pickle):
    options = LoadOptions(allow_pickle=allow_pickle)
    with pytest.raises(LoadError) as refused:
        load_runtime(folder / f"nms.{ending}", None, options, torch.device("cpu"))
    assert str(refused.value) == LACKED


@pytest.mark.parametrize("ending", ["ts", "pt2"])
def test_a_library_that_is_installed_is_imported_for_the_operator(folder, tmp_path, ending):
    (tmp_path / "torchvision.py").write_text(
        "from tests.services.detectors import register_nms\nregistered = register_nms()\n"
    )
    checked = run("worker.py", "--check", str(folder / f"nms.{ending}"), path=tmp_path)
    assert (checked.returncode, checked.stderr) == (0, "")
    assert " serves: " in checked.stdout


@pytest.mark.parametrize("ending", ["ts", "pt2"])
def test_a_library_that_cannot_be_imported_is_one_that_is_not_there(folder, tmp_path, ending):
    (tmp_path / "torchvision.py").write_text(
        "raise RuntimeError('operator torchvision::nms does not exist')\n"
    )
    path = folder / f"nms.{ending}"
    checked = run("worker.py", "--check", str(path), path=tmp_path)
    assert (checked.returncode, checked.stderr) == (1, f"{path} would not serve: {LACKED}\n")


def test_what_a_program_says_in_text_is_no_call():
    code = b'x = ops.shop.sell(a)\nraise "ops.shop.buy(a) \\" ops.shop.rob(a)"\ny = ops.prim.NumToTensor(1)\n'
    assert operators_of_script(code) == {"shop::sell"}
    program = (
        b'{"target": "torch.ops.shop.sell.default", "target": "torch.ops.aten.add.Tensor",'
        b' "stack_trace": "\\"target\\": \\"torch.ops.shop.buy.x\\""}'
    )
    assert operators_of_exported(program) == {"shop::sell"}


def test_every_operator_that_is_missing_is_named_and_none_that_is_here():
    with pytest.raises(LoadError) as refused:
        require_operators({"shop::sell", "aten::add", "quantized::linear", "shop::buy"})
    assert (
        str(refused.value) == "the model needs the operators shop::buy, shop::sell, which this worker lacks"
    )
    require_operators({"aten::add", "quantized::linear"})
