"""Contract: what a runtime needs is imported when it is used, and a missing library is a sentence."""

import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import pytest
import torch

import worker
from common.errors import LoadError
from engine.runtimes import formats
from engine.runtimes.formats import FORMATS
from engine.runtimes.options import LoadOptions

ROOT = Path(__file__).resolve().parents[3]
LIBRARIES = {
    "safetensors": ["safetensors"],
    "sklearn": ["sklearn", "skops"],
    "pickle": ["sklearn", "skops"],
    "onnx": ["onnxruntime"],
    "xgboost": ["xgboost"],
    "lightgbm": ["lightgbm"],
}
CODE = """
import sys
for name in {blocked!r}:
    sys.modules[name] = None
import torch
from pathlib import Path
from common.errors import LoadError
from engine.runtimes.formats import load_runtime
from engine.runtimes.options import LoadOptions
try:
    load_runtime(Path({path!r}), {kind!r}, LoadOptions(architecture={architecture!r}), torch.device("cpu"))
except LoadError as error:
    print(error)
print(sorted(name for name in {libraries!r} if sys.modules.get(name)))
"""
ALL = sorted({name for names in LIBRARIES.values() for name in names})


def in_a_process(**values: object) -> list[str]:
    code = CODE.format(libraries=ALL, **values)
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120, check=True
    )
    return run.stdout.splitlines()


def test_the_library_of_every_format_is_named_here() -> None:
    assert LIBRARIES.keys() == {kind for kind, each in FORMATS.items() if each.extra}


@pytest.mark.parametrize("kind", LIBRARIES)
def test_a_missing_library_is_a_sentence_that_names_the_extra(tmp_path: Path, kind: str) -> None:
    (tmp_path / "model").write_bytes(b"anything")
    said, imported = in_a_process(
        blocked=LIBRARIES[kind], path=str(tmp_path / "model"), kind=kind, architecture=None
    )
    needed = FORMATS[kind]
    assert said.startswith(f"{needed.title} needs {needed.packages}, which cannot be imported here (")
    assert said.endswith(f'): pip install "pipeline-inference[{needed.extra}]"')
    assert imported == "[]"


def test_a_state_dict_needs_none_of_them(tmp_path: Path, sample_of) -> None:
    (tmp_path / "model").write_bytes(sample_of("torch state_dict").data)
    assert in_a_process(blocked=ALL, path=str(tmp_path / "model"), kind=None, architecture="sample") == ["[]"]


def test_every_extra_is_in_setup_cfg_and_in_the_one_of_them_all() -> None:
    parsed = ConfigParser()
    parsed.read(ROOT / "setup.cfg")
    extras = parsed["options.extras_require"]
    for each in filter(None, {each.extra for each in FORMATS.values()}):
        assert extras[each].strip()
        assert extras[each].strip() in extras["formats"]
    assert extras["formats"].strip() in extras["test"]


def test_an_import_error_of_our_own_is_not_dressed_up_as_a_missing_extra(monkeypatch) -> None:
    def fail(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(formats.importlib, "import_module", fail)
    with pytest.raises(ImportError):
        formats.load_runtime(b"x", "torch", LoadOptions(), torch.device("cpu"))


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("torch state_dict", "a torch state_dict on cpu, rows of FP32 [2] to FP32 [1]."),
        ("linear", "a torch state_dict on cpu, rows of FP64 [12] to FP64 []."),
        ("safetensors", "a safetensors state_dict on cpu, rows of FP32 [2] to FP32 [1]."),
        (
            "torchscript",
            "a TorchScript program on cpu, rows of a shape that it does not say "
            "to a shape that it does not say.",
        ),
        ("torch.export", "a torch.export program on cpu, rows of FP32 [1, 8, 8] to FP32 [3]."),
        ("sklearn", "a scikit-learn model on cpu, rows of FP64 [4] to INT64 []."),
        ("onnx", "an ONNX model on cpu, rows of FP32 [1, 8, 8] to FP32 [3]."),
        ("xgboost ubj", "an XGBoost model on cpu, rows of FP32 [10] to FP32 []."),
        ("xgboost json", "an XGBoost model on cpu, rows of FP32 [10] to FP32 []."),
        ("lightgbm", "a LightGBM model on cpu, rows of FP64 [4] to FP64 [3]."),
    ],
)
def test_worker_check_says_what_a_file_of_any_format_is(capsys, sample_of, write, name, sentence) -> None:
    path = write(sample_of(name))
    threads = torch.get_num_threads()
    try:
        assert worker.main(["--check", str(path), "--device", "cpu"]) == 0
    finally:
        torch.set_num_threads(threads)
    assert capsys.readouterr().out == f"{path} serves: {sentence}\n"


def test_a_name_that_is_no_architecture_is_refused_with_those_there_are(sample_of) -> None:
    options = LoadOptions(architecture="resnet")
    with pytest.raises(LoadError) as raised:
        formats.load_runtime(sample_of("torch state_dict").data, "torch", options, torch.device("cpu"))
    assert str(raised.value) == (
        "the architecture 'resnet' is not known: give one of sample, linear, or module:Class"
    )
