"""Contract: a file that would run code, or read or write other files, does neither in any format."""

import io
import os
import pickle
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import skops.io
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from common.errors import LoadError
from engine.runtimes.formats import FORMATS, detect, load_runtime
from engine.runtimes.options import LoadOptions
from engine.server import ModelServer
from tests.engine.runtimes.evil import WritesAsItLoads, evil_files, scripted, with_weights_elsewhere
from tests.engine.runtimes.refusals import CPU, OPERATOR_ALLOWS_NOTHING, RunsCode, dumped, refused

pickles: dict[str, Callable[[Any], bytes]] = {
    "torch.save": lambda evil: dumped(torch.save, evil),
    "torch.save before 1.6": lambda evil: dumped(torch.save, evil, _use_new_zipfile_serialization=False),
    "pickle": lambda evil: pickle.dumps(evil, 2),
    "pickle of today": pickle.dumps,
    "pickle as text": lambda evil: pickle.dumps(evil, 0),
    "joblib": lambda evil: dumped(joblib.dump, evil),
    "joblib compressed": lambda evil: dumped(joblib.dump, evil, compress=3),
}


@pytest.mark.parametrize("form", pickles)
@pytest.mark.parametrize("suffix", [".pt", ".pkl", ".joblib", ".safetensors", ".onnx", ".pt2", ".txt", ""])
def test_a_pickle_that_would_run_code_does_not_whatever_it_is_called(
    planted: RunsCode, tmp_path: Path, form: str, suffix: str
) -> None:
    path = tmp_path / f"model{suffix}"
    path.write_bytes(pickles[form](planted))
    refused(path)
    assert not planted.path.exists()


@pytest.mark.parametrize("form", pickles)
@pytest.mark.parametrize("kind", FORMATS)
def test_nor_whatever_format_the_gateway_says_it_is(planted: RunsCode, form: str, kind: str) -> None:
    refused(pickles[form](planted), kind)
    assert not planted.path.exists()


@pytest.mark.parametrize(
    "suffix", [None, "", *sorted({end for each in FORMATS.values() for end in each.suffixes})]
)
def test_a_model_server_loads_no_evil_file_whatever_it_is_called(tmp_path: Path, suffix: str | None) -> None:
    marker = tmp_path / "ran"
    with ModelServer() as server:
        for name, (usual, data) in evil_files(marker).items():
            path = tmp_path / f"model{usual if suffix is None else suffix}"
            path.write_bytes(data)
            for source in (path, str(path), data):
                with pytest.raises(LoadError):
                    server.load_model(name, source)
        assert server.health_check()["models_loaded"] == 0
    assert not marker.exists()


def test_the_file_is_as_dangerous_as_it_looks_where_the_operator_allows_pickles(planted: RunsCode) -> None:
    said = refused(pickle.dumps(planted), "pickle", LoadOptions(allow_pickle=True))
    assert said == "the file holds a NoneType, which has no 'predict'"
    assert planted.path.is_dir()


def test_a_pickle_names_what_would_allow_it(sample_of) -> None:
    sample = sample_of("pickle")
    assert refused(sample.data) == (
        "the file is a pickle, which can run any code as it loads: save the model with skops, "
        "or start the worker with --allow-pickle"
    )


@pytest.mark.parametrize("entry", ["/data.pkl", "/constants.pkl"])
def test_a_pickle_inside_torchscript(planted: RunsCode, sample_of, rezipped, entry: str) -> None:
    data = rezipped(sample_of("torchscript").data, by_end={entry: pickle.dumps(planted, 2)})
    assert detect(data) == "torchscript"
    assert refused(data).startswith("the file is not TorchScript, or not all of it: ")
    assert not planted.path.exists()


def test_a_pickle_inside_torchscript_that_nothing_reads(planted: RunsCode, sample_of, rezipped) -> None:
    data = rezipped(sample_of("torchscript").data, more={"traced_inputs.pkl": pickle.dumps(planted, 2)})
    load_runtime(data, None, OPERATOR_ALLOWS_NOTHING, CPU)
    assert not planted.path.exists()


class Writes(torch.nn.Module):
    """A program that writes a file."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        torch.save(image, self.path)
        return image


class Reads(torch.nn.Module):
    """A program that answers with another file's bytes."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image + torch.from_file("/etc/passwd", False, 64, dtype=torch.uint8).sum()


@pytest.mark.parametrize(("network", "word"), [(Writes, "save"), (WritesAsItLoads, "__setstate__")])
def test_a_torchscript_program_that_writes_files(tmp_path: Path, network: Any, word: str) -> None:
    written = tmp_path / "written"
    said = refused(scripted(network(str(written))))
    assert said == (
        f"the file asks to run code that may touch files ({word}), and is loaded only with --allow-pickle"
    )
    assert not written.exists()


def test_a_torchscript_program_that_reads_files() -> None:
    assert "(from_file)" in refused(scripted(Reads()))


def test_a_torchscript_program_is_found_out_by_its_operators_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    from engine.runtimes import torch_script

    monkeypatch.setattr(torch_script, "_refuse_words", lambda *_: None)
    assert "(aten::from_file)" in refused(scripted(Reads()))


def test_a_skops_file_of_types_that_nobody_trusts(tmp_path: Path) -> None:
    pipeline = make_pipeline(FunctionTransformer(os.mkdir), LogisticRegression())
    assert refused(skops.io.dumps(pipeline)) == (
        "the file asks for types that nobody said to trust: posix.mkdir; "
        "if each of them may be made of what a file says, list them as trusted"
    )


def test_types_that_are_trusted_load() -> None:
    from sklearn.datasets import load_iris
    from sklearn.tree import DecisionTreeClassifier

    x, y = load_iris(return_X_y=True)
    data = skops.io.dumps(DecisionTreeClassifier(max_depth=2).fit(x, y))
    assert "sklearn.tree._tree.Tree" in refused(data)
    runtime = load_runtime(data, None, LoadOptions(trusted=("sklearn.tree._tree.Tree",)), CPU)
    assert runtime.run([x.copy()])[1][0].shape == (150,)


@pytest.mark.parametrize("location", ["weights", "../weights", "/etc/passwd"])
def test_an_onnx_model_whose_weights_are_another_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, location: str
) -> None:
    data = with_weights_elsewhere(location)
    folder = tmp_path / "folder"
    folder.mkdir()
    for path in (tmp_path / "weights", folder / "weights"):
        path.write_bytes(bytes(100_000))
    monkeypatch.chdir(folder)
    (folder / "model.onnx").write_bytes(data)
    for source in (folder / "model.onnx", data):
        assert refused(source, None, LoadOptions()).startswith(
            "the file is no ONNX model, or not all of it: "
        )


def test_code_is_imported_only_from_modules_that_the_operator_allows(tmp_path, monkeypatch) -> None:
    (tmp_path / "plantedmodule.py").write_text(f"import os\nos.mkdir({str(tmp_path / 'planted')!r})\n")
    monkeypatch.syspath_prepend(tmp_path)
    sentence = (
        "plantedmodule:run is code, and the module plantedmodule is not among those this worker may import: "
        "start it with --allow-code plantedmodule"
    )
    for allowed in ((), ("planted",), ("plantedmodule.*",)):
        assert refused(b"plantedmodule:run", None, LoadOptions(allow_code=allowed)) == sentence
        options = LoadOptions(architecture="plantedmodule:run", allow_code=allowed)
        assert refused(dumped(torch.save, {"x": torch.zeros(1)}), None, options) == sentence
    assert not (tmp_path / "planted").exists()
    assert refused(b"plantedmodule:run", None, LoadOptions(allow_code=("planted*",))).startswith(
        "plantedmodule:run cannot be imported: AttributeError"
    )
    assert (tmp_path / "planted").is_dir()


def test_a_compressed_bomb_in_a_torchscript_archive_is_refused_before_it_is_unpacked(sample_of) -> None:
    packed = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(sample_of("torchscript").data)) as old,
        zipfile.ZipFile(packed, "w") as new,
    ):
        for entry in old.infolist():
            is_code = entry.filename.endswith(".py")
            content = b"#" * (100 * 2**20) if is_code else old.read(entry)
            new.writestr(entry.filename, content, zipfile.ZIP_DEFLATED if is_code else zipfile.ZIP_STORED)
    assert refused(packed.getvalue()).endswith("which is more than any model does")


def test_numbers_that_are_not_finite_are_refused_in_safetensors_too(sample_of) -> None:
    import safetensors.torch

    sample = sample_of("safetensors")
    state = safetensors.torch.load(sample.data)
    state["fc1.bias"][0] = np.nan
    sample = replace(sample, data=safetensors.torch.save(state))
    assert refused(sample.data, None, LoadOptions()) == "fc1.bias holds numbers that are not finite"
